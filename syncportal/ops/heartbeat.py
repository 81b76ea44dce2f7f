"""Heartbeats: who works, seen by everybody. The only writer of Heartbeat.

Guarantees: "alive" is judged by the database's time alone, so that "no worker is running" is seen when none is.
Does not: decide what follows from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from syncportal.ops.models import Heartbeat, WorkerState

FRESH = timedelta(seconds=30)
KEPT = timedelta(days=1)
_GONE = (WorkerState.STOPPED,)


@dataclass(frozen=True, slots=True)
class Worker:
    """A supervisor as its heartbeat tells. canary_at: when its pool last took a task."""

    name: str
    seen_at: datetime
    alive: bool
    state: str = ""
    canary_at: datetime | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """What a supervisor tells. canary_age_s: seconds since its pool last took a task, None for never."""

    host: str
    pid: int
    state: WorkerState
    canary_age_s: float | None = None
    restarts: int = 0
    info: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the process's name among all hosts."""
        return f"{self.host}:{self.pid}"


def beat(told: Beat, *, now: datetime) -> None:
    """Write one heartbeat: one statement, two for the first of a process."""
    age = told.canary_age_s
    values = {
        "host": told.host,
        "pid": told.pid,
        "state": told.state,
        "beat_at": now,
        "canary_at": None if age is None else now - timedelta(seconds=age),
        "restarts": told.restarts,
        "info": dict(told.info),
    }
    if told.state == WorkerState.STARTING:
        values["started_at"] = now
    if not Heartbeat.objects.filter(pk=told.name).update(**values):
        first = Heartbeat(name=told.name, **{"started_at": now, **values})
        Heartbeat.objects.bulk_create([first], ignore_conflicts=True)


def forget_old(*, now: datetime) -> int:
    """Remove supervisors that have been silent for a day; return how many."""
    return Heartbeat.objects.filter(beat_at__lt=now - KEPT).delete()[0]


def alive(now: datetime) -> bool:
    """Tell whether any supervisor beats."""
    near = Heartbeat.objects.filter(beat_at__gt=now - FRESH, beat_at__lt=now + FRESH)
    return near.exclude(state__in=_GONE).exists()


def seen(now: datetime) -> tuple[Worker, ...]:
    """Return the supervisors of the last day, those that beat first; one that ended cleanly counts as not alive."""
    rows = Heartbeat.objects.filter(beat_at__gt=now - KEPT)
    workers = [
        Worker(row.name, row.beat_at, beats(row, now), row.get_state_display(), row.canary_at, row.restarts)
        for row in rows
    ]
    return tuple(sorted(workers, key=lambda worker: (not worker.alive, worker.name)))


def beats(row: Heartbeat, now: datetime) -> bool:
    """Tell whether a supervisor is there and has not said that it ended; a beat to come is one of a clock set back."""
    return row.state not in _GONE and abs(now - row.beat_at) < FRESH
