"""What the supervisor does at each tick, and all of it at once for `runworker --once`.

Guarantees: work that is due is rung for within half a second, without django-q2's schedules; a database that is away
costs one log line, not the supervisor. Does not: push, pull or read anything itself, except in `work_off`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import structlog
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections, connection

from reconciliation import fixing
from reconciliation import workers as reconciliations
from rollback import workers as compensations
from syncportal.bulk import workers as bulk
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.ops import duties, heartbeat, schedules
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState
from syncportal.ops.supervisor import PoolNews
from syncportal.sync import drain, pull, refresh, sweep

log = structlog.get_logger(__name__)

BEAT_EVERY_S = 5.0
SCHEDULES_EVERY_S = 10.0
OVERDUE_EVERY_S = 10.0
RECONCILIATIONS_EVERY_S = 5.0
PULL_SLICE_S = 10.0
COMPENSATE_S = 60.0
_ENDING = (WorkerState.STOPPING, WorkerState.STOPPED)


@dataclass(slots=True)
class Ticker:
    """One supervisor's tick: rings, beats, keeps the timetable in order."""

    host: str
    pid: int
    info: Mapping[str, object] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    reachable: bool = True
    _last: dict[str, float] = field(default_factory=dict)
    _told: WorkerState | None = None

    def tick(self, news: PoolNews) -> None:
        """Do what is due; never raises for a database that is away."""
        try:
            self._tick(news)
        except DatabaseTrouble as trouble:
            if self.reachable:
                log.error("database.unreachable", error=type(trouble).__name__, detail=str(trouble).strip()[:200])
            self.reachable = False
            connection.close()
            return
        if not self.reachable:
            log.info("database.reachable_again")
        self.reachable = True

    def _tick(self, news: PoolNews) -> None:
        close_old_connections()
        if news.state != self._told or self._due("beat", BEAT_EVERY_S):
            self._beat(news)
        if news.state in _ENDING:
            return
        now = db_now()
        sweep.ring_for_due(now)
        compensations.ring_for_due(now)
        bulk.ring_for_due(now)
        if self._due("reconciliations", RECONCILIATIONS_EVERY_S):
            reconciliations.ring_for_due(now)
        if self._due("schedules", SCHEDULES_EVERY_S):
            schedules.ensure(now=now)
        if self._due("overdue", OVERDUE_EVERY_S):
            for name in duties.overdue(now):
                doorbell.ring(duties.RUN, name)

    def _beat(self, news: PoolNews) -> None:
        told = Beat(self.host, self.pid, news.state, news.canary_age_s, news.restarts, self.info)
        now = db_now()
        if self._told is None:
            heartbeat.forget_old(now=now)
        heartbeat.beat(told, now=now)
        self._told = news.state
        self._last["beat"] = self.clock()

    def _due(self, what: str, every_s: float) -> bool:
        """Tell whether something's time has come, and note that it is done now."""
        last = self._last.get(what)
        if last is not None and self.clock() - last < every_s:
            return False
        self._last[what] = self.clock()
        return True


@dataclass(slots=True)
class WorkedOff:
    """What `work_off` did."""

    pushed: int = 0
    refreshed: int = 0
    pull_slices: int = 0
    compensated: int = 0
    reconciled_slices: int = 0
    repaired: int = 0
    failed: list[str] = field(default_factory=list)


def work_off(*, keep_going: Callable[[], bool] = lambda: True) -> WorkedOff:
    """Do everything that is due now, here, without a pool; return when nothing is left or nothing moves any more."""
    done = WorkedOff()
    _guarded(done, "sweep", partial(duties.run_now, "sweep"))
    moved = True
    while moved and keep_going():
        compensated = _guarded(done, "compensate", lambda: compensations.work(seconds=COMPENSATE_S))
        pushed = _guarded(done, "drain", lambda: drain.drain(keep_going=keep_going).settled)
        refreshed = _guarded(done, "refresh", refresh.refresh_requested)
        slices = _guarded(done, "pull", lambda: pull.run_waiting(seconds=PULL_SLICE_S))
        more = _guarded(done, "bulk", lambda: bulk.run_waiting(seconds=PULL_SLICE_S))
        compared = _guarded(done, "reconcile", lambda: reconciliations.run_waiting(seconds=PULL_SLICE_S))
        repaired = _guarded(done, "repair", lambda: fixing.work_off(seconds=PULL_SLICE_S))
        done.reconciled_slices += compared
        done.repaired += repaired
        done.pushed += pushed
        done.refreshed += refreshed
        done.pull_slices += slices
        done.compensated += compensated
        moved = bool(pushed or refreshed or slices or compensated or more or compared or repaired)
    for name in ("seal", "summaries", "alerts", "conflicts"):
        _guarded(done, name, partial(duties.run_now, name))
    return done


def _guarded(done: WorkedOff, name: str, work: Callable[[], int | str | None]) -> int:
    """Run one kind of work; what breaks it is logged, is not tried again, and does not keep the others from running."""
    if name in done.failed:
        return 0
    try:
        result = work()
    except Exception:
        log.exception("work.failed", work=name)
        done.failed.append(name)
        return 0
    return result if isinstance(result, int) else 0
