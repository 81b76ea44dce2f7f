"""One look at everything: the numbers of the dashboard, of the API's summary and of /metrics, limited to a scope.

Owns: `snapshot`. Guarantees: one set of frozen values, a constant number of queries whatever the number of rows; ages
are measured by the database's time. Does not: keep anything; the truth is in the tables.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Case, Count, IntegerField, Min, Q, QuerySet, Value, When

from reconciliation.models import Discrepancy
from rollback import metrics as compensations
from rollback.metrics import TaskNumbers
from syncportal.ops import heartbeat
from syncportal.ops.alerts.models import Alert
from syncportal.ops.alerts.states import LIVE, RANK
from syncportal.ops.heartbeat import Worker
from syncportal.ops.metrics import recent, remotes, traffic
from syncportal.ops.metrics.recent import RecentError
from syncportal.ops.metrics.remotes import RemoteState
from syncportal.ops.metrics.scope import Scope
from syncportal.ops.metrics.traffic import Traffic
from syncportal.ops.models import Duty
from syncportal.remote.models import Remote, Resource
from syncportal.sync import record_counts
from syncportal.sync.record_counts import Standing
from syncportal.sync.states import CLAIMABLE, IN_FLIGHT, LOOKS, STOPPED, Status
from syncportal.sync.windows import DEFAULT, Window

MOST_ALERTS: Final = 50
_RANK: Final = Case(*(When(severity=one, then=Value(rank)) for one, rank in RANK.items()), output_field=IntegerField())
_ALERTS_FIRST: Final = (Case(When(held_back="", then=Value(0)), default=Value(1)), _RANK.desc(), "-id")
"""First what nothing explains, then the worst, then the newest."""


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many records have a status; `start` and `share` are percent of all, for charts."""

    status: str
    label: str
    icon: str
    count: int
    start: float
    share: float


