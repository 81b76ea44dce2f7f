"""The objects of the API as clients see them; names and content are the contract's.

Guarantees: times in UTC; keys inside `data`, `base`, `fields` and exchanges are the remote's own and never renamed;
what is not listed here is never shown. Does not: read what clients send; that is bodies.py.
"""

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync.api.conflict_view import shown_fields, shown_revision
from syncportal.sync.models import Conflict, Event, Record, SyncLog
from syncportal.sync.states import AGREED, CLAIMABLE, Intent, Status

_OBJECT = {"type": "object", "additionalProperties": True}
_OBJECT_OR_NULL = {"type": ["object", "null"], "additionalProperties": True}
_RESOLUTIONS = ["use_remote", "push_local", "merge", "policy", "forced", "closed", None]
_STRINGS = {"type": "array", "items": {"type": "string"}}


class UtcTime(serializers.DateTimeField):
    """A time, shown in UTC whatever the portal's own time zone is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default_timezone=UTC, **kwargs)


@extend_schema_field(_OBJECT)
class JsonObject(serializers.JSONField):
    """A JSON object of the remote's."""


@extend_schema_field(_OBJECT_OR_NULL)
class JsonObjectOrNull(serializers.JSONField):
    """A JSON object of the remote's, or nothing yet."""


@extend_schema_field({})
class AnyJson(serializers.JSONField):
    """Any JSON value."""


class Name(serializers.CharField):
    """A user's name, null for nobody."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, **kwargs)


@extend_schema_serializer(component_name="Resource")
class ResourceShape(serializers.Serializer):
    """One collection of a remote."""

    slug = serializers.CharField()
    name = serializers.CharField(source="__str__")
    remote = serializers.CharField(source="remote.slug")
    schema = serializers.SerializerMethodField()
    guarantees = JsonObject()
    probedAt = UtcTime(source="probed_at", allow_null=True)
    idPointers = serializers.SerializerMethodField()
    createId = serializers.SerializerMethodField()
    readOnly = serializers.SerializerMethodField()
    breaker = serializers.SerializerMethodField()
    blockedUntil = serializers.SerializerMethodField()
    blockedReason = serializers.SerializerMethodField()

    @extend_schema_field(_OBJECT_OR_NULL)
    def get_schema(self, resource: Resource) -> Any:
        """Return the JSON Schema that objects and edits must fit."""
        return spec_for(resource).schema

    @extend_schema_field(_STRINGS)
    def get_idPointers(self, resource: Resource) -> list[str]:
        """Return where the parts of an object's id stand."""
        return list(spec_for(resource).id_pointers)

    @extend_schema_field({"type": "string", "enum": ["server", "client"]})
    def get_createId(self, resource: Resource) -> str:
        """Return who chooses a new object's id."""
        return spec_for(resource).create_id

    @extend_schema_field(_STRINGS)
    def get_readOnly(self, resource: Resource) -> list[str]:
        """Return the places that only the remote fills."""
        return list(spec_for(resource).stripped)

    @extend_schema_field({"type": "string", "enum": ["closed", "open", "paused"]})
    def get_breaker(self, resource: Resource) -> str:
        """Return whether calls to the remote may leave: paused by a person, open after failures, else closed."""
        block = self.context["blocked"].get(resource.remote_id)
        if block is None:
            return "closed"
        return "paused" if block.reason == "paused" else "open"

    def get_blockedUntil(self, resource: Resource) -> datetime | None:
        """Return when the next call is tried; null while nothing is blocked or only a person can end it."""
        block = self.context["blocked"].get(resource.remote_id)
        return block.until if block else None

    def get_blockedReason(self, resource: Resource) -> str | None:
        """Return why calls do not leave."""
        block = self.context["blocked"].get(resource.remote_id)
        return (block.detail or block.reason) if block else None


