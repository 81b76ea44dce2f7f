"""The objects as clients see and send them, for the description: `answers.py` makes them, `plan.py` reads them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from rollback.plan import MAX_ID
from rollback.states import GroupStatus, StepStatus, TaskReason, TaskStatus
from syncportal.sync.api.shapes import JsonObject, UtcTime

_ERROR = {
    "type": ["object", "null"],
    "required": ["code", "detail", "httpStatus"],
    "properties": {
        "code": {
            "type": "string",
            "description": "Stable: the remote's kind of failure, version_mismatch, deadline, …",
        },
        "detail": {"type": "string"},
        "occurrenceId": {"type": "string", "description": "The step at fault, if it was one."},
        "httpStatus": {"type": ["integer", "null"], "description": "What the remote answered."},
    },
}
SHOWN_STEPS = [
    (str(value), str(label))
    for value, label in StepStatus.choices
    if value not in (StepStatus.PLANNED, StepStatus.SENT)
]


@extend_schema_field(_ERROR)
class ErrorField(serializers.JSONField):
    """What went wrong, or null."""


@extend_schema_field({"type": ["string", "integer", "null"], "minLength": 1, "maxLength": 255})
class VersionField(serializers.JSONField):
    """The version that the object must stand at."""


@extend_schema_field({"type": "object", "additionalProperties": True, "minProperties": 1})
class Changes(serializers.JSONField):
    """A merge patch (RFC 7396) of at least one field."""


class TrueOnly(serializers.BooleanField):
    """Always true."""


class _Identifier(serializers.CharField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"min_length": 1, "max_length": MAX_ID, **kwargs})


@extend_schema_serializer(component_name="Update")
class UpdateBody(serializers.Serializer):
    """One change of one object."""

    occurrenceId = _Identifier(max_length=500, help_text="The object's external id.")
    changes = Changes()
    expectedVersion = VersionField(required=False, help_text="Else the group is rejected: version_mismatch.")
    resource = _Identifier(required=False, help_text="Else the group's or the request's.")


@extend_schema_serializer(component_name="UpdateGroup")
class GroupBody(serializers.Serializer):
    """Changes that are applied all or not at all."""

    groupId = _Identifier(help_text="Unique in the request.")
    resource = _Identifier(required=False)
    updates = serializers.ListField(child=UpdateBody(), min_length=1)


@extend_schema_serializer(component_name="GroupedUpdateBody")
class GroupedUpdateBody(serializers.Serializer):
    """A request: at most 200 updates in groups, one object at most once."""

    requestId = _Identifier(required=False, help_text="Unique per user; it is the idempotency key. Else one is made.")
    resource = _Identifier(required=False)
    validateOnly = serializers.BooleanField(required=False, help_text="Check everything and store nothing.")
    groups = serializers.ListField(child=GroupBody(), min_length=1)


@extend_schema_serializer(component_name="StepResult")
class StepShape(serializers.Serializer):
    """What became of one update."""

    occurrenceId = serializers.CharField()
    status = serializers.ChoiceField(choices=SHOWN_STEPS)
    version = serializers.CharField(required=False, help_text="The version that the remote showed after our write.")
    taskId = serializers.UUIDField(required=False)
    error = ErrorField(required=False)


@extend_schema_serializer(component_name="OpenTask")
class OpenTaskShape(serializers.Serializer):
    """A task that has not succeeded."""

    taskId = serializers.UUIDField()
    occurrenceId = serializers.CharField()
    status = serializers.ChoiceField(choices=TaskStatus.choices)
    reason = serializers.ChoiceField(choices=TaskReason.choices, allow_blank=True)
    nextAttemptAt = UtcTime(allow_null=True)


class _Outcome(serializers.Serializer):
    status = serializers.ChoiceField(choices=GroupStatus.choices)
    rolledBack = serializers.BooleanField(allow_null=True, help_text="Null while running or when all is applied.")
    reconciliationQueued = serializers.BooleanField()
    reconciliationTaskCount = serializers.IntegerField(min_value=0, help_text="Tasks pending or processing.")


@extend_schema_serializer(component_name="GroupResult")
class GroupShape(_Outcome):
    """What became of one group."""

    groupId = serializers.CharField()
    error = ErrorField(allow_null=True)
    results = StepShape(many=True)
    reconciliationTasks = OpenTaskShape(many=True, help_text="Every task that has not succeeded.")


@extend_schema_serializer(component_name="GroupedUpdate")
class GroupedUpdateShape(_Outcome):
    """A request as it stands now."""

    requestId = serializers.CharField()
    isolation = serializers.ChoiceField(choices=["none"], help_text="Others may see a half-applied group.")
    createdAt = UtcTime()
    groups = GroupShape(many=True)


@extend_schema_serializer(component_name="ValidatedGroup")
class ValidatedGroupShape(serializers.Serializer):
    """One group that could be carried out."""

    groupId = serializers.CharField()
    updates = serializers.IntegerField()


@extend_schema_serializer(component_name="ValidatedUpdate")
class ValidatedShape(serializers.Serializer):
    """The answer to `validateOnly`: nothing was stored and nothing was sent."""

    validateOnly = TrueOnly()
    valid = TrueOnly()
    groups = ValidatedGroupShape(many=True)


@extend_schema_serializer(component_name="CompensatingTask")
class TaskShape(serializers.Serializer):
    """Durable work that restores one step's snapshot."""

    taskId = serializers.UUIDField()
    requestId = serializers.CharField()
    groupId = serializers.CharField()
    occurrenceId = serializers.CharField()
    resource = serializers.CharField()
    status = serializers.ChoiceField(choices=TaskStatus.choices)
    reason = serializers.ChoiceField(choices=TaskReason.choices, allow_blank=True)
    snapshot = JsonObject()
    applied = JsonObject()
    attempts = serializers.IntegerField()
    maxAttempts = serializers.IntegerField()
    nextAttemptAt = UtcTime(allow_null=True)
    lastError = ErrorField(allow_null=True)
    weakerPromise = serializers.CharField(
        allow_blank=True, help_text="What could not be proven: this remote cannot refuse a late write of ours."
    )
    createdAt = UtcTime()
    updatedAt = UtcTime()
    succeededAt = UtcTime(allow_null=True)
