"""Resources: the list, the form, pull, probe and the guarantee card.

Owns: these pages. Guarantees: no transaction is open while a remote is called; the write part of a probe runs only
after its own page of consent; a pull runs in the background and shows how far it is.
"""

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin, ShowFacets
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from syncportal.ops.screens.changes import history_page
from syncportal.ops.screens.connection_badges import badge
from syncportal.ops.screens.forms import ResourceForm
from syncportal.ops.screens.guarantees import guarantee_lines
from syncportal.remote import configuration, probe
from syncportal.remote.configuration import ConfigurationInvalid
from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.models import Remote, Resource
from syncportal.sync import pull, rights
from syncportal.sync.models import Pull
from syncportal.sync.screens.page import fragment, render

VIEW, ADD, CHANGE = "remote.view_resource", "remote.add_resource", "remote.change_resource"

_PULL_STATES = {"running": "running", "done": "done", "failed": "given up"}


class ResourceAdmin(ModelAdmin):
    """Resources: the list and the addresses of their pages."""

    change_list_template = "remote/resource_list.html"
    list_display = ("resource", "of_remote", "record_count", "writes", "last_pull")
    list_display_links = None
    list_select_related = ("remote",)
    search_fields = ("slug", "name", "remote__slug", "remote__name")
    search_help_text = "Name, or name of the remote"
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    actions = None
    ordering = ("slug",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Resource]:
        """Return the resources with the number of their records."""
        present = Count("records", filter=Q(records__deleted_at__isnull=True))
        return Resource.objects.annotate(record_total=present).order_by("slug")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Add the newest pull of each row in one query."""
        changelist = super().get_changelist_instance(request)
        ids = [row.pk for row in changelist.result_list]
        newest: dict[int, Pull] = {}
        for one in Pull.objects.filter(resource_id__in=ids).order_by("resource_id", "-id")[:1000]:
            newest.setdefault(one.resource_id, one)
        for row in changelist.result_list:
            row.newest_pull = newest.get(row.pk)
        return changelist

    def resource(self, row: Resource) -> SafeString:
        """Show the name as the link."""
        address = reverse("admin:remote_resource_change", args=[row.pk])
        return format_html('<a class="row-title" href="{}">{}</a>', address, str(row))

    def of_remote(self, row: Resource) -> str:
        """Show the remote."""
        return str(row.remote)

    def record_count(self, row: Any) -> SafeString:
        """Show the number of records as the link to them."""
        address = f"{reverse('admin:sync_record_changelist')}?resource={row.slug}"
        return format_html('<a href="{}">{}</a>', address, f"{row.record_total:,}")

    def writes(self, row: Resource) -> SafeString:
        """Show what the guarantee card says of stale writes."""
        return conditional_badge(row)

    def last_pull(self, row: Any) -> str:
        """Show how the newest pull stands."""
        if row.newest_pull is None:
            return "never"
        state = _PULL_STATES.get(row.newest_pull.state, row.newest_pull.state)
        return f"{state}, {row.newest_pull.seen:,} seen"

    of_remote.short_description = "remote"  # type: ignore[attr-defined]
    record_count.short_description = "records"  # type: ignore[attr-defined]
    writes.short_description = "stale writes"  # type: ignore[attr-defined]

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses; none of our own pages runs in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="remote_resource_changelist"),
            path("add/", wrap(add), name="remote_resource_add"),
            path("<int:resource_id>/change/", wrap(change), name="remote_resource_change"),
            path("<int:resource_id>/history/", wrap(history), name="remote_resource_history"),
            path("<int:resource_id>/pull/", wrap(pull_state), name="remote_resource_pull"),
            path("<int:resource_id>/probe/", wrap(consent), name="remote_resource_probe"),
            path("<int:resource_id>/do/<slug:verb>/", wrap(do), name="remote_resource_do"),
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: its records would hang."""
        return False


