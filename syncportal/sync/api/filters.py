"""What lists can be narrowed by; the names are the contract's and the admin's."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Q, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field

from syncportal.remote.models import Resource
from syncportal.sync.models import Conflict, Event, Record, SyncLog
from syncportal.sync.states import Status


def _resources(request: object) -> QuerySet[Resource]:
    return Resource.objects.all()


class _ByResource(filters.FilterSet):
    resource = filters.ModelChoiceFilter(queryset=_resources, to_field_name="slug", help_text="Slug of a resource.")


@extend_schema_field(OpenApiTypes.INT)
class IdFilter(filters.NumberFilter):
    """The id of one of our rows."""

    field_class = forms.IntegerField

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=2**62, **kwargs)


class _ByRecord(_ByResource):
    record = IdFilter(field_name="record_id", help_text="Id of a record.")


class MomentFilter(filters.IsoDateTimeFilter):
    """A moment that every time zone has a date for."""

    def __init__(self, **kwargs: Any) -> None:
        within = [
            MinValueValidator(datetime(1970, 1, 1, tzinfo=UTC)),
            MaxValueValidator(datetime(9999, 1, 1, tzinfo=UTC)),
        ]
        super().__init__(validators=within, **kwargs)


class RecordFilters(_ByResource):
    """Filters of the record list."""

    status = filters.MultipleChoiceFilter(
        field_name="job__status", choices=Status.choices, help_text="Several may be given: any of them."
    )
    owner = filters.CharFilter(field_name="owner__username", help_text="A user's name.")
    externalId = filters.CharFilter(
        field_name="external_id", strip=False, help_text="The parts of a composite id joined by |."
    )
    updatedAfter = MomentFilter(field_name="updated_at", lookup_expr="gt")
    updatedBefore = MomentFilter(field_name="updated_at", lookup_expr="lt")
    search = filters.CharFilter(method="filter_search", help_text="Part of the title, or the external id.")
    deleted = filters.ChoiceFilter(
        method="filter_deleted",
        choices=[("true", "only deleted ones"), ("false", "the others")],
        help_text="Default: false.",
    )

    class Meta:
        model = Record
        fields: list[str] = []

    def filter_search(self, queryset: QuerySet, name: str, value: str) -> QuerySet:
        """Return records whose title contains the text or whose id it is."""
        return queryset.filter(Q(title__icontains=value) | Q(external_id=value))

    def filter_deleted(self, queryset: QuerySet, name: str, value: str) -> QuerySet:
        """Return only deleted records, or only the others."""
        return queryset.filter(deleted_at__isnull=value == "false")

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        """Hide deleted records unless they were asked for."""
        shown = super().filter_queryset(queryset)
        return shown.filter(deleted_at__isnull=True) if not self.form.cleaned_data.get("deleted") else shown


class ConflictFilters(_ByRecord):
    """Filters of the conflict list."""

    state = filters.ChoiceFilter(choices=Conflict.State.choices)
    reason = filters.ChoiceFilter(choices=Conflict.Reason.choices)
    owner = filters.CharFilter(field_name="record__owner__username", help_text="A user's name.")

    class Meta:
        model = Conflict
        fields: list[str] = []


class SyncLogFilters(_ByRecord):
    """Filters of the sync log."""

    outcome = filters.CharFilter(field_name="outcome")
    after = MomentFilter(field_name="at", lookup_expr="gt", help_text="Exchanges begun after this time.")

    class Meta:
        model = SyncLog
        fields: list[str] = []


class EventFilters(_ByRecord):
    """Filters of the event feed."""

    kind = filters.CharFilter(field_name="kind", help_text="Such as sync.succeeded.")

    class Meta:
        model = Event
        fields: list[str] = []
