"""One remote's share of a drain: its slots, its threads, its claims under way.

Threads do HTTP only; every database call here runs on the drain's own thread.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Lock

import structlog
from django.db import DatabaseError, connection

from syncportal.kernel import correlation
from syncportal.remote import auth, limits
from syncportal.remote.client import Deadline
from syncportal.remote.errors import ErrorKind, Misconfiguration, RemoteError, Throttled
from syncportal.remote.gateway import ResourceClient, client_for
from syncportal.remote.limits import CallResult
from syncportal.remote.models import Resource
from syncportal.remote.spec import RemoteSpec
from syncportal.sync import executor, states, transitions
from syncportal.sync.claims import Claim, Outcome
from syncportal.sync.finished import Finished
from syncportal.sync.settle import HANDED_BACK, MISCONFIGURED

log = structlog.get_logger(__name__)

Caller = ResourceClient | Misconfiguration | RemoteError
"""A resource's client, or why there is none: nothing to sign in with, or a sign-in that failed."""

LEASE_LEFT_S = 30.0
RENEW_S = 1.0
RATE_PAUSE_S = 0.1
YIELD_S = 0.1
SLOT_TTL_S = 30.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The seconds that bound a drain: one call, one claim, and the whole task (None: no end)."""

    call_s: float
    lease_s: float
    task_s: float | None

    def last_start(self, started: float) -> float:
        """Return the monotonic time after which no attempt starts any more."""
        return started + self.task_s - self.call_s if self.task_s is not None else float("inf")


@dataclass(slots=True)
class Lane:
    """Claims and sends for one remote until told to stop."""

    remote: RemoteSpec
    resources: Mapping[int, Resource]
    holder: str
    budget: Budget
    clock: Callable[[], datetime]
    stop_at: float
    finished: "Finished[tuple[Lane, Outcome]]"
    slots: int = 0
    undivided: int = 0
    tokens: int = 0
    blocked: bool = False
    running: int = 0
    waiting: int = 0
    pool: ThreadPoolExecutor | None = None
    ready: deque[tuple[Claim, Caller, float]] = field(default_factory=deque)
    active: int = 0
    lock: Lock = field(default_factory=Lock)
    renewed_at: float = 0.0
    reported_at: float = 0.0
    clients: dict[int, Caller] = field(default_factory=dict)
    probe: Future | None = None

    @property
    def starting(self) -> bool:
        """Tell whether new attempts may still begin."""
        return not self.blocked and time.monotonic() < self.stop_at

    @property
    def waits_for_tokens(self) -> bool:
        """Tell whether only the rate limit keeps this lane from starting more."""
        return self.starting and self.slots > 0 and self.tokens <= 0

    def prepare(self, now: datetime) -> None:
        """Lease slots and tokens for about the next second; look at the breaker."""
        pause_s = RATE_PAUSE_S if self.waits_for_tokens else YIELD_S if self.waiting else RENEW_S
        if time.monotonic() - self.renewed_at < pause_s and self.slots:
            return
        cap = self.remote.limits.concurrency
        room = self._room(cap)
        grant = limits.lease(
            self.remote.remote_id,
            holder=self.holder,
            want=max(self.active, room) if self.starting else max(1, self.running),
            cap=cap,
            per_second=self.remote.limits.per_second,
            now=now,
            ttl_s=SLOT_TTL_S,
            unspent=self._unspent,
        )
        self.renewed_at = time.monotonic()
        self.waiting = grant.waiting
        self.undivided = self.undivided if grant.waiting else grant.slots
        # Fewer calls first, and a smaller lease when they have ended: no slot is given away that is still in use.
        self.slots, self.tokens = min(grant.slots, self._room(cap)), grant.tokens
        self.blocked = bool(grant.blocked) and grant.blocked != "rate"
        if self.slots == 0 or not self.starting:
            self._hand_back(now)
        if self.pool is None:
            self.pool = ThreadPoolExecutor(cap, thread_name_prefix=f"push-{self.remote.slug}")
        remote = self.remote
        if grant.blocked == "breaker_open" and limits.try_probe(
            remote.remote_id, holder=self.holder, now=now, breaker=remote.breaker
        ):
            self._start_probe()

    @property
    def _unspent(self) -> int:
        """Return the tokens left of the last grant; below zero, those of calls beyond it."""
        return self.tokens if self.remote.limits.per_second else 0

    def _room(self, cap: int) -> int:
        """Return the slots to use: all, or those held when nobody waited, less one for each who waits, half at most."""
        most = self.undivided or cap
        return most - min(self.waiting, max(1, most // 2)) if self.waiting else cap

    def _hand_back(self, now: datetime) -> None:
        """Give claims that have not started back unsent: there is no slot, or no time, for them any more."""
        with self.lock:
            waiting, self.ready = list(self.ready), deque()
        for claim, _, _ in waiting:
            unsent = Outcome(claim, states.POSTPONE, reason=HANDED_BACK, sends=claim.sends, due_at=now)
            self.finished.put((self, unsent))

    def _start_probe(self) -> None:
        """Ask the remote one harmless question; its answer decides whether the breaker closes."""
        client = self._client(next(iter(self.resources)))
        if self.pool is not None and not isinstance(client, Misconfiguration):
            self.probe = self.pool.submit(_ask, client, self._call_s)

    def finish_probe(self, now: datetime) -> bool | None:
        """Report a finished probe to the breaker; None while there is nothing to report."""
        if self.probe is None or not self.probe.done():
            return None
        healthy, self.probe = self.probe.result(), None
        limits.probe_result(self.remote.remote_id, holder=self.holder, ok=healthy, breaker=self.remote.breaker, now=now)
        self.blocked, self.renewed_at, self.slots = not healthy, 0.0, 0
        return healthy

    def claim(self, now: datetime, *, record_ids: list[int] | None = None) -> int:
        """Claim as many jobs as slots and tokens allow, and as many ahead as there are slots; return how many."""
        room = min(2 * self.slots - self.running, self.tokens)
        if room <= 0 or not self.starting or self.pool is None:
            return 0
        claims = transitions.claim_many(
            self.remote.remote_id,
            limit=room,
            holder=self.holder,
            now=now,
            lease_s=self.budget.lease_s,
            record_ids=record_ids,
        )
        self.tokens -= len(claims)
        self.running += len(claims)
        claimed = time.monotonic()
        waiting = [(claim, self._client(claim.resource_id), claimed) for claim in claims]
        with self.lock:
            self.ready.extend(waiting)
            for _ in range(min(len(self.ready), self.slots - self.active)):
                self.active += 1
                self.pool.submit(self._work)
        return len(claims)

    def collected(self, count: int) -> None:
        """Note that so many attempts came back in this round."""
        self.running -= count

    @property
    def _call_s(self) -> float:
        """Return the total time of one attempt's calls: the remote's own limit, never more than the chain allows."""
        return min(self.budget.call_s, self.remote.limits.total_timeout_s)

    def _work(self) -> None:
        """Run in a pool thread: one attempt after the other, until none is ready or the slots became fewer."""
        while (waiting := self._next()) is not None:
            self.finished.put((self, self._attempt(*waiting)))

    def _next(self) -> tuple[Claim, Caller, float] | None:
        with self.lock:
            if self.ready and self.active <= self.slots:
                return self.ready.popleft()
            self.active -= 1
            return None

    def _client(self, resource_id: int) -> Caller:
        """Return the resource's client, or why there is none; asked once a drain."""
        known = self.clients.get(resource_id)
        if known is None:
            try:
                known = client_for(self.resources[resource_id])
            except (Misconfiguration, RemoteError) as problem:
                known = problem
            self.clients[resource_id] = known
        return known

    def _attempt(self, claim: Claim, client: Caller, claimed: float) -> Outcome:
        """Run in a pool thread: HTTP only. Whatever goes wrong becomes an outcome."""
        if isinstance(client, RemoteError):
            return _not_signed_in(claim, client)
        if isinstance(client, Misconfiguration):
            return Outcome(
                claim, states.FAIL, reason=MISCONFIGURED, detail=client.detail, error_kind="misconfigured",
                error_code="misconfigured", sends=claim.sends,
            )  # fmt: skip
        waited = time.monotonic() - claimed
        now = claim.current.sent_at + timedelta(seconds=waited)
        if self.blocked or time.monotonic() >= self.stop_at or self.budget.lease_s - waited < LEASE_LEFT_S:
            return Outcome(claim, states.POSTPONE, reason=HANDED_BACK, sends=claim.sends, due_at=now)
        with correlation.correlated(claim.correlation_id):
            try:
                return executor.attempt(claim, client, deadline=Deadline(self._call_s), now=now)
            except Exception as error:
                log.exception("attempt.crashed", record_id=claim.record_id, claim_no=claim.claim_no)
                return _crashed(claim, error, policy_delays=client.spec.policy.delays_s, now=now)

    def uncounted(self, outcome: Outcome, now: datetime) -> Outcome:
        """Return the outcome as it counts: a failure that arrives when the breaker is open already is no attempt."""
        if self.blocked and outcome.verb in {states.RETRY_LATER, states.GIVE_UP}:
            return replace(outcome, verb=states.POSTPONE, due_at=now)
        return outcome

    def charge(self, outcomes: list[Outcome]) -> None:
        """Pay for the exchanges beyond the first of each attempt: the rate limit counts calls, not claims."""
        if self.remote.limits.per_second:
            self.tokens -= sum(max(0, len(outcome.exchanges) - 1) for outcome in outcomes)

    def report(self, outcomes: list[Outcome], now: datetime) -> limits.BreakerChange | None:
        """Tell the breaker how the calls went; that all is well is told about once a second."""
        troubled = any(outcome.error_kind for outcome in outcomes)
        if not troubled and time.monotonic() - self.reported_at < RENEW_S:
            return None
        self.reported_at = time.monotonic()
        results = [
            CallResult(
                kind=ErrorKind(o.error_kind) if o.error_kind in _KINDS else None,
                record_id=o.claim.record_id,
                code=o.error_code,
            )
            for o in outcomes
            if o.exchanges or o.error_kind in _KINDS
        ]
        return limits.report(self.remote.remote_id, results, breaker=self.remote.breaker, now=now) if results else None

    def close(self) -> None:
        """Give the slots back, and share a token that was renewed on the way."""
        if self.pool is not None:
            self.pool.shutdown(wait=True)
        give_back = partial(limits.release, self.holder, remote_id=self.remote.remote_id, unspent=self._unspent)
        try:
            give_back()
        except DatabaseError:
            # A severed connection is the likeliest reason to be here early; others should not wait for the lease's end.
            connection.close()
            give_back()
        for resource_id, client in self.clients.items():
            if isinstance(client, ResourceClient):
                auth.store(self.resources[resource_id].remote, client.credentials)