def conditional_badge(resource: Resource) -> SafeString:
    """Return whether the remote refuses a stale write, as far as is known."""
    known = (resource.guarantees or {}).get("conditional_writes")
    if known == "yes":
        return badge("success", "check", "Refused")
    if known == "no":
        return badge("warning", "alert", "Not refused")
    return badge("info", "info", "Not probed" if resource.probed_at is None else "Unknown")


def _found(request: HttpRequest, resource_id: int, permission: str = VIEW) -> Resource:
    if not request.user.has_perm(permission):
        raise PermissionDenied
    resource = Resource.objects.select_related("remote").filter(pk=resource_id).first()
    if resource is None:
        raise Http404("There is no such resource.")
    return resource


def add(request: HttpRequest) -> HttpResponse:
    """Show the form of a new resource, or save it."""
    if not request.user.has_perm(ADD):
        raise PermissionDenied
    start = {"remote": request.GET.get("remote"), "conflict": "manual", "merge_disjoint": True, "rest": TEMPLATE}
    form = ResourceForm(request.POST or None, creating=True, initial=start)
    if request.method == "POST" and form.is_valid():
        slug = form.cleaned_data["slug"]
        if Resource.objects.filter(slug=slug).exists():
            form.add_error("slug", "There already is a resource with this slug.")
        else:
            saved = _saved(request, form, form.cleaned_data["remote"], slug)
            if saved is not None:
                messages.success(request, "Saved. Pull it to take over what the remote holds.")
                return HttpResponseRedirect(reverse("admin:remote_resource_change", args=[saved.pk]))
    return _page(request, None, form)


TEMPLATE = """{
  "list": {"path": "/things/", "items": "/items", "page": {"style": "none"}},
  "detail": {"path": "/things/{0}"},
  "id": ["/id"],
  "version": {"from": "body", "pointer": "/version"},
  "precondition": {"send": "if_match", "format": "\\"{}\\""},
  "conflict": {"statuses": [412]},
  "update": {"method": "PUT", "semantics": "replace"},
  "read_only": ["/id", "/version"],
  "schema": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
}"""


def change(request: HttpRequest, resource_id: int) -> HttpResponse:
    """Show a resource, or save its form."""
    resource = _found(request, resource_id)
    start = ResourceForm.initial_of(resource.name, resource.config)
    if request.method != "POST":
        return _page(request, resource, ResourceForm(creating=False, initial=start))
    if not request.user.has_perm(CHANGE):
        raise PermissionDenied
    form = ResourceForm(request.POST, creating=False, initial=start)
    if request.POST.get("seen") != resource.updated_at.isoformat():
        messages.error(
            request,
            "Somebody else saved this resource meanwhile; nothing was changed. Compare with its history, then save.",
        )
        return _page(request, resource, form, status=409)
    if form.is_valid() and _saved(request, form, resource.remote, resource.slug) is not None:
        messages.success(request, "Saved. It holds from the next call on.")
        return HttpResponseRedirect(reverse("admin:remote_resource_change", args=[resource.pk]))
    return _page(request, resource, form)


def _saved(request: HttpRequest, form: ResourceForm, remote: Remote, slug: str) -> Resource | None:
    try:
        saved = configuration.save_resource(
            remote=remote, slug=slug, name=form.cleaned_data["name"], config=form.config(), actor=request.user,
            reason="admin",
        )  # fmt: skip
    except ConfigurationInvalid as refusal:
        form.add_problems(refusal.problems)
        return None
    return saved.row if isinstance(saved.row, Resource) else None


def _page(request: HttpRequest, resource: Resource | None, form: ResourceForm, *, status: int = 0) -> HttpResponse:
    context = {
        "resource": resource,
        "form": form,
        "groups": form.groups(),
        "seen": resource.updated_at.isoformat() if resource else "",
        "card": guarantee_lines(resource.guarantees) if resource else (),
        "promise": (resource.guarantees or {}).get("promise", "") if resource else "",
        "stale_writes": conditional_badge(resource) if resource else "",
        "can_change": request.user.has_perm(CHANGE if resource else ADD),
        "can_run": may_run(request),
        "has_remotes": Remote.objects.exists(),
        **(_pull_context(resource) if resource else {}),
    }
    code = status or (422 if form.is_bound and form.errors else 200)
    title = str(resource) if resource else "Add a resource"
    return render(request, "remote/resource_page.html", title=title, context=context, status=code)


