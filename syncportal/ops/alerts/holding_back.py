"""Why no notice leaves about an alert although it is open: a silence, or a bigger trouble that explains it.

Guarantees: pure but for the field `held_back` of the alerts it is given. A remote that is down holds back the alerts
that follow from it, and for as long after it is up again as their rule looks back; a missing worker those that need it.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from syncportal.ops.alerts import silences
from syncportal.ops.alerts.judging import Observed
from syncportal.ops.alerts.kinds import FOLLOWS_REMOTE, FOLLOWS_WORKER, KINDS, REMOTE_DOWN, Kind
from syncportal.ops.alerts.models import Alert, Silence
from syncportal.ops.alerts.states import LIVE

_LEAST_AFTER: Final = timedelta(minutes=5)
_HOUR: Final = timedelta(hours=1)


def mark(alerts: Iterable[Alert], seen: Observed, quiet: Sequence[Silence], *, changed: dict[int, Alert]) -> None:
    """Set `held_back` of each alert, and note those whose reason changed."""
    everything = list(alerts)
    down = [alert for alert in everything if alert.kind in REMOTE_DOWN]
    no_worker = any(alert.kind == Kind.NO_WORKER and alert.state in LIVE for alert in everything)
    for alert in everything:
        why = _silenced(alert, quiet) or _explained(alert, down, no_worker, seen)
        if why != alert.held_back:
            alert.held_back = why
            if alert.pk is not None:
                changed[alert.pk] = alert


def _silenced(alert: Alert, quiet: Sequence[Silence]) -> str:
    one = silences.silence_of(alert.kind, remote_id=alert.remote_id, resource_id=alert.resource_id, among=quiet)
    return f"Silenced until {one.ends_at:%Y-%m-%d %H:%M} UTC: {one.reason}"[:300] if one is not None else ""


def _explained(alert: Alert, down: Sequence[Alert], no_worker: bool, seen: Observed) -> str:
    if no_worker and alert.kind in FOLLOWS_WORKER:
        return "No worker is running; that alert stands for this one."
    if alert.kind not in FOLLOWS_REMOTE or alert.remote_id is None:
        return ""
    for cause in down:
        about_it = cause.remote_id == alert.remote_id or (cause.remote_id is None and alert.remote_id in seen.stopped)
        if about_it and _reaches(cause, alert, seen):
            return f"{cause.get_kind_display()}: {cause.scope_name}; that alert stands for this one."[:300]
    return ""


def _reaches(cause: Alert, alert: Alert, seen: Observed) -> bool:
    if cause.state in LIVE:
        return True
    looks_back = max(_LEAST_AFTER, timedelta(minutes=KINDS[alert.kind].window_min))
    if alert.kind == Kind.ERROR_SPIKE:
        looks_back = _HOUR
    return cause.resolved_at is not None and seen.now - cause.resolved_at < looks_back