_KINDS = frozenset(kind.value for kind in ErrorKind)


def _ask(client: ResourceClient | RemoteError, seconds: float) -> bool:
    if isinstance(client, RemoteError):
        return not client.transient
    try:
        client.check(deadline=Deadline(seconds))
    except RemoteError as error:
        return not error.transient
    return True


def _not_signed_in(claim: Claim, error: RemoteError) -> Outcome:
    """Wait for the sign-in that every call needs; one that is refused for good pauses the remote."""
    return Outcome(
        claim, states.POSTPONE, reason="not_signed_in", detail=f"Signing in at the remote failed: {error.detail}",
        error_kind=str(error.kind), error_code=error.code, sends=claim.sends,
        pause=not error.transient and not isinstance(error, Throttled),
        due_at=claim.current.sent_at + timedelta(seconds=executor.POSTPONE_S),
    )  # fmt: skip


def _crashed(claim: Claim, error: Exception, *, policy_delays: tuple[float, ...], now: datetime) -> Outcome:
    """Count an attempt that our own code broke; a job that keeps doing so ends as a dead letter."""
    last = claim.attempt > len(policy_delays)
    delay = 0.0 if last else policy_delays[claim.attempt - 1]
    return Outcome(
        claim,
        states.GIVE_UP if last else states.RETRY_LATER,
        reason="poison" if last else "internal_error",
        detail=f"The attempt broke off inside SyncPortal ({type(error).__name__}); the log has the trace.",
        error_kind="internal",
        error_code="internal_error",
        sends=(*claim.sends, claim.current),
        due_at=None if last else now + timedelta(seconds=delay),
    )
