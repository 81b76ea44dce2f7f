"""The list of runs: when both sides were compared, how far apart they were, how it develops, and starting one."""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from reconciliation import reports, runs
from reconciliation.journal import AlreadyRunning
from reconciliation.models import Run
from reconciliation.reports import Point
from reconciliation.runs import NotPossible, StartedAll
from reconciliation.screens import run_page
from reconciliation.screens.looks import run_badge
from reconciliation.states import Kind, Origin, RunState
from syncportal.kernel.clock import db_now
from syncportal.remote.models import Resource
from syncportal.sync import rights
from syncportal.sync.querysets import sees_everything
from syncportal.sync.screens.history_lists import CappedPaginator
from syncportal.sync.screens.own_filters import OwnFilters
from syncportal.sync.screens.page import actor_of
from syncportal.sync.screens.values import time_tag

_LABELS = dict(Kind.choices)


class ResourceFilter(admin.SimpleListFilter):
    """Runs of one resource."""

    title = "resource"
    parameter_name = "resource"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every resource."""
        return [(slug, name or slug) for slug, name in Resource.objects.order_by("slug").values_list("slug", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen one."""
        return queryset.filter(resource__slug=self.value()) if self.value() else queryset


class RunStateFilter(admin.SimpleListFilter):
    """Runs by where they stand."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every state."""
        return [(str(value), str(label)) for value, label in RunState.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those in the chosen state."""
        return queryset.filter(state=self.value()) if self.value() in RunState.values else queryset


@dataclass(frozen=True, slots=True)
class Bar:
    """One run in the chart: its place in percent of the width, its height in percent."""

    point: Point
    x: float
    width: float
    height: float

    @property
    def y(self) -> float:
        """Return where the bar begins, seen from above."""
        return 100 - self.height


class RunAdmin(OwnFilters):
    """Runs: the list, and the addresses of one."""

    change_list_template = "reconciliation/run_list.html"
    list_display = ("what", "status", "compared", "found", "fixed_shown", "left", "took", "begun")
    list_display_links = None
    list_filter = (ResourceFilter, RunStateFilter)
    list_select_related = ("resource",)
    list_per_page = 50
    actions = None
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        """Return the visible runs, without what they work with."""
        return Run.objects.visible_to(request.user).defer("cursor", "record_ids").order_by("-id")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list with the way to start a run and, for one resource, how it developed."""
        resources = list(Resource.objects.select_related("remote").order_by("slug"))
        chosen = next((one for one in resources if one.slug == request.GET.get("resource")), None)
        points = reports.over_time(self.get_queryset(request).filter(resource=chosen)) if chosen else []
        context = {
            "resources": resources, "chosen": chosen, "bars": bars(points), "points": points[::-1],
            "most": max((point.differing for point in points), default=0),
            "may_start": rights.operates(request.user), "checked_at": db_now(),
        }  # fmt: skip
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @admin.display(description="Run")
    def what(self, row: Run) -> SafeString:
        """Show what was compared as the link to the run."""
        address = reverse("admin:reconciliation_run_change", args=[row.pk])
        dry = format_html(' <span class="badge badge--info">{}</span>', "dry run") if row.dry_run else ""
        return format_html(
            '<a class="row-title" href="{}">{} #{}</a>{}<br><span class="muted small">{}, {}</span>',
            address, row.resource, row.pk, dry, row.get_scope_display(), Origin(row.origin).label.lower(),
        )  # fmt: skip

    @admin.display(description="State", ordering="state")
    def status(self, row: Run) -> SafeString:
        """Show where it stands."""
        done = reports.percent_done(row)
        if row.state == RunState.RUNNING and done is not None:
            return format_html('{} <span class="muted small">{} %</span>', run_badge(row), done)
        return run_badge(row)

    @admin.display(description="Compared", ordering="checked")
    def compared(self, row: Run) -> str:
        """Show how many rows were looked at."""
        return f"{row.checked:,}"

    @admin.display(description="Differences")
    def found(self, row: Run) -> SafeString | str:
        """Show how many differences of which kind were confirmed, each as a link to them."""
        page = reverse("admin:reconciliation_discrepancy_changelist")
        parts = [
            (page, row.pk, kind, f"{number:,}", _LABELS[kind].lower())
            for kind, number in reports.counts(row).items()
            if number
        ]
        if not parts:
            return "–" if row.state in (RunState.FAILED, RunState.CANCELLED) else "none"
        return format_html_join("", '<div><a href="{}?run={}&amp;kind={}&amp;state=all">{} {}</a></div>', parts)

    @admin.display(description="Repaired", ordering="fixed")
    def fixed_shown(self, row: Run) -> str:
        """Show how many were repaired by policy, or would have been."""
        return f"{row.planned:,} planned" if row.dry_run else f"{row.fixed:,}"

    @admin.display(description="For a person", ordering="needing_action")
    def left(self, row: Run) -> str:
        """Show how many were left to a person."""
        return f"{row.needing_action:,}"

    @admin.display(description="Took")
    def took(self, row: Run) -> SafeString:
        """Show how long it took, and how fast it compared."""
        return format_html(
            '<span class="nowrap">{}</span><br><span class="muted small nowrap">{} rows/s</span>',
            run_page.duration(reports.duration_s(row)), f"{reports.rows_per_s(row):,.0f}",
        )  # fmt: skip

    @admin.display(description="Begun", ordering="started_at")
    def begun(self, row: Run) -> SafeString:
        """Show when it began."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.started_at, now=db_now()))

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of one run, none of which runs in a transaction."""
        wrap, one = self.admin_site.admin_view, "<int:run_id>/"
        return [
            path("", wrap(self.changelist_view), name="reconciliation_run_changelist"),
            path("start/", wrap(start), name="reconciliation_run_start"),
            path(one, wrap(run_page.run_view), name="reconciliation_run_change"),
            path(f"{one}progress/", wrap(run_page.progress_view), name="reconciliation_run_progress"),
            path(f"{one}cancel/", wrap(run_page.cancel_view), name="reconciliation_run_cancel"),
            path(f"{one}apply/", wrap(run_page.apply_view), name="reconciliation_run_apply"),
            path(f"{one}discrepancies.csv", wrap(run_page.csv_view), name="reconciliation_run_csv"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who see every record: a run's counts tell about all of them."""
        return rights.may_look(request.user) and sees_everything(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Runs are started by their own form."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Runs are changed by the worker only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Runs are never deleted by hand."""
        return False


def bars(points: list[Point]) -> list[Bar]:
    """Return the runs as bars whose height is their number of differences; the axis begins at zero."""
    if not points:
        return []
    most, width = max(1, *(point.differing for point in points)), 100 / len(points)
    return [
        Bar(point, x=number * width, width=width * 0.8, height=100 * point.differing / most)
        for number, point in enumerate(points)
    ]


def _told(begun: StartedAll) -> str:
    started, running = len(begun.runs), len(begun.running)
    text = f"{started} {ngettext('run', 'runs', started)} began"
    if not running:
        return f"{text}."
    return f"{text}, {running} {ngettext('resource was', 'resources were', running)} at it already."


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Start a run of one resource, or of all."""
    if not rights.operates(request.user):
        raise PermissionDenied
    actor, dry_run, slug = actor_of(request.user), "dry_run" in request.POST, request.POST.get("resource", "")
    home = HttpResponseRedirect(reverse("admin:reconciliation_run_changelist"))
    if slug == "*":
        begun = runs.start_all(actor=actor, dry_run=dry_run)
        messages.success(request, _told(begun))
        return home
    resource = Resource.objects.select_related("remote").filter(slug=slug[:200].replace("\x00", "")).first()
    if resource is None:
        messages.error(request, "Choose a resource; nothing was started.")
        return home
    try:
        run_id: int | None = runs.start(resource, actor=actor, dry_run=dry_run).pk
    except AlreadyRunning as running:
        messages.info(request, "This resource is being compared right now; this is that run.")
        run_id = running.run_id
    except NotPossible as refused:
        messages.error(request, str(refused))
        return home
    return HttpResponseRedirect(reverse("admin:reconciliation_run_change", args=[run_id])) if run_id else home
