"""The dashboard: the admin's start page, and the piece of it that refreshes itself.

Owns: what the charts and banners say, and the address behind each number. Guarantees: a number's link leads to the rows
that it counts, in the same scope and window; the piece holds what the page holds, so nothing is lost without scripts.
Does not: count; metrics/ does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from syncportal.ops import charts
from syncportal.ops.alerts.kinds import Kind
from syncportal.ops.alerts.states import Severity
from syncportal.ops.metrics.scope import Scope
from syncportal.ops.metrics.snapshot import Snapshot, StatusCount
from syncportal.ops.metrics.traffic import ALARM_PERCENT, TARGET_PERCENT, ErrorCount, Slot
from syncportal.ops.navigation import address
from syncportal.remote.limits import BREAKER_OPEN, PAUSED
from syncportal.remote.models import Remote, Resource
from syncportal.sync import error_reading
from syncportal.sync.states import Status
from syncportal.sync.windows import WINDOWS, Window

REFRESH_S = 10
LATE_S = 60
STUCK_TASK_S = 300
LISTED_ALERTS = 10


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several links: a window, a remote or a resource."""

    label: str
    url: str
    current: bool


@dataclass(frozen=True, slots=True)
class Links:
    """The addresses behind the numbers of one scope and window."""

    scope: Scope
    since: datetime

    def records(self, **chosen: str) -> str:
        """Return the record list's."""
        return address("admin:sync_record_changelist", self.scope.query(**chosen))

    def log(self, **chosen: str) -> str:
        """Return the sync log's, one row an attempt of the window."""
        since = self.since.isoformat().replace("+00:00", "Z")
        return address("admin:sync_synclog_changelist", self.scope.query(exchanges="final", since=since, **chosen))

    def conflicts(self) -> str:
        """Return the list of open conflicts."""
        return address("admin:sync_conflict_changelist", self.scope.query())

    def tasks(self, status: str) -> str:
        """Return the list of compensating tasks in a status."""
        return address("admin:rollback_compensatingtask_changelist", self.scope.query(status=status))

    def discrepancies(self) -> str:
        """Return the list of open discrepancies."""
        return address("admin:reconciliation_discrepancy_changelist", self.scope.query(state="open"))


def page(seen: Snapshot) -> dict[str, Any]:
    """Return everything that the dashboard's templates show."""
    links = Links(seen.scope, seen.traffic.since)
    slots = seen.traffic.slots
    return {
        "seen": seen,
        "window": seen.traffic.window,
        "since": seen.traffic.since,
        "refresh_s": REFRESH_S,
        "windows": list(_windows(seen.scope, seen.traffic.window)),
        "banners": _banners(seen),
        **_alerts(seen),
        "tasks_stuck": seen.tasks.oldest_age_s > STUCK_TASK_S,
        "late": seen.overdue_s > LATE_S,
        "gauge": _gauge(seen),
        "target": TARGET_PERCENT,
        "statuses": [(one, _url_of(one, links)) for one in seen.statuses],
        "durations": _durations(slots, seen.traffic.window),
        "throughput": _throughput(slots, seen.traffic.window),
        "slots": [(slot, _moment(slot, seen.traffic.window)) for slot in slots],
        "labels": _labels(slots, seen.traffic.window),
        "per_hour": _per_hour(seen),
        "errors": list(_errors(seen, links)),
        "links": {
            "records": links.records(),
            "backlog": links.records(status="moving"),
            "stopped": links.records(status="stopped"),
            "due": links.records(age="due"),
            "dead_letters": links.records(status=Status.DEAD_LETTER.value),
            "attempts": links.log(outcome="counted"),
            "succeeded": links.log(outcome="succeeded"),
            "failed": links.log(outcome="failed"),
            "conflicts": links.conflicts(),
            "tasks": links.tasks("open"),
            "failed_tasks": links.tasks("failed_permanent"),
            "discrepancies": links.discrepancies(),
            "error_groups": address("admin:sync_errorgroup_changelist"),
            "alerts": address("admin:ops_alert_changelist"),
            "workers": address("admin:ops_heartbeat_changelist"),
            "remotes": address("admin:remote_remote_changelist"),
        },
    }


def filters(scope: Scope, *, window: Window) -> dict[str, Any]:
    """Return the choices of remote and resource, for the form above the board."""
    resources = Resource.objects.select_related("remote").order_by("slug")
    if scope.remote is not None:
        resources = resources.filter(remote=scope.remote)
    return {
        "window_key": window.key,
        "remote_choices": [(row.slug, str(row)) for row in Remote.objects.defer("secret", "config").order_by("slug")],
        "resource_choices": [(row.slug, str(row)) for row in resources],
        "remote_chosen": scope.remote.slug if scope.remote else "",
        "resource_chosen": scope.resource.slug if scope.resource else "",
    }


def _windows(scope: Scope, chosen: Window) -> Iterator[Choice]:
    for window in WINDOWS.values():
        yield Choice(window.label, f"?{scope.query(window=window.key)}", window is chosen)


def _url_of(one: StatusCount, links: Links) -> str:
    return links.records(status=one.status)


def _errors(seen: Snapshot, links: Links) -> Iterator[tuple[ErrorCount, str, str]]:
    """Return the top errors with their attempts' address, and their group's (the list's, where there are several)."""
    scope, errors = seen.scope, seen.traffic.errors
    remote_id = scope.remote.pk if scope.remote else None
    codes = [error.code for error in errors]
    groups = error_reading.of_code(scope.user, codes, remote_id=remote_id) if codes else {}
    for error in errors:
        yield error, links.log(outcome="failed", error=error.code), _group_url(error, groups.get(error.code, []), scope)


