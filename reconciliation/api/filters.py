"""What lists of runs and discrepancies can be narrowed by; the names are the contract's and the admin's."""

from django.db.models import QuerySet
from django_filters import rest_framework as filters

from reconciliation.models import Discrepancy, Run
from reconciliation.states import Cause, Kind, RunState, Scope, State
from syncportal.remote.models import Resource
from syncportal.sync.api.filters import IdFilter


def _resources(request: object) -> QuerySet[Resource]:
    return Resource.objects.all()


class RunFilters(filters.FilterSet):
    """Filters of the list of runs."""

    resource = filters.ModelChoiceFilter(queryset=_resources, to_field_name="slug", help_text="Slug of a resource.")
    state = filters.ChoiceFilter(choices=RunState.choices)
    scope = filters.ChoiceFilter(choices=Scope.choices)
    dryRun = filters.BooleanFilter(field_name="dry_run")

    class Meta:
        model = Run
        fields: list[str] = []


class DiscrepancyFilters(filters.FilterSet):
    """Filters of the list of discrepancies."""

    state = filters.ChoiceFilter(choices=State.choices)
    kind = filters.MultipleChoiceFilter(choices=Kind.choices, help_text="Several may be given: any of them.")
    cause = filters.ChoiceFilter(choices=Cause.choices)
    resource = filters.ModelChoiceFilter(queryset=_resources, to_field_name="slug", help_text="Slug of a resource.")
    run = IdFilter(field_name="run_id", help_text="Id of the run that saw it last.")
    record = IdFilter(field_name="record_id", help_text="Id of a record.")

    class Meta:
        model = Discrepancy
        fields: list[str] = []
