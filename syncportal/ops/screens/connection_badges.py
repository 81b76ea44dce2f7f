"""How a remote's state is shown: last connection test, breaker, pause. One look everywhere."""

from django.utils.html import format_html
from django.utils.safestring import SafeString

from syncportal.remote.models import Breaker, ConnectionStatus, Gate
from syncportal.sync.screens.values import icon, time_tag

_CHECKS = {
    ConnectionStatus.ONLINE: ("success", "check"),
    ConnectionStatus.DEGRADED: ("warning", "alert"),
    ConnectionStatus.OFFLINE: ("error", "cross"),
    ConnectionStatus.AUTH: ("error", "lock"),
}


def badge(tone: str, name: str, word: str) -> SafeString:
    """Return a small label with icon and word in the colour of its meaning."""
    return format_html('<span class="badge badge--{}">{}{}</span>', tone, icon(name), word)


def check_badge(gate: Gate | None) -> SafeString:
    """Return the outcome of the last connection test."""
    if gate is None or not gate.last_check:
        return format_html('<span class="muted">{}</span>', "not tested yet")
    status = ConnectionStatus(gate.last_check)
    tone, name = _CHECKS[status]
    took = f"{gate.last_check_ms} ms" if gate.last_check_ms is not None else ""
    return format_html(
        '{} <span class="muted small nowrap">{} · {}</span>',
        badge(tone, name, str(status.label)), took, time_tag(gate.last_check_at),
    )  # fmt: skip


def gate_badge(gate: Gate | None) -> SafeString:
    """Return whether calls go out: paused, stopped by the breaker, or running."""
    if gate is not None and gate.paused:
        return badge("warning", "pause", "Paused")
    if gate is not None and gate.breaker == Breaker.OPEN:
        return badge("error", "stop", "Breaker open")
    return badge("success", "play", "Running")
