"""A slice's share of the remote's limits: slots and rate tokens, the same that pushes, pulls and groups use.

Guarantees: no call starts without a token where the remote has a rate; waiting ends by itself;
requests beyond the calls granted (rows of stubs, repeated reads) are paid before the next, tokens left are given back;
at the end the breaker hears how the calls went, and a remote that refuses our credential is paused.
Does not: call anything.
"""

import time
import uuid
from types import TracebackType
from typing import Self

from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.errors import RemoteError
from syncportal.remote.spec import RemoteSpec
from syncportal.sync import call_reports
from syncportal.sync.call_reports import Called
from syncportal.sync.slots import Counting, NoSlot

TTL_S = 60.0
RENEW_S = 15.0
WAIT_S = 5.0
POLL_S = 0.1
_REASONS = {
    limits.PAUSED: "The remote is paused: resume it and the run goes on.",
    limits.BREAKER_OPEN: "The remote does not answer, its breaker is open: the run goes on when it answers again.",
}
_LIMITED = "The remote's rate limit allows no further call yet; the run goes on when it does."
_TAKEN = "All of the remote's slots are in use; the run goes on when some are free."


class Pace:
    """Leases up to `want` slots for a block; raises NoSlot where the remote may not be called now."""

    def __init__(self, remote: RemoteSpec, client: Counting, *, want: int) -> None:
        self._remote = remote
        self._want = max(1, min(want, remote.limits.concurrency))
        self._holder = uuid.uuid4().hex
        self._tokens = 0
        self._leased_at = 0.0
        self._client = client
        self._paid = client.sent
        self._heard: list[Called] = []
        self.slots = 0

    def __enter__(self) -> Self:
        try:
            self._wait(want=self._want)
        except NoSlot:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        call_reports.report(self._heard, now=db_now())

    def heard(self, error: RemoteError | None, *, record_id: int | None = None) -> None:
        """Note how a call ended, None for well; the remote's breaker is told at the end of the block."""
        kind, detail = (error.kind.value, error.detail) if error is not None else ("", "")
        self._heard.append(Called(self._remote, record_id, kind, detail))

    def _release(self) -> None:
        """Give back slots and tokens: also those of calls that were granted and not sent."""
        self._tokens += self._paid - self._client.sent
        limits.release(self._holder, remote_id=self._remote.remote_id, unspent=self._unspent)

    @property
    def _unspent(self) -> int:
        return self._tokens if self._remote.limits.per_second else 0

    def widen(self, want: int) -> None:
        """Ask for another number of slots from now on."""
        wanted = max(1, min(want, self._remote.limits.concurrency))
        if wanted != self._want:
            self._want = wanted
            self._wait(want=wanted)

    def calls(self, wish: int) -> int:
        """Return how many calls may start now, at least one and at most `wish`; waits a little for a token."""
        beyond = max(0, self._client.sent - self._paid)
        self._paid += beyond
        self._tokens -= beyond
        if self._tokens < 1 or time.monotonic() - self._leased_at > RENEW_S:
            self._wait(want=self._want)
        granted = min(wish, self._tokens)
        self._tokens -= granted
        self._paid += granted
        return granted

    def _wait(self, *, want: int) -> None:
        give_up = time.monotonic() + WAIT_S
        while True:
            unspent, self._tokens = self._unspent, 0
            grant = limits.lease(
                self._remote.remote_id, holder=self._holder, want=want, cap=self._remote.limits.concurrency,
                per_second=self._remote.limits.per_second, now=db_now(), ttl_s=TTL_S, unspent=unspent,
            )  # fmt: skip
            if grant.blocked in _REASONS:
                raise NoSlot(_REASONS[grant.blocked])
            self.slots, self._tokens, self._leased_at = grant.slots, grant.tokens, time.monotonic()
            if grant.slots and grant.tokens:
                return
            if time.monotonic() >= give_up:
                raise NoSlot(_LIMITED if grant.blocked == limits.RATE else _TAKEN)
            time.sleep(POLL_S)