def may_run(request: HttpRequest) -> bool:
    """Tell whether the person may pull and probe: administrators and operations."""
    return request.user.has_perm(CHANGE) or rights.operates(request.user)


def _pull_context(resource: Resource) -> dict[str, Any]:
    newest = Pull.objects.filter(resource=resource).order_by("-id").first()
    listed = bool((resource.config or {}).get("list"))
    why = "" if listed else "The resource has no list to pull from."
    if newest is not None and newest.state == "running":
        why = "A pull is running already."
    return {"resource": resource, "pull": newest, "pulling": newest is not None and newest.state == "running",
            "why_no_pull": why, "may_go_on": pull.may_go_on(newest),
            "incremental": bool((resource.config or {}).get("modified_since"))}  # fmt: skip


def pull_state(request: HttpRequest, resource_id: int) -> HttpResponse:
    """Answer with how far the newest pull is."""
    resource = _found(request, resource_id)
    return fragment(request, "remote/_pull.html", {**_pull_context(resource), "can_run": may_run(request)})


def history(request: HttpRequest, resource_id: int) -> HttpResponse:
    """Show what changed."""
    resource = _found(request, resource_id)
    return history_page(request, resource, url_name="remote_resource", list_name="Resources")


def consent(request: HttpRequest, resource_id: int) -> HttpResponse:
    """Say what the write part of a probe does at the remote, and ask."""
    resource = _found(request, resource_id)
    if not may_run(request):
        raise PermissionDenied
    creates = bool((resource.config or {}).get("create"))
    context = {"resource": resource, "creates": creates}
    return render(request, "remote/probe_consent.html", title=f"Probe {resource} with writes", context=context)


@require_POST
def do(request: HttpRequest, resource_id: int, verb: str) -> HttpResponse:
    """Carry out one button and go back."""
    resource = _found(request, resource_id)
    if verb not in ("pull", "pull-full", "pull-on", "probe", "probe-write"):
        raise Http404("There is no such act.")
    if not may_run(request):
        raise PermissionDenied
    if verb in ("pull", "pull-full"):
        _pull(request, resource, full=verb == "pull-full")
    elif verb == "pull-on":
        _pull_on(request, resource)
    elif verb == "probe":
        _probe(request, resource, write=False)
    elif request.POST.get("consent") == "yes":
        _probe(request, resource, write=True)
    else:
        messages.error(request, "Nothing was written: tick the box to agree.")
        return HttpResponseRedirect(reverse("admin:remote_resource_probe", args=[resource.pk]))
    return HttpResponseRedirect(reverse("admin:remote_resource_change", args=[resource.pk]))


def _pull(request: HttpRequest, resource: Resource, *, full: bool) -> None:
    if not (resource.config or {}).get("list"):
        messages.error(request, "The resource has no list to pull from.")
        return
    pull.request(resource, full=full)
    messages.success(request, "The pull runs in the background; its counts appear below.")


def _pull_on(request: HttpRequest, resource: Resource) -> None:
    if pull.request_going_on(resource):
        messages.success(request, "The pull goes on in the background, with the page that failed.")
    else:
        messages.info(request, "Nothing was changed: no pull of this resource waits to go on.")


def _probe(request: HttpRequest, resource: Resource, *, write: bool) -> None:
    try:
        card = probe.run(resource, write=write, actor=request.user)
    except Misconfiguration as problem:
        messages.error(request, f"The remote cannot be asked: {problem.detail}")
    except RemoteError as problem:
        messages.error(request, f"The probe could not finish: {problem.detail} The card is as it was.")
    else:
        level = messages.WARNING if card.get("problems") or card.get("leftover") else messages.SUCCESS
        messages.add_message(request, level, "Probed. The guarantee card below is new.")
