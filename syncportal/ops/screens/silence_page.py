"""Silences: what is not told for now, why, until when, by whom; and ending one."""

from datetime import timedelta

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_http_methods, require_POST

from syncportal.kernel.clock import db_now
from syncportal.ops.alerts import rights, silences
from syncportal.ops.alerts.kinds import Kind
from syncportal.ops.alerts.models import Silence
from syncportal.ops.alerts.silences import Match, SilenceInvalid
from syncportal.ops.screens.alert_page import HOURS
from syncportal.remote.models import Remote
from syncportal.sync.screens.page import actor_of, render

PAST = 30


class SilenceAdmin(ModelAdmin):
    """Silences: the addresses of their page."""

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses; the page does not run in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(silences_view), name="ops_silence_changelist"),
            path("<int:silence_id>/end/", wrap(end_view), name="ops_silence_end"),
        ]


@require_http_methods(["GET", "POST"])
def silences_view(request: HttpRequest) -> HttpResponse:
    """Show what is silenced and what was, or silence a remote or rule, for example before maintenance."""
    if not rights.may_see(request.user):
        raise PermissionDenied
    if request.method == "POST":
        return _make(request)
    now = db_now()
    rows = Silence.objects.select_related("remote", "resource")
    context = {
        "tab": "silences",
        "active": rows.filter(ends_at__gt=now).order_by("ends_at"),
        "past": rows.filter(ends_at__lte=now).order_by("-ends_at")[:PAST],
        "kinds": Kind.choices,
        "remotes": Remote.objects.order_by("slug").values_list("pk", "slug"),
        "hours": HOURS.items(),
        "may_act": rights.may_act(request.user),
        "now": now,
    }
    return render(request, "alerts/silences.html", title="Silences", context=context)


def _make(request: HttpRequest) -> HttpResponse:
    if not rights.may_act(request.user):
        raise PermissionDenied
    now, hours, kind = db_now(), request.POST.get("hours", ""), request.POST.get("rule", "")
    remote_id = request.POST.get("remote", "")
    known = remote_id.isdecimal() and len(remote_id) < 18 and Remote.objects.filter(pk=int(remote_id)).exists()
    if hours not in HOURS or kind not in ("", *Kind.values) or (remote_id and not known):
        messages.error(request, "Nothing was silenced: choose a rule, a remote and a time from the lists.")
        return _to_list()
    match = Match(kind, int(remote_id) if known else None)
    try:
        silences.make(match, reason=request.POST.get("reason", ""), ends_at=now + timedelta(hours=int(hours)),
                      actor=actor_of(request.user), now=now)  # fmt: skip
    except SilenceInvalid as refusal:
        messages.error(request, f"Nothing was silenced: {refusal}")
    else:
        messages.success(request, "Silenced. Alerts still open and close, but nobody is told.")
    return _to_list()


@require_POST
def end_view(request: HttpRequest, silence_id: int) -> HttpResponse:
    """End a silence now."""
    if not rights.may_act(request.user):
        raise PermissionDenied
    if silences.end(silence_id, actor=actor_of(request.user), now=db_now()):
        messages.success(request, "Ended. What is still open is told with the next evaluation.")
    else:
        messages.info(request, "It had ended already.")
    return _to_list()


def _to_list() -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:ops_silence_changelist"))
