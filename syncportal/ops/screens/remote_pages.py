"""Remotes: the list, the form, and the buttons test, pause, resume.

Owns: these pages. Guarantees: no transaction is open while a remote is called; a form that somebody else overtook is
not saved; every change is in the history with who did it. Does not: delete a remote; its records would hang.
"""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin, ShowFacets, display
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from syncportal.kernel.clock import db_now
from syncportal.ops.screens.changes import history_page
from syncportal.ops.screens.connection_badges import check_badge, gate_badge
from syncportal.ops.screens.forms import RemoteForm
from syncportal.remote import configuration, connection
from syncportal.remote.configuration import ConfigurationInvalid
from syncportal.remote.models import Gate, Remote
from syncportal.sync import operate
from syncportal.sync.models import SyncJob
from syncportal.sync.screens.page import actor_of, render
from syncportal.sync.states import CLAIMABLE

VIEW, ADD, CHANGE = "remote.view_remote", "remote.add_remote", "remote.change_remote"


class RemoteAdmin(ModelAdmin):
    """Remotes: the list and the addresses of their pages."""

    change_list_template = "remote/remote_list.html"
    list_display = ("remote", "address", "state", "checked", "resource_count")
    list_display_links = None
    list_select_related = ("gate",)
    search_fields = ("slug", "name", "base_url")
    search_help_text = "Name or address"
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    actions = None
    ordering = ("slug",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Remote]:
        """Return the remotes with the number of their resources."""
        return Remote.objects.annotate(resource_total=Count("resources")).order_by("slug")

    @staticmethod
    def _gate(row: Remote) -> Gate | None:
        return getattr(row, "gate", None)

    def remote(self, row: Remote) -> SafeString:
        """Show the name as the link."""
        address = reverse("admin:remote_remote_change", args=[row.pk])
        return format_html('<a class="row-title" href="{}">{}</a>', address, str(row))

    def address(self, row: Remote) -> SafeString:
        """Show the base URL."""
        return format_html('<span class="mono">{}</span>', row.base_url)

    def state(self, row: Remote) -> SafeString:
        """Show whether calls go out."""
        return gate_badge(self._gate(row))

    def checked(self, row: Remote) -> SafeString:
        """Show the last connection test."""
        return check_badge(self._gate(row))

    @staticmethod
    @display(description="Resources")
    def resource_count(row: Any) -> int:
        """Show how many resources it has."""
        return int(row.resource_total)

    checked.short_description = "last test"  # type: ignore[attr-defined]
    state.short_description = "calls"  # type: ignore[attr-defined]

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses; none of our own pages runs in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="remote_remote_changelist"),
            path("add/", wrap(add), name="remote_remote_add"),
            path("<int:remote_id>/change/", wrap(change), name="remote_remote_change"),
            path("<int:remote_id>/history/", wrap(history), name="remote_remote_history"),
            path("<int:remote_id>/do/<slug:verb>/", wrap(do), name="remote_remote_do"),
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: its records would hang."""
        return False


def _found(request: HttpRequest, remote_id: int, permission: str = VIEW) -> Remote:
    if not request.user.has_perm(permission):
        raise PermissionDenied
    remote = Remote.objects.select_related("gate").filter(pk=remote_id).first()
    if remote is None:
        raise Http404("There is no such remote.")
    return remote


def add(request: HttpRequest) -> HttpResponse:
    """Show the form of a new remote, or save it."""
    if not request.user.has_perm(ADD):
        raise PermissionDenied
    form = RemoteForm(request.POST or None, remote=None, initial={"auth_kind": "none"})
    if request.method == "POST" and form.is_valid():
        slug = form.cleaned_data["slug"]
        if Remote.objects.filter(slug=slug).exists():
            form.add_error("slug", "There already is a remote with this slug.")
        else:
            saved = _saved(request, form, slug)
            if saved is not None:
                messages.success(request, "Connected. Test the connection, then add its resources.")
                return HttpResponseRedirect(reverse("admin:remote_remote_change", args=[saved.pk]))
    return _page(request, None, form)


def change(request: HttpRequest, remote_id: int) -> HttpResponse:
    """Show a remote, or save its form."""
    remote = _found(request, remote_id)
    if request.method != "POST":
        return _page(request, remote, RemoteForm(remote=remote, initial=RemoteForm.initial_of(remote)))
    if not request.user.has_perm(CHANGE):
        raise PermissionDenied
    form = RemoteForm(request.POST, remote=remote, initial=RemoteForm.initial_of(remote))
    if request.POST.get("seen") != _stamp(remote.updated_at):
        messages.error(
            request,
            "Somebody else saved this remote meanwhile; nothing was changed. Compare with its history, then save.",
        )
        return _page(request, remote, form, status=409)
    if form.is_valid() and _saved(request, form, remote.slug) is not None:
        messages.success(request, "Saved. It holds from the next call on.")
        return HttpResponseRedirect(reverse("admin:remote_remote_change", args=[remote.pk]))
    return _page(request, remote, form)


def _saved(request: HttpRequest, form: RemoteForm, slug: str) -> Remote | None:
    cleaned = form.cleaned_data
    try:
        saved = configuration.save_remote(
            slug=slug, name=cleaned["name"], base_url=cleaned["base_url"], config=form.config(),
            secret=form.new_secret(), actor=request.user, reason="admin",
        )  # fmt: skip
    except ConfigurationInvalid as refusal:
        form.add_problems(refusal.problems)
        return None
    return saved.row if isinstance(saved.row, Remote) else None


def _stamp(moment: datetime) -> str:
    return moment.isoformat()


def _page(request: HttpRequest, remote: Remote | None, form: RemoteForm, *, status: int = 0) -> HttpResponse:
    gate = getattr(remote, "gate", None) if remote else None
    waiting = SyncJob.objects.filter(remote=remote, status__in=sorted(CLAIMABLE)).count() if remote else 0
    resources = (
        remote.resources.annotate(number=Count("records", filter=Q(records__deleted_at__isnull=True)))
        if remote is not None
        else ()
    )
    context = {
        "remote": remote,
        "form": form,
        "groups": form.groups(),
        "gate": gate,
        "check": check_badge(gate),
        "calls": gate_badge(gate),
        "seen": _stamp(remote.updated_at) if remote else "",
        "had_auth": "auth" in remote.config if remote else False,
        "can_change": request.user.has_perm(CHANGE if remote else ADD),
        "can_pause": may_pause(request),
        "resources": resources,
        "waiting": waiting,
        "now": db_now(),
    }
    code = status or (422 if form.is_bound and form.errors else 200)
    title = str(remote) if remote else "Connect a remote"
    return render(request, "remote/remote_page.html", title=title, context=context, status=code)


def may_pause(request: HttpRequest) -> bool:
    """Tell whether the person may stop and start calls: administrators and operations."""
    return request.user.has_perm(CHANGE) or request.user.has_perm("sync.operate_records")


def history(request: HttpRequest, remote_id: int) -> HttpResponse:
    """Show what changed."""
    remote = _found(request, remote_id)
    return history_page(request, remote, url_name="remote_remote", list_name="Remotes")


@require_POST
def do(request: HttpRequest, remote_id: int, verb: str) -> HttpResponse:
    """Carry out one button and go back."""
    remote = _found(request, remote_id)
    if verb not in ("test", "pause", "resume"):
        raise Http404("There is no such act.")
    if not may_pause(request):
        raise PermissionDenied
    if verb == "test":
        _test(request, remote)
    elif verb == "pause":
        detail = request.POST.get("detail", "").strip()[:300] or f"Paused by {request.user.get_username()}"
        done = operate.pause(remote, detail=detail, actor=actor_of(request.user))
        said = "Paused. Edits are kept and go out after you resume it." if done else "It is paused already."
        messages.add_message(request, messages.SUCCESS if done else messages.INFO, said)
    else:
        done = operate.resume(remote, actor=actor_of(request.user))
        said = "Resumed. What waited goes out now." if done else "It was not paused."
        messages.add_message(request, messages.SUCCESS if done else messages.INFO, said)
    return HttpResponseRedirect(reverse("admin:remote_remote_change", args=[remote.pk]))


def _test(request: HttpRequest, remote: Remote) -> None:
    report = connection.test(remote)
    level = {"ONLINE": messages.SUCCESS, "DEGRADED": messages.WARNING}.get(report.status, messages.ERROR)
    messages.add_message(request, level, f"{report.status} after {report.ms} ms. {report.detail}")
