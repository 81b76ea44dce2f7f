"""What lists of requests and tasks can be narrowed by; the names are the contract's and the admin's."""

from django.db.models import Exists, OuterRef, QuerySet
from django_filters import rest_framework as filters

from rollback.answers import ORDER
from rollback.models import CompensatingTask, Group, GroupedUpdate
from rollback.states import GroupStatus, TaskReason, TaskStatus
from syncportal.remote.models import Resource
from syncportal.sync.api.filters import MomentFilter


def _resources(request: object) -> QuerySet[Resource]:
    return Resource.objects.all()


class GroupedUpdateFilters(filters.FilterSet):
    """Filters of the list of requests."""

    status = filters.ChoiceFilter(
        method="filter_status", choices=GroupStatus.choices, help_text="The request's status, as its answer shows it."
    )
    requestId = filters.CharFilter(field_name="request_id")
    groupId = filters.CharFilter(method="filter_group", help_text="Requests with a group of this id.")
    occurrenceId = filters.CharFilter(method="filter_occurrence", help_text="Requests with a step on this object.")
    user = filters.CharFilter(field_name="user__username", help_text="A user's name.")
    createdAfter = MomentFilter(field_name="created_at", lookup_expr="gt")
    createdBefore = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = GroupedUpdate
        fields: list[str] = []

    def filter_status(self, queryset: QuerySet, name: str, value: str) -> QuerySet:
        """Return requests whose own status, derived from their groups, is this one."""
        groups = Group.objects.filter(request=OuterRef("pk"))
        if value == GroupStatus.APPLIED:
            return queryset.exclude(Exists(groups.exclude(status=value)))
        stronger = list(ORDER[: ORDER.index(GroupStatus(value))])
        return queryset.filter(Exists(groups.filter(status=value))).exclude(Exists(groups.filter(status__in=stronger)))

    def filter_group(self, queryset: QuerySet, name: str, value: str) -> QuerySet:
        """Return requests that name this group."""
        return queryset.filter(groups__group_id=value)

    def filter_occurrence(self, queryset: QuerySet, name: str, value: str) -> QuerySet:
        """Return requests that touch this object."""
        return queryset.filter(groups__steps__occurrence_id=value).distinct()


class TaskFilters(filters.FilterSet):
    """Filters of the list of compensating tasks."""

    status = filters.MultipleChoiceFilter(choices=TaskStatus.choices, help_text="Several may be given: any of them.")
    reason = filters.ChoiceFilter(choices=TaskReason.choices)
    requestId = filters.CharFilter(field_name="request_id")
    groupId = filters.CharFilter(field_name="group_id")
    occurrenceId = filters.CharFilter(field_name="occurrence_id")
    resource = filters.ModelChoiceFilter(queryset=_resources, to_field_name="slug", help_text="Slug of a resource.")

    class Meta:
        model = CompensatingTask
        fields: list[str] = []
