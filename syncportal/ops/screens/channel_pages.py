"""Channels: the list, the form, "Send test", the history.

Guarantees: no secret is shown; a test is a real delivery, and its result is shown at once; no transaction is open while
it travels; every change is in the history with who did it.
"""

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET, require_POST

from syncportal.kernel.clock import db_now
from syncportal.ops.alerts import channels, outbox, rights, sending, wording
from syncportal.ops.alerts.channels import ChannelInvalid
from syncportal.ops.alerts.models import Channel, Delivery
from syncportal.ops.alerts.outbox import NewDelivery
from syncportal.ops.alerts.states import DeliveryState, Message
from syncportal.ops.screens.alert_forms import ChannelForm
from syncportal.ops.screens.alert_looks import delivery_badge, severity_badge
from syncportal.ops.screens.changes import history_page
from syncportal.sync.screens.page import render

_COLUMNS = ("name", "via", "enabled", "lowest_severity", "tells_recovery", "target")


class ChannelAdmin(ModelAdmin):
    """Channels: the addresses of their pages."""

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses; none of the pages runs in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(channels_view), name="ops_channel_changelist"),
            path("add/", wrap(add_view), name="ops_channel_add"),
            path("<int:channel_id>/change/", wrap(change_view), name="ops_channel_change"),
            path("<int:channel_id>/history/", wrap(history_view), name="ops_channel_history"),
            path("<int:channel_id>/test/", wrap(test_view), name="ops_channel_test"),
            path("<int:channel_id>/remove/", wrap(remove_view), name="ops_channel_remove"),
        ]


@require_GET
def channels_view(request: HttpRequest) -> HttpResponse:
    """Show all channels with what waits and what was given up."""
    if not rights.may_see(request.user):
        raise PermissionDenied
    rows = Channel.objects.annotate(
        waiting=Count("deliveries", filter=Q(deliveries__state__in=[DeliveryState.PENDING, DeliveryState.SENDING])),
        failed=Count("deliveries", filter=Q(deliveries__state=DeliveryState.FAILED)),
    ).order_by("name")
    shown = [(row, channels.is_set_up(row), severity_badge(row.lowest_severity)) for row in rows]
    context = {
        "channels": shown,
        "tab": "channels",
        "may_configure": rights.may_configure(request.user),
        "may_act": rights.may_act(request.user),
        "nobody": not any(row.enabled and ready for row, ready, _ in shown),
    }
    return render(request, "alerts/channels.html", title="Channels", context=context)


def add_view(request: HttpRequest) -> HttpResponse:
    """Show the form of a new channel, or save it."""
    if not rights.may_configure(request.user):
        raise PermissionDenied
    initial = {"enabled": True, "tells_recovery": True, "lowest_severity": "warning", "via": "email"}
    form = ChannelForm(request.POST or None, row=None, initial=initial)
    if request.method == "POST" and form.is_valid():
        saved = _saved(request, None, form)
        if saved is not None:
            messages.success(request, "Added. Send a test to see whether it arrives.")
            return HttpResponseRedirect(reverse("admin:ops_channel_change", args=[saved.pk]))
    return _page(request, None, form)


def change_view(request: HttpRequest, channel_id: int) -> HttpResponse:
    """Show a channel, or save its form."""
    row = _found(request, channel_id)
    if request.method != "POST":
        return _page(request, row, ChannelForm(row=row, initial=ChannelForm.initial_of(row)))
    if not rights.may_configure(request.user):
        raise PermissionDenied
    form = ChannelForm(request.POST, row=row, initial=ChannelForm.initial_of(row))
    if request.POST.get("seen") != row.updated_at.isoformat():
        messages.error(
            request, "Somebody else saved this channel meanwhile; nothing was changed. Look again, then save."
        )
        return _page(request, row, form, status=409)
    if form.is_valid() and _saved(request, row, form) is not None:
        hurried = outbox.hurry(row.pk, now=db_now())
        messages.success(request, f"Saved. {hurried} waiting notices are tried now." if hurried else "Saved.")
        return HttpResponseRedirect(reverse("admin:ops_channel_change", args=[row.pk]))
    return _page(request, row, form)


@require_POST
def test_view(request: HttpRequest, channel_id: int) -> HttpResponse:
    """Send a test now and show what came of it."""
    row = _found(request, channel_id)
    if not rights.may_act(request.user):
        raise PermissionDenied
    now = db_now()
    words = wording.of_test(row.name, by=request.user.get_username(), now=now)
    with transaction.atomic():
        [made] = outbox.put([NewDelivery(Message.TEST.value, words, channel_id=row.pk)], now=now)
    problem = sending.send_one(made.pk)
    if problem:
        messages.error(request, f"The test did not arrive: {problem}")
    elif problem is None:
        messages.info(request, "A worker is sending the test right now; see the deliveries.")
    else:
        messages.success(request, "The channel took the test.")
    return HttpResponseRedirect(reverse("admin:ops_channel_change", args=[row.pk]))


@require_GET
def history_view(request: HttpRequest, channel_id: int) -> HttpResponse:
    """Show what changed; secrets are not in the history."""
    row = _found(request, channel_id)
    return history_page(request, row, url_name="ops_channel", list_name="Channels", columns=_COLUMNS)


@require_POST
def remove_view(request: HttpRequest, channel_id: int) -> HttpResponse:
    """Remove a channel that a person added, with its deliveries."""
    row = _found(request, channel_id)
    if not rights.may_configure(request.user):
        raise PermissionDenied
    try:
        channels.remove(row, actor=request.user)
    except ChannelInvalid as refusal:
        messages.warning(request, f"Nothing was changed. {refusal}")
        return HttpResponseRedirect(reverse("admin:ops_channel_change", args=[row.pk]))
    messages.success(request, "Removed, with its deliveries.")
    return HttpResponseRedirect(reverse("admin:ops_channel_changelist"))


def _found(request: HttpRequest, channel_id: int) -> Channel:
    if not rights.may_see(request.user):
        raise PermissionDenied
    row = Channel.objects.filter(pk=channel_id).first()
    if row is None:
        raise Http404("There is no such channel.")
    return row


def _saved(request: HttpRequest, row: Channel | None, form: ChannelForm) -> Channel | None:
    try:
        return channels.store(row, form.wanted(row), actor=request.user)
    except ChannelInvalid as refusal:
        form.add_problems(refusal.problems)
        return None


def _page(request: HttpRequest, row: Channel | None, form: ChannelForm, *, status: int = 0) -> HttpResponse:
    last = Delivery.objects.filter(channel=row).order_by("-id")[:10] if row else ()
    context = {
        "channel": row,
        "form": form,
        "groups": form.groups(),
        "seen": row.updated_at.isoformat() if row else "",
        "ready": channels.is_set_up(row) if row else False,
        "deliveries": [(one, delivery_badge(one)) for one in last],
        "may_configure": rights.may_configure(request.user),
        "may_act": rights.may_act(request.user),
        "now": db_now(),
    }
    code = status or (422 if form.is_bound and form.errors else 200)
    title = row.name if row else "Add a channel"
    return render(request, "alerts/channel_page.html", title=title, context=context, status=code)
