"""Runs and discrepancies as clients see them and what clients may send; names and content are the contract's."""

from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from reconciliation import reports
from reconciliation.models import Discrepancy, Run
from reconciliation.states import Cause, Direction, Kind, Origin, Phase, RunState, Scope, State
from syncportal.sync.api.bodies import Body
from syncportal.sync.api.shapes import AnyJson, Name, UtcTime

_COUNTS = {
    "type": "object",
    "required": list(Kind.values),
    "properties": {kind: {"type": "integer", "minimum": 0} for kind in Kind.values},
}


@extend_schema_serializer(component_name="ReconciliationRun")
class RunShape(serializers.Serializer):
    """One pass over a resource, live while it runs."""

    id = serializers.IntegerField()
    resource = serializers.CharField(source="resource.slug")
    scope = serializers.ChoiceField(choices=Scope.choices)
    origin = serializers.ChoiceField(choices=Origin.choices)
    startedBy = Name(source="started_by.username", default=None)
    dryRun = serializers.BooleanField(source="dry_run")
    state = serializers.ChoiceField(choices=RunState.choices)
    phase = serializers.ChoiceField(choices=Phase.choices)
    percentDone = serializers.SerializerMethodField()
    checked = serializers.IntegerField(help_text="checked = matched + busy + counts, once nothing is suspected.")
    matched = serializers.IntegerField()
    busy = serializers.IntegerField(help_text="In flight or too young: not judged.")
    suspected = serializers.IntegerField(help_text="Differences that wait for a confirming read.")
    counts = serializers.SerializerMethodField(help_text="Confirmed differences, by kind.")
    fixed = serializers.IntegerField(help_text="Repaired by policy.")
    planned = serializers.IntegerField(help_text="Repairs that a dry run would have made; `apply` makes exactly these.")
    ignored = serializers.IntegerField()
    closed = serializers.IntegerField(help_text="Earlier discrepancies that turned out to be settled.")
    needingAction = serializers.IntegerField(source="needing_action")
    problem = serializers.CharField(help_text="What is wrong with the list or the remote, empty for nothing.")
    durationSeconds = serializers.SerializerMethodField()
    rowsPerSecond = serializers.SerializerMethodField()
    startedAt = UtcTime(source="started_at")
    finishedAt = UtcTime(source="finished_at", allow_null=True)
    appliedAt = UtcTime(source="applied_at", allow_null=True)

    @extend_schema_field({"type": ["integer", "null"], "minimum": 0, "maximum": 100})
    def get_percentDone(self, run: Run) -> int | None:
        """Return how far it has come; null when nobody knows how much there is."""
        return reports.percent_done(run)

    @extend_schema_field(_COUNTS)
    def get_counts(self, run: Run) -> dict[str, int]:
        """Return the confirmed differences by kind."""
        return reports.counts(run)

    def get_durationSeconds(self, run: Run) -> float:
        """Return how long it took, or has taken so far."""
        return round(reports.duration_s(run), 3)

    def get_rowsPerSecond(self, run: Run) -> float:
        """Return how many rows it compared a second while it worked."""
        return round(reports.rows_per_s(run), 1)


@extend_schema_serializer(component_name="Difference")
class DifferenceShape(serializers.Serializer):
    """One field that differs; null where a side does not have it."""

    pointer = serializers.CharField()
    local = AnyJson(allow_null=True)
    remote = AnyJson(allow_null=True)


@extend_schema_serializer(component_name="Discrepancy")
class DiscrepancyShape(serializers.Serializer):
    """One confirmed difference between a record and its object."""

    id = serializers.IntegerField()
    run = serializers.IntegerField(source="run_id", allow_null=True, help_text="The run that saw it last.")
    record = serializers.IntegerField(source="record_id", allow_null=True)
    resource = serializers.CharField(source="resource.slug")
    externalId = serializers.CharField(source="external_id", help_text="Empty: rows of the list that have no id.")
    kind = serializers.ChoiceField(choices=Kind.choices)
    cause = serializers.ChoiceField(choices=Cause.choices, help_text="As far as our own history tells.")
    state = serializers.ChoiceField(choices=State.choices)
    differences = DifferenceShape(many=True)
    localVersion = serializers.CharField(source="local_version", allow_null=True)
    remoteVersion = serializers.CharField(source="remote_version", allow_null=True)
    reopened = serializers.IntegerField(help_text="How often it came back.")


@extend_schema_serializer(component_name="AppliedPlan")
class AppliedShape(RunShape):
    """A dry run whose plan is being carried out."""

    repairs = serializers.SerializerMethodField(help_text="How many repairs were asked for.")

    def get_repairs(self, run: Run) -> int:
        """Return how many repairs the plan holds."""
        return int(self.context["repairs"])


class StartBody(Body):
    """What to compare."""

    resource = serializers.CharField(max_length=64)
    dryRun = serializers.BooleanField(required=False, default=False, help_text="Only find and plan; repair nothing.")
    records = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**62), required=False, min_length=1, max_length=10_000,
        help_text="Only these records of the resource, by our own ids; each is read at the remote.",
    )  # fmt: skip


class FixBody(Body):
    """Which side is right."""

    direction = serializers.ChoiceField(choices=Direction.choices)


class IgnoreBody(Body):
    """Why the difference is accepted until it changes."""

    reason = serializers.CharField(
        max_length=500, required=False, default="", allow_blank=True,
        help_text="Kept with it and shown to everybody who looks at it.",
    )  # fmt: skip


def discrepancy(row: Discrepancy) -> Any:
    """Return a discrepancy as clients see it."""
    return DiscrepancyShape(row).data