def _group_url(error: ErrorCount, group_ids: list[int], scope: Scope) -> str:
    if len(group_ids) == 1:
        return reverse("admin:sync_errorgroup_change", args=group_ids)
    return address("admin:sync_errorgroup_changelist", scope.query(code=error.code)) if group_ids else ""


def _banners(seen: Snapshot) -> list[str]:
    """Return what needs to be said first, the worst first; templates hold the words."""
    told = {
        "no_worker": not seen.worker_alive,
        "alerts": not set(seen.alert_kinds) <= _told_elsewhere(seen),
        "remotes": any(remote.calls != "running" for remote in seen.remotes),
        "success": _below_alarm(seen),
        "tasks": seen.tasks.waiting_for_person > 0,
        "decide": bool(seen.open_conflicts or seen.dead_letters),
        "look": seen.stopped > 0 and not seen.open_conflicts and not seen.dead_letters,
    }
    return [name for name, holds in told.items() if holds]


def _told_elsewhere(seen: Snapshot) -> set[str]:
    """Return the kinds of alerts that another banner tells of, with what happens next."""
    told = {
        Kind.NO_WORKER: not seen.worker_alive,
        Kind.BREAKER_OPEN: any(remote.calls == BREAKER_OPEN for remote in seen.remotes),
        Kind.CREDENTIAL_REFUSED: any(remote.calls == PAUSED for remote in seen.remotes),
        Kind.DEAD_LETTERS: seen.dead_letters > 0,
        Kind.FAILED_UNDOS: seen.tasks.waiting_for_person > 0,
    }
    return {kind.value for kind, holds in told.items() if holds}


def _alerts(seen: Snapshot) -> dict[str, Any]:
    """Return the banner's alerts, those first that nothing explains; what is held back does not make it red."""
    elsewhere = _told_elsewhere(seen)
    shown = [alert for alert in seen.alerts if alert.kind not in elsewhere][:LISTED_ALERTS]
    number = sum(count for kind, count in seen.alert_kinds.items() if kind not in elsewhere)
    critical = any(alert.severity == Severity.CRITICAL and not alert.held_back for alert in shown)
    return {
        "alerts": shown,
        "alerts_number": number,
        "alerts_unlisted": number - len(shown),
        "alerts_tone": "error" if critical else "warning",
        "alerts_elsewhere": seen.open_alerts > number,
    }


def _below_alarm(seen: Snapshot) -> bool:
    rate = seen.traffic.success_percent
    return rate is not None and rate < ALARM_PERCENT


def _gauge(seen: Snapshot) -> dict[str, Any] | None:
    rate = seen.traffic.success_percent
    if rate is None:
        return None
    tone = "success" if rate >= TARGET_PERCENT else "warning" if rate >= ALARM_PERCENT else "error"
    words = {"success": "on target", "warning": "below target", "error": "far below target"}[tone]
    return {"arc": charts.gauge(rate, target=TARGET_PERCENT), "percent": rate, "tone": tone, "words": words}


def _durations(slots: tuple[Slot, ...], window: Window) -> dict[str, Any] | None:
    average, p95 = [slot.average_ms for slot in slots], [slot.p95_ms for slot in slots]
    highest = max((value for value in (*average, *p95) if value is not None), default=None)
    if highest is None:
        return None
    ticks = charts.scale(highest)
    top = ticks[0].value
    return {
        "ticks": ticks,
        "average": charts.lines(average, top=top), "average_dots": charts.dots(average, top=top),
        "p95": charts.lines(p95, top=top), "p95_dots": charts.dots(p95, top=top),
        "columns": _columns(slots, window),
    }  # fmt: skip


def _throughput(slots: tuple[Slot, ...], window: Window) -> dict[str, Any] | None:
    highest = max(slot.attempts for slot in slots)
    if not highest:
        return None
    ticks = charts.scale(highest)
    columns = charts.bars([s.succeeded for s in slots], [s.failed for s in slots], top=ticks[0].value)
    return {"ticks": ticks, "bars": columns, "columns": _columns(slots, window)}


def _columns(slots: tuple[Slot, ...], window: Window) -> list[tuple[float, float, Slot, str]]:
    width = 100 / len(slots)
    return [(round(i * width, 3), round(width, 3), slot, _moment(slot, window)) for i, slot in enumerate(slots)]


def _per_hour(seen: Snapshot) -> float | None:
    hours = (seen.taken_at - seen.traffic.since).total_seconds() / 3600
    return round(seen.traffic.whole.attempts / hours, 1) if seen.traffic.whole.attempts and hours > 0 else None


def _moment(slot: Slot, window: Window) -> str:
    """Return when a slot begins, in the viewer's zone, as exactly as the window needs."""
    pattern = "H:i" if window.slot_s < 6 * 3600 else "D j M, H:i" if window.slot_s < 86_400 else "D j M"
    return date_format(timezone.localtime(slot.begins_at), pattern)


def _labels(slots: tuple[Slot, ...], window: Window) -> list[str]:
    """Return a few moments for the foot of a chart, evenly spread."""
    step = max(1, len(slots) // 6)
    return [_moment(slot, window) for slot in slots[::step]]
