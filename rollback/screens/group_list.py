"""The list of groups: was it all or nothing, and what is still open?"""

from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rollback import visibility
from rollback.metrics import WAITING_FOR_PERSON
from rollback.models import CompensatingTask, Group, Step
from rollback.screens import group_page
from rollback.screens.list_parts import NOTHING, AgeFilter, Choices, ReadOnlyList, resources
from rollback.screens.looks import group_badge
from rollback.states import OPEN_TASKS, GroupStatus
from syncportal.kernel.clock import db_now
from syncportal.sync.screens.page import with_back
from syncportal.sync.screens.values import cut, time_tag


class GroupStatusFilter(admin.SimpleListFilter):
    """Groups by status, with their numbers."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every status with how many groups have it."""
        rows = Group.objects.filter(request__in=visibility.requests_of(request.user)).order_by()
        counts = dict(rows.values_list("status").annotate(number=Count("pk")))
        return [(str(value), f"{label} ({counts.get(value, 0)})") for value, label in GroupStatus.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those in the chosen status."""
        return queryset.filter(status=self.value()) if self.value() in GroupStatus.values else queryset


class GroupResourceFilter(admin.SimpleListFilter):
    """Groups with a step on one resource."""

    title = "resource"
    parameter_name = "resource"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every resource."""
        return resources()

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those that touch the chosen one."""
        if not self.value():
            return queryset
        return queryset.filter(Exists(Step.objects.filter(group=OuterRef("pk"), resource__slug=self.value())))


class GroupAdmin(ReadOnlyList):
    """Groups: the list, and the addresses of the page of one."""

    change_list_template = "rollback/group_list.html"
    list_display = ("shown", "badge", "why", "request_shown", "open_tasks", "age")
    list_filter = (GroupStatusFilter, GroupResourceFilter, AgeFilter)
    search_fields = ("group_id", "request__request_id", "request__user__username", "=steps__occurrence_id")
    search_help_text = "Group, request, user or external id"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        """Return the groups of visible requests with what a row shows."""
        rows = Group.objects.filter(request__in=visibility.requests_of(request.user)).select_related("request__user")
        return rows.order_by("-id")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Count the page's steps and open tasks in one query, and tell the columns which list the person is on."""
        changelist = super().get_changelist_instance(request)
        rows, back, now = list(changelist.result_list), request.GET.urlencode(), db_now()
        steps = Step.objects.filter(group__in=[row.pk for row in rows]).order_by()
        waiting = CompensatingTask.objects.filter(WAITING_FOR_PERSON).values("pk")
        open_now = Q(task__status__in=sorted(OPEN_TASKS)) | Q(task__in=waiting)
        counted = {
            group: (number, waiting)
            for group, number, waiting in steps.values_list("group").annotate(
                number=Count("pk"), waiting=Count("pk", filter=open_now)
            )
        }
        first = dict(steps.filter(position=0).values_list("group", "occurrence_id"))
        for row in rows:
            row.first = first.get(row.pk, "")
            row.list_query, row.shown_at = back, now
            row.number, row.waiting = counted.get(row.pk, (0, 0))
        changelist.result_list = rows
        return changelist

    @admin.display(description="Group", ordering="group_id")
    def shown(self, row: Any) -> SafeString:
        """Show the group's id as the link to its page, and which objects it is about."""
        address = with_back(reverse("admin:rollback_group_change", args=[row.pk]), row.list_query)
        more = f" and {row.number - 1} more" if row.number > 1 else ""
        return format_html(
            '<a class="row-title" href="{}">{}</a><br><span class="muted small nowrap">{}{}</span>',
            address, cut(row.group_id, 60), cut(row.first, 40), more,
        )  # fmt: skip

    @admin.display(description="Status", ordering="status")
    def badge(self, row: Group) -> SafeString:
        """Show where it stands."""
        return group_badge(row.status)

    @admin.display(description="Why")
    def why(self, row: Group) -> SafeString | str:
        """Show what went wrong, and at which object."""
        error = row.error if isinstance(row.error, dict) else {}
        if not error:
            return NOTHING
        at, text = str(error.get("occurrenceId") or ""), str(error.get("detail") or error.get("code") or "")
        words = f"{at}: {text}" if at else text
        return format_html('<span class="problem" title="{}">{}</span>', words[:1000], cut(words, 80))

    @admin.display(description="Request")
    def request_shown(self, row: Group) -> SafeString:
        """Show the request's id, and who sent it."""
        name, who = row.request.request_id, row.request.actor_label or row.request.user.get_username()
        return format_html(
            '<span class="mono small nowrap" title="{}">{}</span><br><span class="muted small">{}</span>',
            name, cut(name, 24), cut(who, 40),
        )  # fmt: skip

    @admin.display(description="Open tasks")
    def open_tasks(self, row: Any) -> SafeString | str:
        """Show how many undos are not at their end; in colour when a person must act."""
        tone = " count--attention" if row.status == GroupStatus.NEEDS_ATTENTION else ""
        return format_html('<span class="count{}">{}</span>', tone, row.waiting) if row.waiting else NOTHING

    @admin.display(description="Age", ordering="created_at")
    def age(self, row: Any) -> SafeString:
        """Show how long ago it was sent."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.created_at, now=row.shown_at))

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of our own page, which does not run in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="rollback_group_changelist"),
            path("<int:group_id>/", wrap(group_page.group_view), name="rollback_group_change"),
            path("<int:group_id>/look/", wrap(group_page.look_view), name="rollback_group_look"),
            path("<int:group_id>/again/", wrap(group_page.again_view), name="rollback_group_again"),
        ]
