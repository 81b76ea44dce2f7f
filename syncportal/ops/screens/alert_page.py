"""One alert: what, since when, what is affected, what the system does, what a person can do, and who was told.

Guarantees: acts are POSTs of operations; one that came too late says so and changes nothing.
"""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from syncportal.kernel.clock import db_now
from syncportal.ops.alerts import alert_store, channels, outbox, rights, silences, telling
from syncportal.ops.alerts.kinds import KINDS
from syncportal.ops.alerts.models import Alert, Delivery
from syncportal.ops.alerts.silences import Match, SilenceInvalid
from syncportal.ops.alerts.states import LIVE, AlertState, Message
from syncportal.ops.screens.alert_links import leads_of
from syncportal.ops.screens.alert_looks import alert_badge, delivery_badge, severity_badge
from syncportal.sync.events import Kind
from syncportal.sync.models import Event
from syncportal.sync.screens.page import actor_of, list_query, render
from syncportal.sync.screens.timeline import describe
from syncportal.sync.screens.values import utc

DELIVERIES, HISTORY = 50, 50
HOURS = {"1": "1 hour", "4": "4 hours", "24": "1 day", "72": "3 days", "168": "1 week"}


@require_GET
def alert_view(request: HttpRequest, alert_id: int) -> HttpResponse:
    """Show an alert."""
    return _page(request, _visible(request, alert_id))


@require_POST
def acknowledge_view(request: HttpRequest, alert_id: int) -> HttpResponse:
    """Take an alert on."""
    alert = _visible(request, alert_id)
    if not rights.may_act(request.user):
        raise PermissionDenied
    note = request.POST.get("note", "")
    if alert_store.acknowledge(alert.pk, note=note, actor=actor_of(request.user), now=db_now()):
        messages.success(request, "It is yours. It resolves itself when the trouble is over.")
    else:
        messages.warning(request, "Nothing was changed: it is over, or somebody else took it on.")
    return _back_to(alert)


@require_POST
def silence_view(request: HttpRequest, alert_id: int) -> HttpResponse:
    """Send no notices about this rule in this place for a while."""
    alert = _visible(request, alert_id)
    if not rights.may_act(request.user):
        raise PermissionDenied
    now, hours = db_now(), request.POST.get("hours", "")
    if hours not in HOURS:
        messages.error(request, "Nothing was silenced: choose for how long.")
        return _back_to(alert)
    match = Match(alert.kind, alert.remote_id, alert.resource_id)
    try:
        made = silences.make(
            match, reason=request.POST.get("reason", ""), ends_at=now + timedelta(hours=int(hours)),
            actor=actor_of(request.user), now=now,
        )  # fmt: skip
    except SilenceInvalid as refusal:
        messages.error(request, f"Nothing was silenced: {refusal}")
    else:
        messages.success(request, f"No notices about it until {utc(made.ends_at)}. The alert stays listed.")
    return _back_to(alert)


def _back_to(alert: Alert) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:ops_alert_change", args=[alert.pk]))


def _visible(request: HttpRequest, alert_id: int) -> Alert:
    if not rights.may_see(request.user):
        raise PermissionDenied
    rows = rights.visible_alerts(request.user).select_related("remote", "resource", "rule", "acknowledged_by")
    alert = rows.filter(pk=alert_id).first()
    if alert is None:
        raise Http404("There is no such alert.")
    return alert


def _page(request: HttpRequest, alert: Alert) -> HttpResponse:
    now = db_now()
    kinds = (Kind.ALERT_OPENED, Kind.ALERT_RESOLVED, Kind.ALERT_ACKNOWLEDGED)
    told = Event.objects.filter(kind__in=kinds, at__gte=alert.opened_at, data__alert=alert.pk).select_related("actor")
    deliveries = Delivery.objects.filter(outbox.about(alert.pk)).select_related("channel", "person")
    quiet = silences.silence_of(
        alert.kind, remote_id=alert.remote_id, resource_id=alert.resource_id, among=silences.active(now)
    )
    context = {
        "alert": alert,
        "kind": KINDS[alert.kind],
        "badge": alert_badge(alert),
        "severity": severity_badge(alert.severity),
        "live": alert.state in LIVE,
        "leads": leads_of(alert),
        "deliveries": [(row, delivery_badge(row)) for row in deliveries.order_by("-id")[:DELIVERIES]],
        "next_notice": _next_notice(alert, now),
        "nobody_is_told": not any(channels.takes(way, alert.severity) for way in channels.usable()),
        "silence": quiet,
        "history": [describe(row) for row in told.order_by("-id")[:HISTORY]],
        "may_act": rights.may_act(request.user),
        "why_no_acknowledge": _why_no_acknowledge(alert),
        "hours": HOURS.items(),
        "now": now,
        "back": list_query(request),
    }
    return render(request, "alerts/alert_page.html", title=str(alert), context=context)


def _why_no_acknowledge(alert: Alert) -> str:
    if alert.state == AlertState.RESOLVED:
        return "It is over."
    return f"{alert.acknowledged_label} has it." if alert.state == AlertState.ACKNOWLEDGED else ""


def _next_notice(alert: Alert, now: datetime) -> dict[str, Any] | None:
    """Return what people will be told next, and from when on; None when they know everything."""
    standing = alert_store.standing_of(alert)
    message = telling.wanted_message(standing, now=now)
    if message is None:
        again = telling.reminder_at(standing, now)
        told = {"label": Message.REMINDER.label, "at": again, "held_back": alert.held_back, "unless": True}
        return told if again is not None else None
    at = telling.not_before(standing, now)
    shown = {"label": message.label, "at": at, "waits": at > now, "held_back": alert.held_back}
    storm = not shown["waits"] and telling.waits_for_others(
        alert.severity, message, lately=alert_store.lately_told(now)
    )
    return shown | {"storm": storm}
