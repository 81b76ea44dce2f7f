"""What both lists share: nobody edits rows by hand, filters by resource and age, rights."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from syncportal.kernel.clock import db_now
from syncportal.remote.models import Resource
from syncportal.sync import rights
from syncportal.sync.screens.history_lists import CappedPaginator
from syncportal.sync.screens.own_filters import OwnFilters

NOTHING = format_html('<span class="nothing">{}</span>', "–")  # a phone, which has no columns, leaves it out
AGES = {"1h": ("within an hour", timedelta(hours=1)), "1d": ("within a day", timedelta(days=1)),
        "7d": ("within 7 days", timedelta(days=7))}  # fmt: skip
Choices = Iterable[tuple[str, str]]


class ReadOnlyList(OwnFilters):
    """A list that is changed through its pages' own acts only."""

    actions: Any = None
    list_display_links = None
    list_per_page = 50
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Tell the columns which list the person is on, and when it was looked at."""
        changelist = super().get_changelist_instance(request)
        back, now = request.GET.urlencode(), db_now()
        for row in changelist.result_list:
            row.list_query, row.shown_at = back, now
        return changelist

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list with the time of the look, for "nothing, last checked"."""
        return super().changelist_view(request, {"checked_at": db_now(), **(extra_context or {})})

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who may look at records; which rows, the queryset decides."""
        return rights.may_look(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody makes rows by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are changed by their acts only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are never deleted by hand."""
        return False


class AgeFilter(admin.SimpleListFilter):
    """Rows made lately."""

    title = "time"
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer some ages."""
        return [(key, label) for key, (label, _) in AGES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the rows made since then."""
        chosen = AGES.get(self.value() or "")
        return queryset.filter(created_at__gte=db_now() - chosen[1]) if chosen else queryset


def resources() -> Choices:
    """Return every resource by slug and name."""
    return [(slug, name or slug) for slug, name in Resource.objects.values_list("slug", "name")]
