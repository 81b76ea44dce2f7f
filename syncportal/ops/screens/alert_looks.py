"""How severities, alerts and deliveries look: one label, icon and colour each, wherever they are shown."""

from django.utils.html import format_html
from django.utils.safestring import SafeString

from syncportal.ops.alerts.models import Alert, Delivery
from syncportal.ops.alerts.states import LIVE, AlertState, DeliveryState, Severity
from syncportal.ops.screens.connection_badges import badge

SEVERITY_TONES: dict[str, tuple[str, str]] = {
    Severity.CRITICAL: ("error", "stop"),
    Severity.WARNING: ("warning", "alert"),
    Severity.INFO: ("info", "info"),
}
_ALERTS: dict[str, tuple[str, str]] = {
    AlertState.OPEN: ("error", "alert"),
    AlertState.ACKNOWLEDGED: ("warning", "user"),
    AlertState.RESOLVED: ("success", "check"),
}
_DELIVERIES: dict[str, tuple[str, str]] = {
    DeliveryState.PENDING: ("warning", "clock"),
    DeliveryState.SENDING: ("info", "sync"),
    DeliveryState.SENT: ("success", "check"),
    DeliveryState.FAILED: ("error", "cross"),
}


def severity_badge(severity: str) -> SafeString:
    """Return a severity as a badge."""
    return badge(*SEVERITY_TONES[severity], str(Severity(severity).label))


def alert_badge(alert: Alert) -> SafeString:
    """Return where an alert stands; one that is held back says so."""
    shown = badge(*_ALERTS[alert.state], str(alert.get_state_display()))
    if alert.held_back and alert.state in LIVE:
        return format_html('{} <span title="{}">{}</span>', shown, alert.held_back, badge("info", "pause", "Held back"))
    return shown


def delivery_badge(delivery: Delivery) -> SafeString:
    """Return where a delivery stands."""
    return badge(*_DELIVERIES[delivery.state], str(delivery.get_state_display()))
