"""The list of conflicts: open ones first."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from syncportal.bulk.acts import Act
from syncportal.kernel.clock import db_now
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import conflict_acts as deciding
from syncportal.sync import rights
from syncportal.sync.models import Conflict
from syncportal.sync.screens import bulk, conflict_acts
from syncportal.sync.screens.conflict_page import conflict_view
from syncportal.sync.screens.own_filters import OwnFilters
from syncportal.sync.screens.page import with_back
from syncportal.sync.screens.record_filters import RemoteFilter
from syncportal.sync.screens.record_parts import label_of
from syncportal.sync.screens.values import cut, icon, time_tag


class StateFilter(admin.SimpleListFilter):
    """Open conflicts unless resolved ones are asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer the resolved ones, or all."""
        return [("resolved", "Resolved"), ("all", "All")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the open ones by default."""
        if self.value() == "all":
            return queryset
        return queryset.filter(state=Conflict.State.RESOLVED if self.value() == "resolved" else Conflict.State.OPEN)

    def choices(self, changelist: Any) -> Any:
        """Call the default what it is."""
        for number, choice in enumerate(super().choices(changelist)):
            yield choice | {"display": "Open"} if number == 0 else choice


class ConflictResourceFilter(admin.SimpleListFilter):
    """Conflicts of one resource."""

    title = "resource"
    parameter_name = "resource"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every resource."""
        return [(slug, name or slug) for slug, name in Resource.objects.values_list("slug", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen one."""
        return queryset.filter(resource__slug=self.value()) if self.value() else queryset


class WithFilter(admin.SimpleListFilter):
    """Conflicts by who is asked to decide: me, nobody's record, or operations."""

    title = "who decides"
    parameter_name = "with"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer the person's own, and those that were handed over."""
        return [("me", "Me"), ("operations", "Handed to operations"), ("nobody", "Records without an owner")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the chosen ones."""
        match self.value():
            case "me":
                return queryset.filter(record__owner_id=request.user.pk)
            case "operations":
                return queryset.filter(escalated_at__isnull=False)
            case "nobody":
                return queryset.filter(record__owner_id__isnull=True)
        return queryset


class ReasonFilter(admin.SimpleListFilter):
    """Conflicts by how they came about."""

    title = "reason"
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every reason."""
        return [(str(value), str(label)) for value, label in Conflict.Reason.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those with the chosen reason."""
        return queryset.filter(reason=self.value()) if self.value() in Conflict.Reason.values else queryset


class ConflictAdmin(OwnFilters):
    """Conflicts: the list, and the address of the page that decides one."""

    change_list_template = "sync/conflict_list.html"
    list_display = ("conflict", "reason_words", "fields_named", "resource", "owner", "age", "outcome")
    list_display_links = None
    list_filter = (StateFilter, RemoteFilter, ConflictResourceFilter, WithFilter, ReasonFilter)
    list_select_related = ("record__owner", "resource__remote", "resolved_by")
    list_per_page = 50
    search_fields = ("record__title", "record__external_id", "record__owner__username")
    search_help_text = "Title, id or owner"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("remote_wins", "local_wins")
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conflict]:
        """Return what the person may see, without the contents."""
        return Conflict.objects.visible_to(request.user).defer("base", "local", "remote").order_by("-id")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Tell the columns which list the person is on."""
        changelist = super().get_changelist_instance(request)
        back, now = request.GET.urlencode(), db_now()
        for row in changelist.result_list:
            row.list_query, row.shown_at = back, now
        return changelist

    @admin.display(description="Record", ordering="record__title")
    def conflict(self, row: Any) -> SafeString:
        """Show the record's title as the link to the conflict."""
        address = with_back(reverse("admin:sync_conflict_change", args=[row.pk]), row.list_query)
        return format_html('<a class="row-title" href="{}">{}</a>', address, cut(str(row.record), 80))

    @admin.display(description="What happened", ordering="reason")
    def reason_words(self, row: Conflict) -> str:
        """Show how it came about."""
        return row.happened

    @admin.display(description="Fields")
    def fields_named(self, row: Conflict) -> SafeString | str:
        """Show the fields in conflict as the form calls them, their places on hover."""
        spec = spec_for(row.resource)
        names = ", ".join(label_of(spec, str(at)) for at in row.fields)
        return format_html('<span title="{}">{}</span>', ", ".join(row.fields), cut(names, 40)) if names else "–"

    @admin.display(description="Owner", ordering="record__owner__username")
    def owner(self, row: Conflict) -> str:
        """Show who looks after the record."""
        return row.record.owner.get_username() if row.record.owner else "–"

    @admin.display(description="Since", ordering="created_at")
    def age(self, row: Any) -> SafeString:
        """Show how long it has been open."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.created_at, now=row.shown_at))

    @admin.display(description="State", ordering="state")
    def outcome(self, row: Conflict) -> SafeString:
        """Show open, or who resolved it."""
        if row.state == Conflict.State.OPEN:
            return format_html('<span class="badge badge--warning">{}{}</span>', icon("alert"), "Open")
        who = f"Resolved by {row.resolved_by.get_username()}" if row.resolved_by else "Resolved"
        return format_html('<span class="badge badge--success">{}{}</span>', icon("check"), who)

    @admin.action(description="Let the remote win …")
    def remote_wins(self, request: HttpRequest, queryset: QuerySet[Conflict]) -> HttpResponse:
        """Preview giving disputed fields the remote's value."""
        return self._prepare(request, deciding.REMOTE_WINS, queryset)

    @admin.action(description="Let the local values win …")
    def local_wins(self, request: HttpRequest, queryset: QuerySet[Conflict]) -> HttpResponse:
        """Preview giving disputed fields the local value."""
        return self._prepare(request, deciding.LOCAL_WINS, queryset)

    def _prepare(self, request: HttpRequest, act: Act, queryset: QuerySet[Conflict]) -> HttpResponse:
        seen = deciding.frozen(queryset, most=bulk.MOST)
        return bulk.prepare(request, act, queryset, back=request.GET.urlencode(), parameters=seen)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer deciding many to those who may decide; never Django's own deletion."""
        offered = super().get_actions(request) if deciding.may_act(request.user) else {}
        return {name: act for name, act in offered.items() if name in self.actions}

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and that of our own page, which does not run in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="sync_conflict_changelist"),
            path("<int:conflict_id>/", wrap(conflict_view), name="sync_conflict_change"),
            path("<int:conflict_id>/state/", wrap(conflict_acts.state), name="sync_conflict_state"),
            path("<int:conflict_id>/do/<slug:verb>/", wrap(conflict_acts.do), name="sync_conflict_do"),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list with the time of the look, for "nothing, last checked"."""
        return super().changelist_view(request, {"checked_at": db_now(), **(extra_context or {})})

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who may look; which rows, the queryset decides."""
        return request.user.has_perm("sync.view_conflict") or rights.may_look(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody makes conflicts by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Conflicts are changed by deciding them only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Conflicts are never deleted."""
        return False
