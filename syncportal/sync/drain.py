"""The drain: claims due jobs, sends them from bounded threads, writes the outcomes back in batches.

Several drains on several machines may run at once; a job is claimed exactly once. All database work
stays on the drain's own thread with its one connection. A task ends within its budget: attempts
that would start too late are handed back, and the doorbell is rung for what is left.
"""

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import structlog
from django.conf import settings
from django.db import DatabaseError, connection

from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote import limits
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import attempt_lines, events
from syncportal.sync.claims import Outcome
from syncportal.sync.events import Fact, Kind
from syncportal.sync.finished import Finished
from syncportal.sync.lane import Budget, Lane
from syncportal.sync.models import SyncJob
from syncportal.sync.settle import settle

log = structlog.get_logger(__name__)

POLL_S = 0.05
BATCH_WAIT_S = 0.1
LOOK_S = 0.25


@dataclass(slots=True)
class DrainReport:
    """What a drain did: attempts settled, by verb, and whether due work was left behind."""

    settled: int = 0
    by_verb: dict[str, int] = field(default_factory=dict)
    left_over: bool = False


def default_budget(*, task_s: float | None) -> Budget:
    """Return the budget that the time chain of the settings allows."""
    return Budget(call_s=settings.CALL_TOTAL_S, lease_s=settings.LEASE_S, task_s=task_s)


def due_remotes(now: datetime) -> list[int]:
    """Return the remotes that may be called and have due work, and those whose open breaker is due to be probed.

    The probe must not wait for a job: undos, groups, pulls and refreshes wait behind the same breaker.
    """
    blocks = limits.blocked(now)
    probes = {remote_id for remote_id, block in blocks.items() if block.until is not None and block.until <= now}
    rows = SyncJob.objects.due(now).order_by("remote_id").values_list("remote_id", flat=True).distinct()
    due = [remote_id for remote_id in rows if remote_id not in blocks or remote_id in probes]
    if probes - set(due):
        idle = Resource.objects.filter(remote_id__in=probes.difference(due)).order_by("remote_id")
        due += idle.values_list("remote_id", flat=True).distinct()
    return due


def drain(
    *,
    budget: Budget | None = None,
    clock: Callable[[], datetime] = db_now,
    record_ids: list[int] | None = None,
    keep_going: Callable[[], bool] = lambda: True,
) -> DrainReport:
    """Push everything that is due and return when nothing is left, or when the budget is used up.

    record_ids: only these. keep_going: asked before new claims; False ends the drain early.
    """
    assert_outside_transaction()
    return _Drain(budget or default_budget(task_s=None), clock, record_ids, keep_going).run()