@extend_schema_serializer(component_name="Record")
class RecordShape(serializers.Serializer):
    """One record with the state of its job."""

    id = serializers.IntegerField()
    resource = serializers.CharField(source="resource.slug")
    externalId = serializers.CharField(source="external_id", allow_null=True)
    data = JsonObject()  # type: ignore[assignment]  # the contract's name
    base = JsonObjectOrNull()
    status = serializers.ChoiceField(choices=Status.choices, source="job.status")
    statusReason = serializers.SerializerMethodField()
    revision = serializers.IntegerField()
    version = serializers.CharField(allow_null=True)
    attempts = serializers.IntegerField(source="job.attempts")
    maxAttempts = serializers.IntegerField(source="job.max_attempts")
    nextAttemptAt = serializers.SerializerMethodField()
    lastError = serializers.SerializerMethodField()
    owner = Name(source="owner.username", default=None)
    intent = serializers.ChoiceField(choices=Intent.choices)
    inDoubt = serializers.BooleanField(source="job.in_doubt")
    heldBy = serializers.SerializerMethodField()
    syncedAt = UtcTime(source="synced_at", allow_null=True)
    deletedAt = UtcTime(source="deleted_at", allow_null=True)
    createdAt = UtcTime(source="created_at")
    updatedAt = UtcTime(source="updated_at")

    def get_statusReason(self, record: Record) -> str | None:
        """Return the stable code of why the record stands where it stands."""
        return record.job.reason or None

    def get_nextAttemptAt(self, record: Record) -> datetime | None:
        """Return when the worker takes it next; null when nothing is due or the record is held."""
        waits = record.job.status in CLAIMABLE and not record.job.held_by
        return record.job.due_at if waits else None

    def get_lastError(self, record: Record) -> str | None:
        """Return what the last failed attempt came to, in words."""
        return None if record.job.status in AGREED else record.job.detail or None

    def get_heldBy(self, record: Record) -> str | None:
        """Return the group or task that keeps the record for itself."""
        return record.job.held_by or None


@extend_schema_serializer(component_name="RecordWithConflict")
class RecordWithConflictShape(RecordShape):
    """A record whose edit was kept but waits for a person: `conflict` is the id to resolve."""

    conflict = serializers.IntegerField(allow_null=True)


@extend_schema_serializer(component_name="ConflictField")
class FieldShape(serializers.Serializer):
    """One field of a conflict."""

    pointer = serializers.CharField()
    base = AnyJson(allow_null=True)
    local = AnyJson(allow_null=True)
    remote = AnyJson(allow_null=True)
    inConflict = serializers.BooleanField(source="in_conflict")


@extend_schema_serializer(component_name="Conflict")
class ConflictShape(serializers.Serializer):
    """One conflict with its three sides."""

    id = serializers.IntegerField()
    record = serializers.IntegerField(source="record_id")
    resource = serializers.CharField(source="resource.slug")
    externalId = serializers.CharField(source="record.external_id", allow_null=True)
    reason = serializers.ChoiceField(choices=Conflict.Reason.choices)
    state = serializers.ChoiceField(choices=Conflict.State.choices)
    revision = serializers.SerializerMethodField()
    remoteVersion = serializers.CharField(source="remote_version", allow_null=True)
    fields = serializers.SerializerMethodField("get_sides")  # type: ignore[assignment]  # the contract's name
    owner = Name(source="record.owner.username", default=None)
    createdAt = UtcTime(source="created_at")
    resolution = serializers.SerializerMethodField()
    resolvedBy = Name(source="resolved_by.username", default=None)
    resolvedAt = UtcTime(source="resolved_at", allow_null=True)

    def get_revision(self, conflict: Conflict) -> int:
        """Return the revision that a decision must name."""
        return shown_revision(conflict)

    @extend_schema_field(FieldShape(many=True))
    def get_sides(self, conflict: Conflict) -> list[dict[str, Any]]:
        """Return the fields, those in conflict first."""
        return shown_fields(conflict)

    @extend_schema_field({"type": ["string", "null"], "enum": _RESOLUTIONS})
    def get_resolution(self, conflict: Conflict) -> str | None:
        """Return how it was settled."""
        return conflict.resolution or None


