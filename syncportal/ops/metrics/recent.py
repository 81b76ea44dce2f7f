"""The attempts that failed last.

Owns: `RecentError` and reading a few of them. Guarantees: at most one short walk down an index for each way to fail,
and none where the window's roll-ups say that there is nothing to find; for some resources only, a look at a few hours
that have failures; one's own are those that counting came across.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import QuerySet

from syncportal.ops.metrics.scope import Scope
from syncportal.ops.metrics.traffic import RECENT, Traffic
from syncportal.sync.models import SyncLog
from syncportal.sync.rollups import FAILED, HOUR_S, begin_of

_COLUMNS: Final = ("at", "record_id", "outcome", "error_code", "error_kind", "detail", "record__title",
                   "record__external_id", "resource__slug", "resource__name")  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecentError:
    """One failed attempt. `log_id` names its exchange."""

    at: datetime
    record_id: int | None
    record: str
    resource: str
    code: str
    detail: str
    log_id: int


def read(scope: Scope, *, traffic: Traffic) -> tuple[RecentError, ...]:
    """Return the last failures of the window, newest first."""
    logs = scope.logs().select_related("record", "resource").only(*_COLUMNS)
    found: list[SyncLog] = []
    ways = [outcome for outcome in FAILED if traffic.outcomes.get(outcome)]
    if traffic.last_failures is not None:
        found = list(logs.filter(pk__in=traffic.last_failures)) if traffic.last_failures else []
    elif scope.resources is None:
        for outcome in ways:
            found += logs.filter(outcome=outcome, final=True).order_by("-id")[:RECENT]
    elif ways:
        found = _in_their_hours(scope, logs.filter(outcome__in=ways, final=True), since=traffic.since)
    found.sort(key=lambda row: (row.at, row.pk), reverse=True)
    return tuple(_shown(row) for row in found[:RECENT] if row.at >= traffic.since)


def _in_their_hours(scope: Scope, failures: QuerySet[SyncLog], *, since: datetime) -> list[SyncLog]:
    """Return the last failures of some resources: walking down an index past those of all others could take long.

    The roll-ups say in which hours to look; each of the few hours holds at least one.
    """
    failed = scope.rollups().filter(span_s=HOUR_S, outcome__in=FAILED, begins_at__gte=begin_of(since, HOUR_S))
    hours = failed.order_by("-begins_at").values_list("begins_at", flat=True).distinct()[:RECENT]
    found: list[SyncLog] = []
    for begin in hours:
        within = failures.filter(at__gte=begin, at__lt=begin + timedelta(seconds=HOUR_S))
        found += within.order_by("-at", "-id")[: RECENT - len(found)]
        if len(found) == RECENT:
            break
    return found


def _shown(row: SyncLog) -> RecentError:
    return RecentError(
        at=row.at,
        record_id=row.record_id,
        record=str(row.record) if row.record else "deleted record",
        resource=str(row.resource),
        code=row.error_code or row.error_kind or row.outcome,
        detail=row.detail,
        log_id=row.pk,
    )
