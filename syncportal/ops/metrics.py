"""The numbers of the start page, read in one go and limited to what the viewer may see.

Owns: `snapshot`. Guarantees: one set of frozen values, a handful of indexed queries whatever the number of records.
Does not: keep anything; the truth is in the tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Avg, Count, Min, Q

from rollback import metrics as compensations
from rollback import visibility
from rollback.metrics import TaskNumbers
from syncportal.remote.models import Breaker, Gate, Remote, Resource
from syncportal.sync.models import Conflict, Record, SyncJob, SyncLog
from syncportal.sync.querysets import Person, SyncLogQuerySet, sees_everything
from syncportal.sync.states import COMPLETE, FAIL, GIVE_UP, LOOKS, REJECT, RETRY_LATER, SKIP, Status

SUCCEEDED = (COMPLETE.name, SKIP.name)
FAILED = (RETRY_LATER.name, GIVE_UP.name, FAIL.name, REJECT.name)
RECENT = 8
MOST_REMOTES = 20


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
    """One failed attempt. `log_id` names its exchange."""

    at: datetime
    record_id: int | None
    record: str
    resource: str
    code: str
    detail: str
    log_id: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker host as its heartbeat tells."""

    name: str
    seen_at: datetime
    alive: bool


@dataclass(frozen=True, slots=True)
class RemoteState:
    """A remote: `calls` is running, paused or breaker_open; `waiting` counts what is due or will be."""

    id: int
    name: str
    calls: str
    detail: str
    until: datetime | None
    last_check: str
    last_check_label: str
    last_check_ms: int | None
    last_check_at: datetime | None
    waiting: int


@dataclass(frozen=True, slots=True)
class Setup:
    """How far a new installation has come."""

    remotes: int
    resources: int
    first_resource_id: int | None


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
    stopped: int
    waiting: int
    due: int
    oldest_due_at: datetime | None
    overdue_s: int
    recent_errors: tuple[RecentError, ...]
    workers: tuple[Worker, ...]
    knows_workers: bool
    remotes: tuple[RemoteState, ...]
    setup: Setup
    tasks: TaskNumbers

    @property
    def worker_alive(self) -> bool | None:
        """Tell whether any worker beats; None when that is not known."""
        return any(worker.alive for worker in self.workers) if self.knows_workers else None

    @property
    def silent_since(self) -> datetime | None:
        """Return when the last worker was seen, None when there never was one or one is alive."""
        return None if self.worker_alive else max((worker.seen_at for worker in self.workers), default=None)


def snapshot(
    *,
    user: Person,
    now: datetime,
    window: timedelta = timedelta(hours=24),
    workers: Sequence[Worker] | None = None,
) -> Snapshot:
    """Return the numbers of the last `window` in the user's scope; `workers` None means not known."""
    jobs = SyncJob.objects.filter(record__deleted_at__isnull=True)
    logs = SyncLog.objects.visible_to(user).filter(final=True, at__gte=now - window)
    if not sees_everything(user):
        jobs = jobs.filter(record__in=Record.objects.visible_to(user))
    counts = dict(jobs.values_list("status").annotate(number=Count("pk")).order_by())
    total = sum(counts.values())
    rates = logs.order_by().aggregate(
        attempts=Count("pk", filter=Q(outcome__in=SUCCEEDED + FAILED)),
        succeeded=Count("pk", filter=Q(outcome__in=SUCCEEDED)),
        average=Avg("duration_ms", filter=Q(outcome__in=SUCCEEDED)),
    )
    due = jobs.due(now).aggregate(oldest=Min("due_at"), number=Count("pk"))
    oldest = due["oldest"]
    stopped = (Status.ERROR, Status.VALIDATION_FAILED, Status.VERSION_CONFLICT, Status.DEAD_LETTER)
    return Snapshot(
        taken_at=now,
        window_hours=int(window.total_seconds() // 3600),
        total=total,
        statuses=_shares(counts, total),
        attempts=rates["attempts"],
        succeeded=rates["succeeded"],
        success_percent=_percent(rates["succeeded"], rates["attempts"]),
        average_ms=round(rates["average"]) if rates["average"] is not None else None,
        open_conflicts=Conflict.objects.visible_to(user).open().count(),
        dead_letters=counts.get(Status.DEAD_LETTER, 0),
        stopped=sum(counts.get(status, 0) for status in stopped),
        waiting=counts.get(Status.PENDING, 0) + counts.get(Status.RETRY_PENDING, 0),
        due=due["number"],
        oldest_due_at=oldest,
        overdue_s=max(0, round((now - oldest).total_seconds())) if oldest else 0,
        recent_errors=_recent_errors(logs),
        workers=tuple(workers or ()),
        knows_workers=workers is not None,
        remotes=_remotes() if user.has_perm("remote.view_remote") else (),
        setup=_setup() if not total else Setup(1, 1, None),
        tasks=compensations.read(now=now, rows=visibility.tasks_of(user)),
    )


def _percent(part: int, whole: int) -> float | None:
    """Return a share in percent, never rounded up to 100 while something failed."""
    if not whole:
        return None
    return 100.0 if part == whole else min(99.9, round(100 * part / whole, 1))


def _shares(counts: dict[str, int], total: int) -> tuple[StatusCount, ...]:
    shown, start = [], 0.0
    for status in Status:
        count = counts.get(status, 0)
        share = round(100 * count / total, 3) if total else 0.0
        shown.append(StatusCount(status, str(status.label), LOOKS[status].icon, count, round(start, 3), share))
        start += share
    return tuple(shown)


def _recent_errors(logs: SyncLogQuerySet) -> tuple[RecentError, ...]:
    rows = (
        logs.filter(outcome__in=FAILED)
        .select_related("record", "resource")
        .only(
            "at",
            "record_id",
            "outcome",
            "error_code",
            "error_kind",
            "detail",
            "record__title",
            "record__external_id",
            "resource__slug",
        )  # fmt: skip
        .order_by("-id")[:RECENT]
    )
    return tuple(
        RecentError(
            at=row.at,
            record_id=row.record_id,
            record=str(row.record) if row.record else "deleted record",
            resource=row.resource.slug,
            code=row.error_code or row.error_kind or row.outcome,
            detail=row.detail,
            log_id=row.pk,
        )
        for row in rows
    )


def _remotes() -> tuple[RemoteState, ...]:
    rows = Remote.objects.select_related("gate").defer("secret", "config").order_by("slug")[:MOST_REMOTES]
    waiting = dict(SyncJob.objects.claimable().values_list("remote_id").annotate(number=Count("pk")).order_by())
    return tuple(_remote_state(row, waiting.get(row.pk, 0)) for row in rows)


def _remote_state(row: Remote, waiting: int) -> RemoteState:
    gate: Gate | None = getattr(row, "gate", None)
    calls, detail, until = "running", "", None
    if gate is not None and gate.paused:
        calls, detail = "paused", gate.pause_detail or gate.pause_reason
    elif gate is not None and gate.breaker == Breaker.OPEN:
        calls, detail, until = "breaker_open", gate.last_error, gate.open_until
    return RemoteState(
        id=row.pk,
        name=str(row),
        calls=calls,
        detail=detail,
        until=until,
        last_check=gate.last_check if gate else "",
        last_check_label=str(gate.get_last_check_display()) if gate and gate.last_check else "",
        last_check_ms=gate.last_check_ms if gate else None,
        last_check_at=gate.last_check_at if gate else None,
        waiting=waiting,
    )


def _setup() -> Setup:
    first = Resource.objects.order_by("pk").values_list("pk", flat=True).first()
    return Setup(Remote.objects.count(), Resource.objects.count(), first)