@dataclass(frozen=True, slots=True)
class Setup:
    """How far a new installation has come."""

    remotes: int
    resources: int
    first_resource_id: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to know at `taken_at`. Lists that the viewer may not see are empty.

    alerts: the first `MOST_ALERTS` that are not over; alert_kinds: how many there are in all, by kind of rule.
    """

    taken_at: datetime
    scope: Scope
    total: int
    statuses: tuple[StatusCount, ...]
    traffic: Traffic
    due: int
    oldest_due_at: datetime | None
    open_conflicts: int
    oldest_conflict_at: datetime | None
    open_discrepancies: int
    tasks: TaskNumbers
    recent_errors: tuple[RecentError, ...]
    alerts: tuple[Alert, ...]
    alert_kinds: dict[str, int]
    remotes: tuple[RemoteState, ...]
    workers: tuple[Worker, ...]
    duties: tuple[Duty, ...]
    setup: Setup | None

    def count(self, *statuses: str) -> int:
        """Return how many records have one of the statuses."""
        return sum(one.count for one in self.statuses if one.status in statuses)

    @property
    def backlog(self) -> int:
        """Return how many records are under way: pending, being sent, or waiting for a retry."""
        return self.count(*IN_FLIGHT)

    @property
    def stopped(self) -> int:
        """Return how many records stand still until a person acts."""
        return self.count(*STOPPED)

    @property
    def dead_letters(self) -> int:
        """Return how many records have no attempt left."""
        return self.count(Status.DEAD_LETTER)

    @property
    def overdue_s(self) -> int:
        """Return for how many seconds the oldest due record has been due."""
        return max(0, round((self.taken_at - self.oldest_due_at).total_seconds())) if self.oldest_due_at else 0

    @property
    def open_alerts(self) -> int:
        """Return how many alerts are not over, listed or not."""
        return sum(self.alert_kinds.values())

    @property
    def worker_alive(self) -> bool:
        """Tell whether any worker beats."""
        return any(worker.alive for worker in self.workers)

    @property
    def silent_since(self) -> datetime | None:
        """Return when the last worker was seen, None when there never was one or one is alive."""
        return None if self.worker_alive else max((worker.seen_at for worker in self.workers), default=None)


def snapshot(scope: Scope, *, now: datetime, window: Window = DEFAULT) -> Snapshot:
    """Return the numbers of a scope, the window's and those of this moment `now` (the database's time)."""
    everywhere = record_counts.where_they_stand(now=now) if scope.everything else {}
    here = {pk: one for pk, one in everywhere.items() if scope.resources is None or pk in scope.resources}
    standing = list(here.values()) if scope.everything else [_own_standing(scope, now)]
    counts = {status: sum(one.counts.get(status, 0) for one in standing) for status in Status}
    total = sum(counts.values())
    passed = traffic.read(scope, window=window, now=now)
    conflicts = scope.conflicts().open().order_by().aggregate(number=Count("pk"), oldest=Min("created_at"))
    alerts = live_alerts(scope)
    return Snapshot(
        taken_at=now,
        scope=scope,
        total=total,
        statuses=_shares(counts, total),
        traffic=passed,
        due=sum(one.due for one in standing),
        oldest_due_at=min((one.oldest_due_at for one in standing if one.oldest_due_at), default=None),
        open_conflicts=conflicts["number"],
        oldest_conflict_at=conflicts["oldest"],
        open_discrepancies=open_discrepancies(scope),
        tasks=compensations.read(now=now, rows=scope.tasks(), past=False),
        recent_errors=recent.read(scope, traffic=passed),
        alerts=tuple(alerts.order_by(*_ALERTS_FIRST)[:MOST_ALERTS]),
        alert_kinds=dict(alerts.order_by().values_list("kind").annotate(number=Count("pk"))),
        remotes=remotes.read(scope, standing=here) if scope.user.has_perm("remote.view_remote") else (),
        workers=heartbeat.seen(now),
        duties=tuple(Duty.objects.filter(last_started_at__isnull=False)) if scope.everything else (),
        setup=_setup() if not total else None,
    )


def open_discrepancies(scope: Scope) -> int:
    """Count the confirmed differences that wait for somebody."""
    rows = Discrepancy.objects.visible_to(scope.user).open()
    return (rows if scope.resources is None else rows.filter(resource_id__in=scope.resources)).count()


def live_alerts(scope: Scope) -> QuerySet[Alert]:
    """Return the alerts that are not over and touch the scope; they tell about everybody's records."""
    if not scope.everything:
        return Alert.objects.none()
    rows = Alert.objects.filter(state__in=sorted(LIVE))
    if scope.resource is not None:
        elsewhere = Q(resource__isnull=False) & ~Q(resource=scope.resource)
        rows = rows.exclude(elsewhere | (Q(remote__isnull=False) & ~Q(remote_id=scope.resource.remote_id)))
    elif scope.remote is not None:
        elsewhere = Q(resource__isnull=False) & ~Q(resource__remote=scope.remote)
        rows = rows.exclude(elsewhere | (Q(remote__isnull=False) & ~Q(remote=scope.remote)))
    return rows


def _own_standing(scope: Scope, now: datetime) -> Standing:
    """Count one's own records row by row, once: they are few, and what is due in the whole installation may be much."""
    waits = Q(status__in=sorted(CLAIMABLE), held_by="", due_at__lte=now)
    rows = scope.jobs().order_by().values_list("status")
    found = list(rows.annotate(number=Count("pk"), due=Count("pk", filter=waits), oldest=Min("due_at", filter=waits)))
    return Standing(
        {status: number for status, number, _, _ in found},
        sum(due for _, _, due, _ in found),
        min((oldest for _, _, _, oldest in found if oldest is not None), default=None),
    )


def _shares(counts: dict[Status, int], total: int) -> tuple[StatusCount, ...]:
    shown, start = [], 0.0
    for status in Status:
        share = round(100 * counts[status] / total, 3) if total else 0.0
        shown.append(StatusCount(status, str(status.label), LOOKS[status].icon, counts[status], round(start, 3), share))
        start += share
    return tuple(shown)


def _setup() -> Setup:
    first = Resource.objects.order_by("pk").values_list("pk", flat=True).first()
    return Setup(Remote.objects.count(), Resource.objects.count(), first)
