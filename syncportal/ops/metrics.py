"""The numbers of the start page, read in one go and limited to what the viewer may see.

Owns: `snapshot`. Guarantees: one consistent set of frozen values, a handful of queries whatever the number of records.
Does not: keep anything; the truth is in the tables.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Avg, Count, Min, Q

from syncportal.sync.models import Conflict, Record, SyncJob, SyncLog
from syncportal.sync.querysets import Person, SyncLogQuerySet, sees_everything
from syncportal.sync.states import COMPLETE, FAIL, GIVE_UP, LOOKS, REJECT, RETRY_LATER, SKIP, Status

SUCCEEDED = (COMPLETE.name, SKIP.name)
FAILED = (RETRY_LATER.name, GIVE_UP.name, FAIL.name, REJECT.name)
RECENT = 8


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many records have a status; `start` and `share` are percent, for the bar."""

    status: str
    label: str
    icon: str
    count: int
    start: float
    share: float


@dataclass(frozen=True, slots=True)
class RecentError:
    """One failed attempt."""

    at: datetime
    record_id: int | None
    record: str
    resource: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker host as its heartbeat tells."""

    name: str
    seen_at: datetime
    alive: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the start page shows. Rates and times are None when nothing happened in the window."""

    taken_at: datetime
    window_hours: int
    total: int
    statuses: tuple[StatusCount, ...]
    attempts: int
    succeeded: int
    success_percent: float | None
    average_ms: int | None
    open_conflicts: int
    dead_letters: int
    waiting: int
    overdue_s: int
    recent_errors: tuple[RecentError, ...]
    workers: tuple[Worker, ...]
    knows_workers: bool


def snapshot(
    *,
    user: Person,
    now: datetime,
    window: timedelta = timedelta(hours=24),
    workers: tuple[Worker, ...] | None = None,
) -> Snapshot:
    """Return the numbers of the last `window` in the user's scope; `workers` None means not known."""
    jobs = SyncJob.objects.filter(record__deleted_at__isnull=True)
    logs = SyncLog.objects.visible_to(user).filter(final=True, at__gte=now - window)
    if not sees_everything(user):
        jobs = jobs.filter(record__in=Record.objects.visible_to(user))
    counts = dict(jobs.values_list("status").annotate(number=Count("pk")).order_by())
    total = sum(counts.values())
    rates = logs.aggregate(
        attempts=Count("pk", filter=Q(outcome__in=SUCCEEDED + FAILED)),
        succeeded=Count("pk", filter=Q(outcome__in=SUCCEEDED)),
        average=Avg("duration_ms", filter=Q(outcome__in=SUCCEEDED)),
    )
    oldest = jobs.due(now).aggregate(oldest=Min("due_at"))["oldest"]
    return Snapshot(
        taken_at=now,
        window_hours=int(window.total_seconds() // 3600),
        total=total,
        statuses=_shares(counts, total),
        attempts=rates["attempts"],
        succeeded=rates["succeeded"],
        success_percent=round(100 * rates["succeeded"] / rates["attempts"], 1) if rates["attempts"] else None,
        average_ms=round(rates["average"]) if rates["average"] is not None else None,
        open_conflicts=Conflict.objects.visible_to(user).open().count(),
        dead_letters=counts.get(Status.DEAD_LETTER, 0),
        waiting=counts.get(Status.PENDING, 0) + counts.get(Status.RETRY_PENDING, 0),
        overdue_s=max(0, round((now - oldest).total_seconds())) if oldest else 0,
        recent_errors=_recent_errors(logs),
        workers=workers or (),
        knows_workers=workers is not None,
    )


def _shares(counts: dict[str, int], total: int) -> tuple[StatusCount, ...]:
    shown, start = [], 0.0
    for status in Status:
        count = counts.get(status, 0)
        share = round(100 * count / total, 3) if total else 0.0
        shown.append(StatusCount(status, str(status.label), LOOKS[status].icon, count, round(start, 3), share))
        start += share
    return tuple(shown)


def _recent_errors(logs: SyncLogQuerySet) -> tuple[RecentError, ...]:
    rows = logs.filter(outcome__in=FAILED).select_related("record", "resource").order_by("-id")[:RECENT]
    return tuple(
        RecentError(
            at=row.at,
            record_id=row.record_id,
            record=str(row.record) if row.record else "deleted record",
            resource=row.resource.slug,
            code=row.error_code or row.error_kind or row.outcome,
            detail=row.detail,
        )
        for row in rows
    )
