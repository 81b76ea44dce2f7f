"""The list of records.

Owns: columns, search and the way into the pages of one record and of bulk acts. Guarantees: a constant number of
queries whatever the number of rows, none of which counts past 10,000; the content is never loaded; owners see their own
records only.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from syncportal.kernel.bulk import among
from syncportal.kernel.clock import db_now
from syncportal.remote.models import Resource
from syncportal.sync import bulk_acts, record_search, rights
from syncportal.sync.models import Record
from syncportal.sync.screens import bulk, record_create, record_delete, record_page, record_verbs
from syncportal.sync.screens.history_lists import MOST, CappedPaginator
from syncportal.sync.screens.own_filters import OwnFilters
from syncportal.sync.screens.page import with_back
from syncportal.sync.screens.record_filters import (
    AgeFilter,
    DeletedFilter,
    ErrorGroupFilter,
    OwnerFilter,
    RemoteFilter,
    ResourceFilter,
    StatusFilter,
)  # fmt: skip
from syncportal.sync.screens.values import cut, status_badge, time_tag
from syncportal.sync.states import Status

PROBLEM_CHARS = 90
_ACTS = {
    "requeue": bulk_acts.REQUEUE, "requeue_in_steps": bulk_acts.REQUEUE, "refresh": bulk_acts.REFRESH,
    "assign": bulk_acts.ASSIGN,
}  # fmt: skip

_OF_ROOMS_ABOVE: dict[str, Callable[..., HttpResponse]] = {}


def offer_to_operations(act: Callable[..., HttpResponse]) -> None:
    """Offer operations an act of a room above on chosen records; called when its pages are registered."""
    _OF_ROOMS_ABOVE[act.__name__] = act


class RecordAdmin(OwnFilters):
    """Records: the list, and the addresses of everything that belongs to one of them."""

    change_list_template = "sync/record_list.html"
    list_display = ("record", "status", "external", "resource_name", "owner_name", "age", "problem")
    list_display_links = None
    list_filter = (StatusFilter, RemoteFilter, ResourceFilter, OwnerFilter, AgeFilter, ErrorGroupFilter, DeletedFilter)
    list_select_related = ("job", "resource", "owner")
    list_per_page = 50
    paginator = CappedPaginator
    list_max_show_all = 200
    search_fields = ("title",)
    search_help_text = "Id, title, owner, last problem, or any value of the record"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("requeue", "requeue_in_steps", "refresh", "assign")
    _now: datetime | None = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Record]:
        """Return what the person may see, without the content."""
        shown = Record.objects.visible_to(request.user).defer("data", "base", "content_hash")
        return shown.order_by(*self.get_ordering(request))

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        """Find records in which every word stands: as many as the list can show, or an act can take and one more.

        They are looked for once, because the list would search all records to count and again to show a page.
        """
        words = record_search.words_of(search_term)
        if not words:
            return queryset, False
        most = bulk.MOST + 1 if request.method == "POST" else MOST
        found = record_search.first_ids(queryset, words, user=request.user, most=most)
        return queryset.filter(pk__in=among(found)), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list; add what its empty states and columns need."""
        request.__dict__["shown_at"] = db_now()
        context = {
            "has_resources": Resource.objects.exists(),
            "back": request.GET.urlencode(),
            "only_dead_letters": request.GET.get(StatusFilter.parameter_name) == Status.DEAD_LETTER,
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Tell the columns which list the person is on, so that each link leads back to it."""
        changelist = super().get_changelist_instance(request)
        back, now = request.GET.urlencode(), request.__dict__.get("shown_at") or db_now()
        for row in changelist.result_list:
            row.list_query, row.shown_at = back, now
        return changelist

    @admin.display(description="Record", ordering="title")
    def record(self, row: Any) -> SafeString:
        """Show the title as the link to the record."""
        address = with_back(reverse("admin:sync_record_change", args=[row.pk]), row.list_query)
        gone = format_html(' <span class="badge">{}</span>', "deleted") if row.deleted_at else ""
        return format_html(
            '<a class="row-title" href="{}" title="{}">{}</a>{}', address, str(row), cut(str(row), 80), gone
        )

    @admin.display(description="Status", ordering="job__status")
    def status(self, row: Any) -> SafeString:
        """Show the badge."""
        return status_badge(row.job.status)

    @admin.display(description="External id", ordering="external_id")
    def external(self, row: Any) -> SafeString:
        """Show the remote's id."""
        if not row.external_id:
            return format_html('<span class="muted">{}</span>', "not yet")
        return format_html('<span class="mono" title="{}">{}</span>', row.external_id, cut(row.external_id, 24))

    @admin.display(description="Resource", ordering="resource__slug")
    def resource_name(self, row: Any) -> str:
        """Show the resource."""
        return str(row.resource)

    @admin.display(description="Owner", ordering="owner__username")
    def owner_name(self, row: Any) -> SafeString | str:
        """Show who looks after it."""
        return row.owner.get_username() if row.owner else format_html('<span class="muted">{}</span>', "–")

    @admin.display(description="In status", ordering="-job__status_since")
    def age(self, row: Any) -> SafeString:
        """Show how long it has stood in its status."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.job.status_since, now=row.shown_at))

    @admin.display(description="Last problem")
    def problem(self, row: Any) -> SafeString | str:
        """Show why it stands where it stands; the whole sentence on hover and on the record's page."""
        detail = row.job.detail
        if not detail:
            return format_html('<span class="problem"></span>{}', "")
        return format_html('<span class="problem" title="{}">{}</span>', detail[:1000], cut(detail, PROBLEM_CHARS))

    @admin.action(description="Requeue …")
    def requeue(self, request: HttpRequest, queryset: QuerySet[Record]) -> HttpResponse:
        """Preview giving the chosen records another try."""
        return bulk.prepare(request, bulk_acts.REQUEUE, queryset, back=request.GET.urlencode())

    @admin.action(description="Requeue in steps of 1, 10, 100 …")
    def requeue_in_steps(self, request: HttpRequest, queryset: QuerySet[Record]) -> HttpResponse:
        """Preview giving the chosen records another try, a few first, stopping at the first that fails again."""
        return bulk.prepare(request, bulk_acts.REQUEUE, queryset, back=request.GET.urlencode(), ramp=True)

    @admin.action(description="Refresh from remote …")
    def refresh(self, request: HttpRequest, queryset: QuerySet[Record]) -> HttpResponse:
        """Preview reading the chosen records again."""
        return bulk.prepare(request, bulk_acts.REFRESH, queryset, back=request.GET.urlencode())

    @admin.action(description="Assign to an owner …")
    def assign(self, request: HttpRequest, queryset: QuerySet[Record]) -> HttpResponse:
        """Preview giving the chosen records to somebody."""
        return bulk.prepare(request, bulk_acts.ASSIGN, queryset, back=request.GET.urlencode())

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer the acts that the person may start; never Django's own deletion."""
        offered = super().get_actions(request)
        own = {name: act for name, act in offered.items() if name in _ACTS and _ACTS[name].may(request.user)}
        if not rights.operates(request.user):
            return own
        above = {name: (act, name, str(vars(act)["short_description"])) for name, act in _OF_ROOMS_ABOVE.items()}
        return own | above

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of our own pages, none of which runs in a transaction."""
        wrap = self.admin_site.admin_view
        one = "<int:record_id>/"
        return [
            path("", wrap(self.changelist_view), name="sync_record_changelist"),
            path("add/", wrap(record_create.add), name="sync_record_add"),
            path(f"{one}change/", wrap(record_page.change), name="sync_record_change"),
            path(f"{one}delete/", wrap(record_delete.delete), name="sync_record_delete"),
            path(f"{one}state/", wrap(record_page.state), name="sync_record_state"),
            path(f"{one}timeline/", wrap(record_page.history), name="sync_record_timeline"),
            path(f"{one}do/<slug:verb>/", wrap(record_verbs.do), name="sync_record_do"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who may look; which rows, the queryset decides."""
        return rights.may_look(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let people add who may create."""
        return rights.may_create(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people act whom the list's actions are for."""
        return request.user.has_perm("sync.change_record") or rights.operates(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never delete from the list: each record has its own preview."""
        return False
