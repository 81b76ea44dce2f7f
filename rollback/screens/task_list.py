"""The list of compensating tasks: what is still to be undone, since when, and what happens next."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rollback import bulk_acts, metrics, visibility
from rollback.models import CompensatingTask
from rollback.screens import task_page
from rollback.screens.list_parts import NOTHING, AgeFilter, Choices, ReadOnlyList
from rollback.screens.looks import reason_words, task_badge
from rollback.states import OPEN_TASKS, TaskReason, TaskStatus
from syncportal.kernel.clock import db_now
from syncportal.sync.screens import bulk
from syncportal.sync.screens.choice_filters import ChoiceFilter
from syncportal.sync.screens.page import with_back
from syncportal.sync.screens.record_filters import RemoteFilter, ResourceFilter
from syncportal.sync.screens.values import cut, time_tag


class TaskStatusFilter(admin.SimpleListFilter):
    """Tasks by status, with their numbers."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer the open ones first, then every status with how many tasks have it."""
        rows = visibility.tasks_of(request.user).order_by()
        counts = dict(rows.values_list("status").annotate(number=Count("pk")))
        open_now = sum(counts.get(status, 0) for status in OPEN_TASKS)
        each = [(str(value), f"{label} ({counts.get(value, 0)})") for value, label in TaskStatus.choices]
        return [("open", f"Under way ({open_now})"), *each]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those in the chosen status."""
        if self.value() == "open":
            return queryset.filter(status__in=sorted(OPEN_TASKS))
        return queryset.filter(status=self.value()) if self.value() in TaskStatus.values else queryset


class TaskReasonFilter(ChoiceFilter):
    """Tasks by why they ended as they did."""

    title = parameter_name = "reason"
    offered = TaskReason


class TaskAdmin(ReadOnlyList):
    """Compensating tasks: the list, and the addresses of the page of one."""

    change_list_template = "rollback/task_list.html"
    list_display = ("shown", "badge", "why", "group_shown", "tries", "next_run", "age")
    list_filter = (TaskStatusFilter, TaskReasonFilter, RemoteFilter, ResourceFilter, AgeFilter)
    list_select_related = ("resource", "step")
    actions = ("retry",)
    search_fields = ("occurrence_id", "request_id", "group_id")
    search_help_text = "External id, request or group"

    def get_queryset(self, request: HttpRequest) -> QuerySet[CompensatingTask]:
        """Return the visible tasks, without their contents."""
        return visibility.tasks_of(request.user).defer("snapshot", "applied", "looked_at").order_by("-id")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list with the numbers of what is open."""
        numbers = metrics.read(now=db_now(), rows=visibility.tasks_of(request.user))
        return super().changelist_view(request, {"numbers": numbers, **(extra_context or {})})

    @admin.display(description="Object", ordering="occurrence_id")
    def shown(self, row: Any) -> SafeString:
        """Show the object as the link to the task."""
        address = with_back(reverse("admin:rollback_compensatingtask_change", args=[row.pk]), row.list_query)
        return format_html(
            '<a class="row-title" href="{}">{}</a><br><span class="muted small">{}</span>',
            address, cut(row.occurrence_id, 60), row.resource,
        )  # fmt: skip

    @admin.display(description="Status", ordering="status")
    def badge(self, row: CompensatingTask) -> SafeString:
        """Show where it stands."""
        return task_badge(row)

    @admin.display(description="Why")
    def why(self, row: CompensatingTask) -> SafeString | str:
        """Show the reason, or the last error in a line."""
        error = row.last_error if isinstance(row.last_error, dict) else {}
        text = str(error.get("detail") or "")
        words = cut(text, 90) if text else reason_words(row)
        return format_html('<span class="problem" title="{}">{}</span>', text[:1000], words) if words else NOTHING

    @admin.display(description="Group", ordering="group_id")
    def group_shown(self, row: CompensatingTask) -> SafeString:
        """Show the group as the link to its page."""
        address = reverse("admin:rollback_group_change", args=[row.step.group_id])
        return format_html(
            '<a href="{}">{}</a><br><span class="mono small muted">{}</span>',
            address, cut(row.group_id, 30), cut(row.request_id, 24),
        )  # fmt: skip

    @admin.display(description="Attempts", ordering="attempts")
    def tries(self, row: CompensatingTask) -> str:
        """Show how many attempts it had."""
        return f"{row.attempts} of {row.max_attempts}"

    @admin.display(description="Next run", ordering="next_attempt_at")
    def next_run(self, row: Any) -> SafeString | str:
        """Show when the worker tries it next."""
        if row.status == TaskStatus.PROCESSING:
            return "now"
        if row.next_attempt_at is None:
            return NOTHING
        words = "due since " if row.next_attempt_at <= row.shown_at else "in "
        return format_html('<span class="nowrap">{}{}</span>', words, time_tag(row.next_attempt_at, now=row.shown_at))

    @admin.display(description="Age", ordering="created_at")
    def age(self, row: Any) -> SafeString:
        """Show how long it has existed."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.created_at, now=row.shown_at))

    @admin.action(description="Try again now …")
    def retry(self, request: HttpRequest, queryset: QuerySet[CompensatingTask]) -> HttpResponse:
        """Preview making the chosen ones due now."""
        return bulk.prepare(request, bulk_acts.RETRY, queryset, back=request.GET.urlencode())

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer the act to those who may operate; never Django's own deletion."""
        offered = super().get_actions(request) if bulk_acts.RETRY.may(request.user) else {}
        return {name: act for name, act in offered.items() if name in self.actions}

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of our own page, which does not run in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="rollback_compensatingtask_changelist"),
            path("<int:task_id>/", wrap(task_page.task_view), name="rollback_compensatingtask_change"),
            path("<int:task_id>/look/", wrap(task_page.look_view), name="rollback_compensatingtask_look"),
            path("<int:task_id>/do/<slug:verb>/", wrap(task_page.do_view), name="rollback_compensatingtask_do"),
        ]
