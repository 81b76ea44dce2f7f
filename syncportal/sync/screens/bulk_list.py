"""The list of bulk operations: who asked for what, how far it is, and what came of it."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from syncportal.bulk.acts import UnknownAct, act_of
from syncportal.bulk.models import BulkOperation
from syncportal.bulk.states import State
from syncportal.kernel.clock import db_now
from syncportal.sync import rights
from syncportal.sync.screens import bulk
from syncportal.sync.screens.own_filters import OwnFilters
from syncportal.sync.screens.values import badge, time_tag

_LOOKS = {
    State.RUNNING: ("info", "sync"), State.DONE: ("success", "check"), State.STOPPED: ("warning", "alert"),
    State.CANCELLED: ("info", "cross"), State.DRAFT: ("info", "clock"),
}  # fmt: skip


class StateFilter(admin.SimpleListFilter):
    """Operations by where they stand; previews that nobody confirmed are left out."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every state but the preview."""
        return [(str(value), str(label)) for value, label in State.choices if value != State.DRAFT]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those in the chosen state."""
        return queryset.filter(state=self.value()) if self.value() in State.values else queryset


class BulkOperationAdmin(OwnFilters):
    """Bulk operations: the list, and the addresses of one."""

    change_list_template = "bulk/operation_list.html"
    list_display = ("what", "status", "came_to", "who", "when")
    list_display_links = None
    list_filter = (StateFilter,)
    list_per_page = 50
    actions = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkOperation]:
        """Return the visible ones that were started."""
        return rights.visible_operations(request.user).exclude(state=State.DRAFT).order_by("-id")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list with the time of the look."""
        return super().changelist_view(request, {"checked_at": db_now(), **(extra_context or {})})

    @admin.display(description="What")
    def what(self, row: BulkOperation) -> SafeString:
        """Show the act as the link to the operation."""
        try:
            act = act_of(row.act)
            label = f"{act.label}: {row.total:,} {act.nouns[row.total != 1]}"
        except UnknownAct:
            label = f"{row.act}: {row.total:,}"
        address = reverse("admin:bulk_bulkoperation_change", args=[row.pk])
        return format_html('<a class="row-title" href="{}">{}</a>', address, label)

    @admin.display(description="State", ordering="state")
    def status(self, row: BulkOperation) -> SafeString:
        """Show where it stands."""
        tone, icon = _LOOKS[State(row.state)]
        return badge(tone, icon, str(State(row.state).label))

    @admin.display(description="Came to")
    def came_to(self, row: BulkOperation) -> str:
        """Show the numbers."""
        text = f"{row.done:,} done, {row.skipped:,} left out, {row.failed:,} failed"
        return f"{text}, {row.waiting + row.handed_over:,} open" if row.settled < row.total else text

    @admin.display(description="Asked by", ordering="user_label")
    def who(self, row: BulkOperation) -> str:
        """Show who asked."""
        return row.user_label

    @admin.display(description="When", ordering="created_at")
    def when(self, row: BulkOperation) -> SafeString:
        """Show when it was asked for."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.created_at, now=db_now()))

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of one operation, none of which runs in a transaction."""
        wrap, one = self.admin_site.admin_view, "<int:operation_id>/"
        return [
            path("", wrap(self.changelist_view), name="bulk_bulkoperation_changelist"),
            path(one, wrap(bulk.operation_view), name="bulk_bulkoperation_change"),
            path(f"{one}progress/", wrap(bulk.progress_view), name="bulk_bulkoperation_progress"),
            path(f"{one}start/", wrap(bulk.start_view), name="bulk_bulkoperation_start"),
            path(f"{one}do/<slug:verb>/", wrap(bulk.act_view), name="bulk_bulkoperation_do"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who may look at records; which operations, the queryset decides."""
        return rights.may_look(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Operations begin in the list of what they act on."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Operations are changed by their own acts only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Operations are never deleted by hand."""
        return False
