"""The attempts that failed last.

Owns: `RecentError` and reading a few of them. Guarantees: at most one short walk down an index for each way to fail,
and none where the window's roll-ups say that there is nothing to find; one's own are those that counting came across.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from syncportal.ops.metrics.scope import Scope
from syncportal.ops.metrics.traffic import RECENT, Traffic
from syncportal.sync.models import SyncLog
from syncportal.sync.rollups import FAILED

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
    if traffic.last_failures is not None:
        found = list(logs.filter(pk__in=traffic.last_failures)) if traffic.last_failures else []
    else:
        for outcome in FAILED:
            if traffic.outcomes.get(outcome):
                found += logs.filter(outcome=outcome, final=True).order_by("-id")[:RECENT]
    found.sort(key=lambda row: (row.at, row.pk), reverse=True)
    return tuple(_shown(row) for row in found[:RECENT] if row.at >= traffic.since)


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