class _Drain:
    """One run over all remotes that have due work."""

    def __init__(
        self,
        budget: Budget,
        clock: Callable[[], datetime],
        record_ids: list[int] | None,
        keep_going: Callable[[], bool],
    ) -> None:
        self.budget, self.clock, self.record_ids, self.keep_going = budget, clock, record_ids, keep_going
        self.holder = uuid.uuid4().hex
        self.stop_at = budget.last_start(time.monotonic())
        self.lanes: dict[int, Lane] = {}
        self.finished: Finished[tuple[Lane, Outcome]] = Finished()
        self.looked_at = 0.0
        self.report = DrainReport()

    def run(self) -> DrainReport:
        """Loop until no lane has anything under way and none finds more to claim."""
        batches: list[tuple[Lane, list[Outcome]]] = []
        try:
            while True:
                if any(outcome.error_kind for _, outcomes in batches for outcome in outcomes):
                    self._write_back_all(batches)  # what it says to the breaker comes before new claims
                    batches = []
                now = self.clock()
                claimed = self._claim(now) if self._starting() else self._give_back_slots(now)
                self._write_back_all(batches)
                if not self._under_way() and not claimed and not batches:
                    if not self._waits_for_tokens():
                        break
                    time.sleep(POLL_S)
                batches = self._collect()
            self.report.left_over = not self._starting() and bool(due_remotes(self.clock()))
            return self.report
        finally:
            for lane in self.lanes.values():
                lane.close()

    def _starting(self) -> bool:
        return time.monotonic() < self.stop_at and self.keep_going()

    def _under_way(self) -> bool:
        return any(lane.running or lane.probe for lane in self.lanes.values())

    def _waits_for_tokens(self) -> bool:
        """Tell whether a rate limit alone keeps due work from starting."""
        paced = [remote_id for remote_id, lane in self.lanes.items() if lane.waits_for_tokens]
        return bool(paced) and self._starting() and not set(paced).isdisjoint(due_remotes(self.clock()))

    def _claim(self, now: datetime) -> int:
        """Let every remote with due work claim its share; return how many jobs were claimed or probes begun."""
        self._open_lanes(now)
        begun = 0
        for lane in self.lanes.values():
            if lane.finish_probe(now):
                self._say(Kind.BREAKER_CLOSED, lane, now)
            if lane.probe is None:
                lane.prepare(now)
            begun += lane.claim(now, record_ids=self.record_ids) + (lane.probe is not None)
        return begun

    def _open_lanes(self, now: datetime) -> None:
        """Look for remotes with due work: now and then while there is work under way, else every time."""
        if self._under_way() and time.monotonic() - self.looked_at < LOOK_S:
            return
        for remote_id in due_remotes(now):
            if remote_id not in self.lanes:
                self.lanes[remote_id] = self._lane(remote_id)
        self.looked_at = time.monotonic()

    def _give_back_slots(self, now: datetime) -> int:
        """Keep only the slots of attempts under way, so that another drain can start its own; claims nothing."""
        for lane in self.lanes.values():
            if lane.running:
                lane.prepare(now)
        return 0

    def _lane(self, remote_id: int) -> Lane:
        resources = Resource.objects.select_related("remote").filter(remote_id=remote_id)
        by_id = {resource.pk: resource for resource in resources}
        remote = spec_for(next(iter(by_id.values()))).remote
        return Lane(remote, by_id, self.holder, self.budget, self.clock, self.stop_at, self.finished)

    def _collect(self) -> list[tuple[Lane, list[Outcome]]]:
        """Wait a moment for a batch of finished attempts and take them off their lanes.

        The next claim fills their places before they are stored.
        """
        under_way = sum(lane.running for lane in self.lanes.values())
        # While this many come back, the threads use up most of what was claimed ahead for them.
        spare = sum(len(lane.ready) for lane in self.lanes.values()) * 3 // 4
        taken = self.finished.take(first_s=POLL_S, batch=spare or under_way, batch_s=BATCH_WAIT_S)
        batches = []
        for lane in self.lanes.values():
            outcomes = [outcome for origin, outcome in taken if origin is lane]
            lane.collected(len(outcomes))
            if outcomes:
                batches.append((lane, outcomes))
        return batches

    def _write_back_all(self, batches: Iterable[tuple[Lane, list[Outcome]]]) -> None:
        for lane, outcomes in batches:
            self._write_back(lane, outcomes)

    def _now_again(self) -> datetime:
        """Read the time, over a new connection if the old one was severed: what came back must still be stored."""
        try:
            return self.clock()
        except DatabaseError:
            connection.close()
            return self.clock()

    def _write_back(self, lane: Lane, outcomes: list[Outcome]) -> None:
        """Store a batch; if the database refuses it, store what can be stored one by one."""
        now = self._now_again()
        outcomes = [lane.uncounted(outcome, now) for outcome in outcomes]
        lane.charge(outcomes)
        specs = {resource_id: spec_for(resource) for resource_id, resource in lane.resources.items()}
        try:
            atomic_retry(partial(settle, outcomes, specs=specs, now=now))
        except DatabaseError:
            log.exception("settle.batch_refused", remote=lane.remote.slug, outcomes=len(outcomes))
            connection.close()  # it may have been severed; what was sent must not wait for its lease to end
            for outcome in outcomes:
                try:
                    atomic_retry(partial(settle, [outcome], specs=specs, now=now))
                except DatabaseError:
                    log.exception("settle.refused", record_id=outcome.claim.record_id)
        for outcome in outcomes:
            self.report.settled += 1
            name = outcome.verb.name
            self.report.by_verb[name] = self.report.by_verb.get(name, 0) + 1
        attempt_lines.tell(outcomes, remote=lane.remote.slug)
        self._tell_remote(lane, outcomes, now)

    def _tell_remote(self, lane: Lane, outcomes: list[Outcome], now: datetime) -> None:
        """Move the breaker and pause a remote that refuses our credential: one event each."""
        if lane.report(outcomes, now) == "opened":
            lane.blocked = True
            self._say(Kind.BREAKER_OPENED, lane, now)
        refused = next((outcome for outcome in outcomes if outcome.pause), None)
        if refused is not None:
            lane.blocked = True
            if limits.pause(lane.remote.remote_id, reason="unauthorized", detail=refused.detail, now=now):
                self._say(Kind.REMOTE_PAUSED, lane, now, detail=refused.detail)

    def _say(self, kind: Kind, lane: Lane, now: datetime, **data: str) -> None:
        events.write([Fact(kind, remote_id=lane.remote.remote_id, data={"remote": lane.remote.slug, **data})], now=now)
