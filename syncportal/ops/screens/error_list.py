"""The list of error groups: what is the one cause of these failures, since when, how many, and is it growing.

Owns: columns and filters. Guarantees: a constant number of queries; owners see groups that affect their own records and
only those numbers; a group that affects nothing any more is shown when it is asked for.
"""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from syncportal.kernel.clock import db_now
from syncportal.ops.screens import error_page
from syncportal.ops.screens.error_looks import sparkline, state_badge
from syncportal.remote.models import Remote, Resource
from syncportal.sync import error_reading, rights
from syncportal.sync.error_reading import failing
from syncportal.sync.error_states import GroupState
from syncportal.sync.querysets import sees_everything
from syncportal.sync.rollups import HOUR_S
from syncportal.sync.screens.history_lists import CappedPaginator
from syncportal.sync.screens.own_filters import OwnFilters
from syncportal.sync.screens.page import with_back
from syncportal.sync.screens.values import cut, in_words, time_tag

TREND = timedelta(hours=24)
LONGEST_CODE = 40
Choices = list[tuple[str, str]]


class StateFilter(admin.SimpleListFilter):
    """Groups by where they stand; the open ones unless somebody asks for others."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every state with how many groups have it."""
        counts = error_reading.by_state(error_reading.groups_of(request.user, now=db_now()))
        offered = [state for state in GroupState if state != GroupState.OVER or sees_everything(request.user)]
        return [*((state.value, f"{state.label} ({counts[state.value]:,})") for state in offered), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        """Mark the open ones as chosen where nothing is."""
        for value, label in self.lookup_choices:
            yield {
                "selected": (self.value() or GroupState.OPEN) == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": label,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those in the chosen state."""
        value = self.value() or GroupState.OPEN.value
        return queryset.filter(state=value) if value in GroupState.values else queryset


class RemoteFilter(admin.SimpleListFilter):
    """Groups of one remote."""

    title = "remote"
    parameter_name = "remote"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every remote with how many groups affect something there."""
        counts = dict(error_reading.live(request.user).values_list("remote_id").annotate(number=Count("pk")))
        rows = Remote.objects.values_list("pk", "slug", "name")
        found = [(slug, f"{name or slug} ({counts.get(pk, 0):,})") for pk, slug, name in rows]
        return found if len(found) > 1 or self.value() else []

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen one."""
        return queryset.filter(remote__slug=self.value()) if self.value() else queryset


class ResourceFilter(admin.SimpleListFilter):
    """Groups that affect records of one resource."""

    title = "resource"
    parameter_name = "resource"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every resource with how many groups affect it."""
        rows = failing(request.user).order_by().values_list("resource_id")
        counts = dict(rows.annotate(number=Count("error_group", distinct=True)))
        names = Resource.objects.values_list("pk", "slug", "name")
        return [(slug, f"{name or slug} ({counts.get(pk, 0):,})") for pk, slug, name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those that affect the chosen one."""
        if not self.value():
            return queryset
        touching = failing(request.user).filter(resource__slug=self.value())
        return queryset.filter(pk__in=touching.order_by().values("error_group_id"))


class KindFilter(admin.SimpleListFilter):
    """Groups of one class of error."""

    title = "class"
    parameter_name = "class"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer the classes there are with how many groups have them."""
        counts = dict(
            error_reading.live(request.user).values_list("kind").annotate(number=Count("pk")).order_by("kind")
        )
        if self.value() and self.value() not in counts:
            counts[str(self.value())] = 0
        return [
            (kind, f"{kind.replace('_', ' ').capitalize()} ({number:,})") for kind, number in counts.items() if kind
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen one."""
        return queryset.filter(kind=self.value()) if self.value() else queryset


class CodeFilter(admin.SimpleListFilter):
    """Groups with one code, or kind where there is no code; shown while an address names it."""

    title = "code"
    parameter_name = "code"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer the chosen one."""
        return [(self.value() or "", (self.value() or "")[:LONGEST_CODE])] if self.value() else []

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those with it."""
        chosen = self.value()
        return queryset.filter(Q(code=chosen) | Q(code="", kind=chosen)) if chosen else queryset


class ErrorGroupAdmin(OwnFilters):
    """Error groups: the list, and the addresses of one."""

    change_list_template = "ops/error_list.html"
    list_display = ("cause", "affected_shown", "trend", "last_seen", "first_seen", "state_shown")
    list_display_links = None
    list_filter = (StateFilter, RemoteFilter, ResourceFilter, KindFilter, CodeFilter)
    list_select_related = ("remote",)
    list_per_page = 50
    search_fields = ("message", "code", "note")
    search_help_text = "Message, code or note"
    actions = None
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-last_seen_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return what the person may see, with their numbers."""
        rows = error_reading.groups_of(request.user, now=db_now())
        return rows.defer("remote__secret", "remote__config").order_by(*self.ordering)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Add the trend of the shown rows, and tell the columns which list the person is on."""
        changelist = super().get_changelist_instance(request)
        back, now = request.GET.urlencode(), db_now()
        rows = list(changelist.result_list)
        hours = error_reading.hours_of(request.user, [row.pk for row in rows], since=now - TREND)
        spans = {} if sees_everything(request.user) else error_reading.own_span(request.user, [row.pk for row in rows])
        for row in rows:
            row.list_query, row.shown_at = back, now
            row.trend_slots = error_reading.slots(hours.get(row.pk, {}), since=now - TREND, now=now, slot_s=HOUR_S)
            row.first_seen_at, row.last_seen_at = spans.get(row.pk, (row.first_seen_at, row.last_seen_at))[:2]
        changelist.result_list = rows
        return changelist

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list with the time of the look."""
        return super().changelist_view(request, {"checked_at": db_now(), **(extra_context or {})})

    @admin.display(description="Cause")
    def cause(self, row: Any) -> SafeString:
        """Show what went wrong as the link to the group."""
        address = with_back(reverse("admin:sync_errorgroup_change", args=[row.pk]), row.list_query)
        note = format_html('<br><span class="small">{}</span>', cut(row.note, 90)) if row.note else ""
        return format_html(
            '<a class="row-title" href="{}" title="{}">{}</a><br><span class="muted small">{} · {}</span>{}',
            address, str(row), cut(str(row), 90), row.remote, row.code or in_words(row.kind), note,
        )  # fmt: skip

    @admin.display(description="Records", ordering="affected")
    def affected_shown(self, row: Any) -> SafeString:
        """Show how many records still fail as the link to them."""
        if not row.affected:
            return format_html('<span class="muted">{}</span>', "none")
        address = f"{reverse('admin:sync_record_changelist')}?error_group={row.pk}"
        return format_html('<a class="number" href="{}">{}</a>', address, f"{row.affected:,}")

    @admin.display(description="Last 24 hours")
    def trend(self, row: Any) -> SafeString:
        """Show the failed attempts of each hour as small bars."""
        return sparkline(row.trend_slots)

    @admin.display(description="Last seen", ordering="last_seen_at")
    def last_seen(self, row: Any) -> SafeString:
        """Show when it happened last."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.last_seen_at, now=row.shown_at))

    @admin.display(description="First seen", ordering="first_seen_at")
    def first_seen(self, row: Any) -> SafeString:
        """Show when it happened first."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.first_seen_at, now=row.shown_at))

    @admin.display(description="State")
    def state_shown(self, row: Any) -> SafeString:
        """Show where it stands."""
        if row.state != GroupState.SNOOZED or row.snoozed_until is None:
            return state_badge(row.state)
        return format_html(
            '{}<br><span class="muted small nowrap">for {}</span>',
            state_badge(row.state), time_tag(row.snoozed_until, now=row.shown_at),
        )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of one group, none of which runs in a transaction."""
        wrap, one, name = self.admin_site.admin_view, "<int:group_id>/", "sync_errorgroup"
        return [
            path("", wrap(self.changelist_view), name=f"{name}_changelist"),
            path(one, wrap(error_page.group_view), name=f"{name}_change"),
            path(f"{one}retry/", wrap(error_page.retry_view), name=f"{name}_retry"),
            path(f"{one}do/<slug:verb>/", wrap(error_page.do_view), name=f"{name}_do"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who may look at records; which groups, the queryset decides."""
        return rights.may_look(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Groups come from failures."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Groups are changed by their acts only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Groups are never deleted by hand."""
        return False
