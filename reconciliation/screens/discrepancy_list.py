"""The list of discrepancies: grouped by kind and cause, with field differences, and acts on many of them."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from reconciliation import bulk_acts, reports
from reconciliation.models import Discrepancy
from reconciliation.screens import discrepancy_page
from reconciliation.screens.looks import state_badge
from reconciliation.screens.run_list import ResourceFilter
from reconciliation.states import Cause, Kind, State
from syncportal.kernel.clock import db_now
from syncportal.sync import rights
from syncportal.sync.screens import bulk
from syncportal.sync.screens.history_lists import CappedPaginator
from syncportal.sync.screens.own_filters import OwnFilters
from syncportal.sync.screens.page import with_back
from syncportal.sync.screens.record_filters import RemoteFilter
from syncportal.sync.screens.values import cut, shown, time_tag

_SHOWN = 3
_ACTS = {"take_remote": bulk_acts.TAKE_REMOTE, "push_local": bulk_acts.PUSH_LOCAL, "ignore": bulk_acts.IGNORE}


class StateFilter(admin.SimpleListFilter):
    """Discrepancies by where they stand; the open ones unless somebody asks for others."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every state with how many discrepancies have it."""
        rows = Discrepancy.objects.visible_to(request.user).order_by()
        counts = dict(rows.values_list("state").annotate(number=Count("pk")))
        each = [(str(value), f"{label} ({counts.get(value, 0):,})") for value, label in State.choices]
        return [*each, ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        """Mark the open ones as chosen where nothing is."""
        for value, label in self.lookup_choices:
            yield {
                "selected": (self.value() or State.OPEN) == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": label,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those in the chosen state."""
        value = self.value() or State.OPEN
        return queryset if value == "all" else queryset.filter(state=value)


class KindFilter(admin.SimpleListFilter):
    """Discrepancies of one kind."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every kind."""
        return [(str(value), str(label)) for value, label in Kind.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen one."""
        return queryset.filter(kind=self.value()) if self.value() in Kind.values else queryset


class CauseFilter(admin.SimpleListFilter):
    """Discrepancies with one cause."""

    title = "cause"
    parameter_name = "cause"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every cause."""
        return [(str(value), str(label)) for value, label in Cause.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those with the chosen one."""
        return queryset.filter(cause=self.value()) if self.value() in Cause.values else queryset


class RunFilter(admin.SimpleListFilter):
    """Discrepancies that a run saw last; offered only while one is chosen, because there are many runs."""

    title = "run"
    parameter_name = "run"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer the chosen run."""
        run = request.GET.get("run", "")
        return [(run, f"Run #{run}")] if run.isdecimal() and len(run) < 18 else []

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen run."""
        return queryset.filter(run_id=int(str(self.value()))) if self.value() else queryset


class DiscrepancyAdmin(OwnFilters):
    """Discrepancies: the list, and the addresses of one."""

    change_list_template = "reconciliation/discrepancy_list.html"
    list_display = ("shown", "kind_shown", "differences_shown", "state_shown", "found")
    list_display_links = None
    list_filter = (StateFilter, KindFilter, CauseFilter, RemoteFilter, ResourceFilter, RunFilter)
    list_select_related = ("resource", "record")
    list_per_page = 50
    search_fields = ("external_id",)
    search_help_text = "External id"
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)
    actions = ("take_remote", "push_local", "ignore")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Discrepancy]:
        """Return the visible ones."""
        rows = Discrepancy.objects.visible_to(request.user).defer("record__data", "record__base")
        return rows.order_by("-id")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Tell the columns which list the person is on."""
        changelist = super().get_changelist_instance(request)
        for row in changelist.result_list:
            row.list_query = request.GET.urlencode()
        return changelist

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list with the groups among all that is open."""
        groups = reports.by_kind_and_cause(Discrepancy.objects.visible_to(request.user).open())
        context = {"groups": groups, "checked_at": db_now()}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @admin.display(description="Object", ordering="external_id")
    def shown(self, row: Any) -> SafeString:
        """Show the object as the link to the discrepancy."""
        address = with_back(reverse("admin:reconciliation_discrepancy_change", args=[row.pk]), row.list_query)
        title = cut(str(row.record), 60) if row.record is not None else cut(row.external_id, 60)
        return format_html(
            '<a class="row-title" href="{}">{}</a><br>'
            '<span class="muted small">{} · <span class="mono">{}</span></span>',
            address, title, row.resource, cut(row.external_id, 30),
        )  # fmt: skip

    @admin.display(description="Kind and cause", ordering="kind")
    def kind_shown(self, row: Discrepancy) -> SafeString:
        """Show how both sides differ, and why."""
        kind, cause = row.get_kind_display(), row.get_cause_display()
        return format_html('{}<br><span class="muted small">{}</span>', kind, cause)

    @admin.display(description="Here → remote")
    def differences_shown(self, row: Discrepancy) -> SafeString | str:
        """Show the first fields that differ."""
        lines = [
            (one.get("pointer", "").lstrip("/"), _words(one.get("local")), _words(one.get("remote")))
            for one in row.differences[:_SHOWN]
        ]
        more = len(row.differences) - _SHOWN
        if not lines:
            return cut(row.detail, 120) or "–"
        listed = format_html_join("", "<div><strong>{}</strong>: {} → {}</div>", lines)
        return format_html('{}<div class="muted small">and {} more</div>', listed, more) if more > 0 else listed

    @admin.display(description="State", ordering="state")
    def state_shown(self, row: Discrepancy) -> SafeString:
        """Show where it stands, and how often it came back."""
        again = format_html('<br><span class="muted small">came back {}×</span>', row.reopened) if row.reopened else ""
        return format_html("{}{}", state_badge(row), again)

    @admin.display(description="Found", ordering="found_at")
    def found(self, row: Discrepancy) -> SafeString:
        """Show when it was found first."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.found_at, now=db_now()))

    @admin.action(description="Take the remote's values …")
    def take_remote(self, request: HttpRequest, queryset: QuerySet[Discrepancy]) -> HttpResponse:
        """Preview repairing the chosen ones from the remote."""
        return bulk.prepare(request, bulk_acts.TAKE_REMOTE, queryset, back=request.GET.urlencode())

    @admin.action(description="Push our values …")
    def push_local(self, request: HttpRequest, queryset: QuerySet[Discrepancy]) -> HttpResponse:
        """Preview repairing the chosen ones at the remote."""
        return bulk.prepare(request, bulk_acts.PUSH_LOCAL, queryset, back=request.GET.urlencode())

    @admin.action(description="Ignore until they change …")
    def ignore(self, request: HttpRequest, queryset: QuerySet[Discrepancy]) -> HttpResponse:
        """Preview accepting the chosen ones."""
        return bulk.prepare(request, bulk_acts.IGNORE, queryset, back=request.GET.urlencode())

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer the acts that the person may start; never Django's own deletion."""
        offered = super().get_actions(request)
        return {name: act for name, act in offered.items() if name in _ACTS and _ACTS[name].may(request.user)}

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of one discrepancy, none of which runs in a transaction."""
        wrap, one = self.admin_site.admin_view, "<int:discrepancy_id>/"
        name = "reconciliation_discrepancy"
        return [
            path("", wrap(self.changelist_view), name=f"{name}_changelist"),
            path(one, wrap(discrepancy_page.discrepancy_view), name=f"{name}_change"),
            path(f"{one}do/<slug:verb>/", wrap(discrepancy_page.do_view), name=f"{name}_do"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who may look at records; which discrepancies, the queryset decides."""
        return rights.may_look(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Discrepancies are found, not made."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let those act whom the list's acts are for."""
        return rights.operates(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Discrepancies are never deleted by hand."""
        return False


def _words(value: Any) -> str:
    one = shown(value, limit=40)
    return "not set" if one.absent else "empty" if one.empty else one.text
