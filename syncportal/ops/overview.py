"""Where everything stands, for the terminal: counts per status, oldest due job, workers, breakers.

Owns: `read`, one frozen answer from a handful of queries, and its two forms, a table and JSON. Does not: judge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Min

from syncportal.ops.heartbeat import seen
from syncportal.ops.models import Duty, Heartbeat
from syncportal.remote import limits
from syncportal.remote.models import Remote
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.states import Status

CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One supervisor of the last day."""

    name: str
    state: str
    alive: bool
    beat_age_s: float
    canary_age_s: float | None
    restarts: int


@dataclass(frozen=True, slots=True)
class RemoteLine:
    """One remote: closed, breaker_open or paused, and until when."""

    slug: str
    state: str
    until: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class DutyLine:
    """One line of the timetable."""

    name: str
    started_at: datetime | None
    ok: bool
    result: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything `sync_status` shows."""

    taken_at: datetime
    counts: dict[str, int]
    in_doubt: int
    open_conflicts: int
    due: int
    oldest_due_at: datetime | None
    oldest_due_s: float
    next_due_at: datetime | None
    workers: tuple[WorkerLine, ...]
    remotes: tuple[RemoteLine, ...]
    duties: tuple[DutyLine, ...]


def read(*, now: datetime) -> Overview:
    """Read it all at `now`, the database's time."""
    jobs = SyncJob.objects.filter(record__deleted_at__isnull=True)
    found = dict(jobs.order_by().values_list("status").annotate(number=Count("pk")))
    oldest = jobs.due(now).aggregate(at=Min("due_at"), number=Count("pk"))
    later = jobs.claimable().filter(due_at__gt=now).aggregate(at=Min("due_at"))["at"]
    return Overview(
        taken_at=now,
        counts={status.value: found.get(status.value, 0) for status in Status},
        in_doubt=jobs.filter(in_doubt=True).count(),
        open_conflicts=Conflict.objects.open().count(),
        due=oldest["number"],
        oldest_due_at=oldest["at"],
        oldest_due_s=round((now - oldest["at"]).total_seconds(), 1) if oldest["at"] else 0.0,
        next_due_at=later,
        workers=tuple(_workers(now)),
        remotes=tuple(_remotes(now)),
        duties=tuple(
            DutyLine(d.name, d.last_started_at, d.last_ok, d.last_result)
            for d in Duty.objects.filter(last_started_at__isnull=False)
        ),
    )


def _workers(now: datetime) -> Iterator[WorkerLine]:
    rows = Heartbeat.objects.in_bulk()
    for worker in seen(now):
        row = rows[worker.name]
        canary = round((now - row.canary_at).total_seconds(), 1) if row.canary_at else None
        age = round((now - row.beat_at).total_seconds(), 1)
        yield WorkerLine(row.name, row.state, worker.alive, age, canary, row.restarts)


def _remotes(now: datetime) -> Iterator[RemoteLine]:
    blocked = limits.blocked(now)
    for remote in Remote.objects.all():
        block = blocked.get(remote.pk)
        yield RemoteLine(
            remote.slug,
            block.reason if block else CLOSED,
            block.until if block else None,
            block.detail if block else "",
        )


def as_json(seen_now: Overview) -> dict[str, Any]:
    """Return the overview as JSON values, camelCase, times as RFC 3339."""
    return {
        "takenAt": _stamp(seen_now.taken_at),
        "counts": seen_now.counts,
        "inDoubt": seen_now.in_doubt,
        "openConflicts": seen_now.open_conflicts,
        "due": seen_now.due,
        "oldestDueAt": _stamp(seen_now.oldest_due_at),
        "oldestDueSeconds": seen_now.oldest_due_s,
        "nextDueAt": _stamp(seen_now.next_due_at),
        "workers": [
            {
                "name": worker.name,
                "state": worker.state,
                "alive": worker.alive,
                "beatAgeSeconds": worker.beat_age_s,
                "canaryAgeSeconds": worker.canary_age_s,
                "restarts": worker.restarts,
            }
            for worker in seen_now.workers
        ],
        "breakers": [
            {"remote": remote.slug, "state": remote.state, "until": _stamp(remote.until), "detail": remote.detail}
            for remote in seen_now.remotes
        ],
        "duties": [
            {"name": duty.name, "lastStartedAt": _stamp(duty.started_at), "ok": duty.ok, "result": duty.result}
            for duty in seen_now.duties
        ],
    }


def as_lines(seen_now: Overview) -> Iterator[str]:
    """Yield the overview as lines for a terminal."""
    yield "Records"
    for status, count in seen_now.counts.items():
        yield f"  {Status(status).label:<20}{count:>8}"
    yield f"  {'in doubt':<20}{seen_now.in_doubt:>8}"
    yield f"  {'open conflicts':<20}{seen_now.open_conflicts:>8}"
    oldest = f", the oldest for {seen_now.oldest_due_s:.0f} s" if seen_now.oldest_due_at else ""
    later = f"; next at {_clock(seen_now.next_due_at)}" if seen_now.next_due_at else ""
    yield f"Due now: {seen_now.due}{oldest}{later}"
    yield "Workers" if seen_now.workers else "Workers: none seen within a day. Start one: manage.py runworker"
    for worker in seen_now.workers:
        life = "alive" if worker.alive else "gone"
        canary = "no task taken yet" if worker.canary_age_s is None else f"took a task {worker.canary_age_s:.0f} s ago"
        restarts = f", {worker.restarts} restarts" if worker.restarts else ""
        yield f"  {worker.name:<28}{life:<7}{worker.state}, beat {worker.beat_age_s:.0f} s ago, {canary}{restarts}"
    yield "Remotes" if seen_now.remotes else "Remotes: none. Load some: manage.py configure FILE"
    for remote in seen_now.remotes:
        until = f" until {_clock(remote.until)}" if remote.until else ""
        detail = f": {_one_line(remote.detail)}" if remote.detail else ""
        yield f"  {remote.slug:<28}{remote.state}{until}{detail}"
    failed = [duty for duty in seen_now.duties if not duty.ok]
    for duty in failed:
        yield f"Duty {duty.name} failed: {_one_line(duty.result)}"


def _stamp(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S UTC")


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:160]