@extend_schema_serializer(component_name="SyncLog")
class SyncLogShape(serializers.Serializer):
    """One HTTP exchange, redacted."""

    id = serializers.IntegerField()
    record = serializers.IntegerField(source="record_id", allow_null=True)
    resource = serializers.CharField(source="resource.slug")
    at = UtcTime()
    attempt = serializers.IntegerField()
    claimNo = serializers.IntegerField(source="claim_no")
    purpose = serializers.CharField()
    method = serializers.CharField()
    url = serializers.CharField()
    requestHeaders = JsonObject(source="request_headers")
    requestBody = serializers.CharField(source="request_body", allow_null=True)
    httpStatus = serializers.IntegerField(source="http_status", allow_null=True)
    responseHeaders = JsonObject(source="response_headers")
    responseBody = serializers.CharField(source="response_body", allow_null=True)
    responseBytes = serializers.IntegerField(source="response_bytes")
    durationMs = serializers.IntegerField(source="duration_ms")
    outcome = serializers.CharField()
    final = serializers.BooleanField()
    errorKind = serializers.CharField(source="error_kind")
    errorCode = serializers.CharField(source="error_code")
    detail = serializers.CharField()
    verdicts = serializers.ListField(child=JsonObject())
    requestId = serializers.CharField(source="correlation_id")


@extend_schema_serializer(component_name="Actor")
class ActorShape(serializers.Serializer):
    """Who did it: user, api_key or worker, and what they are called."""

    kind = serializers.CharField(source="actor_kind")
    name = serializers.CharField(source="actor_label")


@extend_schema_serializer(component_name="Event")
class EventShape(serializers.Serializer):
    """One fact in the past tense."""

    id = serializers.IntegerField()
    at = UtcTime()
    kind = serializers.CharField()
    record = serializers.IntegerField(source="record_id", allow_null=True)
    resource = serializers.CharField(source="resource.slug", default=None, allow_null=True)
    remote = serializers.CharField(source="remote.slug", default=None, allow_null=True)
    actor = ActorShape(source="*")
    data = JsonObject()  # type: ignore[assignment]  # the contract's name
    requestId = serializers.CharField(source="correlation_id")


@extend_schema_serializer(component_name="TimelineEntry")
class TimelineShape(serializers.Serializer):
    """One entry of a record's timeline; of event, syncLog and conflict the one that `type` names is filled."""

    type = serializers.ChoiceField(choices=["event", "syncLog", "conflict"], source="position.kind")
    at = UtcTime(source="position.at")
    event = serializers.SerializerMethodField()
    syncLog = serializers.SerializerMethodField()
    conflict = serializers.SerializerMethodField()

    @extend_schema_field(EventShape(allow_null=True))
    def get_event(self, entry: Any) -> Any:
        """Return the event, if it is one."""
        return EventShape(entry.row).data if isinstance(entry.row, Event) else None

    @extend_schema_field(SyncLogShape(allow_null=True))
    def get_syncLog(self, entry: Any) -> Any:
        """Return the exchange, if it is one."""
        return SyncLogShape(entry.row).data if isinstance(entry.row, SyncLog) else None

    @extend_schema_field(ConflictShape(allow_null=True))
    def get_conflict(self, entry: Any) -> Any:
        """Return the conflict, if it is one."""
        return ConflictShape(entry.row).data if isinstance(entry.row, Conflict) else None


@extend_schema_serializer(component_name="EventFeed", many=False)
class EventFeedShape(serializers.Serializer):
    """A stretch of the event feed."""

    next = serializers.URLField(allow_null=True, help_text="Null when no more events are ready now.")
    previous = serializers.URLField(allow_null=True, help_text="Always null.")
    cursor = serializers.CharField(help_text="Where to go on, now or later.")
    results = EventShape(many=True)
