"""Where an alert leads: the lists that show exactly the rows it is about."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from syncportal.ops.alerts.kinds import Kind
from syncportal.ops.alerts.models import Alert
from syncportal.ops.navigation import address
from syncportal.remote.models import Remote, Resource
from syncportal.sync.rollups import FINE_S, begin_of
from syncportal.sync.states import Status

MOST = 30


@dataclass(frozen=True, slots=True)
class Lead:
    """One link."""

    label: str
    url: str


_LISTS: dict[str, tuple[str, str, dict[str, str]]] = {
    Kind.SUCCESS_RATE: ("Failed exchanges", "admin:sync_synclog_changelist", {"outcome": "failed"}),
    Kind.ERROR_SPIKE: ("Failed exchanges", "admin:sync_synclog_changelist", {"outcome": "failed"}),
    Kind.BREAKER_OPEN: ("Waiting records", "admin:sync_record_changelist", {"status": "waiting"}),
    Kind.CREDENTIAL_REFUSED: ("Waiting records", "admin:sync_record_changelist", {"status": "waiting"}),
    Kind.OLDEST_DUE: ("Due records", "admin:sync_record_changelist", {"age": "due"}),
    Kind.LEASE_OVER: ("Records in processing", "admin:sync_record_changelist", {"status": Status.PROCESSING.value}),
    Kind.DEAD_LETTERS: ("Dead letters", "admin:sync_record_changelist", {"status": Status.DEAD_LETTER.value}),
    Kind.FAILED_UNDOS: (
        "Failed undos", "admin:rollback_compensatingtask_changelist", {"status": "failed_permanent"},
    ),
    Kind.CONFLICTS_WAITING: ("Open conflicts", "admin:sync_conflict_changelist", {}),
    Kind.DISCREPANCIES: ("Discrepancies", "admin:reconciliation_discrepancy_changelist", {"state": "open"}),
    Kind.RECONCILIATION_BRAKED: ("Runs", "admin:reconciliation_run_changelist", {}),
}  # fmt: skip
_WHOLE: dict[str, tuple[str, str, str]] = {
    Kind.NO_WORKER: ("Workers", "admin:ops_heartbeat_changelist", ""),
    Kind.SCHEDULE_NOT_RUN: ("Timetable", "admin:ops_duty_changelist", ""),
    Kind.DELIVERIES_FAILING: ("Deliveries given up", "admin:ops_delivery_changelist", "state=failed"),
}
_RATES = frozenset({Kind.SUCCESS_RATE, Kind.ERROR_SPIKE})
_HOUR_MIN = 60
_REMOTES = frozenset({Kind.BREAKER_OPEN, Kind.CREDENTIAL_REFUSED, Kind.OLDEST_DUE})


def leads_of(alert: Alert) -> list[Lead]:
    """Return the links of an alert; pages that this installation does not have are left out."""
    found = []
    if alert.kind in _REMOTES:
        rows = Remote.objects.filter(pk=alert.remote_id) if alert.remote_id else Remote.objects.all()
        found += [Lead(f"Remote {row}", f"{address('admin:remote_remote_changelist')}{row.pk}/change/")
                  for row in rows[:MOST]]  # fmt: skip
    if alert.kind in _LISTS:
        label, url_name, query = _LISTS[alert.kind]
        query = {**query, **_window(alert)}
        found += [
            Lead(f"{label}{f' of {row}' if row else ''}", address(url_name, urlencode(_narrowed(query, row))))
            for row in _resources(alert)
        ]
    if alert.kind in _WHOLE:
        label, url_name, query_string = _WHOLE[alert.kind]
        found.append(Lead(label, address(url_name, query_string)))
    return [lead for lead in found if lead.url]


def _window(alert: Alert) -> dict[str, str]:
    """Return what limits the sync log to the attempts that a rate was last judged by; it counts whole spans."""
    if alert.kind not in _RATES:
        return {}
    minutes = alert.rule.window_min if alert.kind == Kind.SUCCESS_RATE else _HOUR_MIN
    began = alert.seen_at - timedelta(minutes=minutes)
    since = begin_of(began, FINE_S)
    since += timedelta(seconds=FINE_S) if since < began else timedelta()
    return {"exchanges": "final", "since": since.isoformat().replace("+00:00", "Z")}


def _narrowed(query: dict[str, str], row: Resource | None) -> dict[str, str]:
    return {**query, "resource": row.slug} if row is not None else query


def _resources(alert: Alert) -> Iterable[Resource | None]:
    """Return the resources that an alert is about; None stands for all of them."""
    if alert.resource_id is not None:
        return Resource.objects.filter(pk=alert.resource_id)
    if alert.remote_id is not None:
        return Resource.objects.filter(remote_id=alert.remote_id)[:MOST]
    return [None]
