"""The snapshot as clients see it: durations in ms or seconds as their names say, times in UTC, null for "nothing yet".

Guarantees: what is not listed here is never shown. Does not: count.
"""

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from syncportal.ops.metrics.snapshot import Snapshot
from syncportal.ops.metrics.traffic import TARGET_PERCENT
from syncportal.sync.api.shapes import UtcTime

_COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}}
_Int, _Text, _Float = serializers.IntegerField, serializers.CharField, serializers.FloatField


class _SlotShape(serializers.Serializer):
    beginsAt = UtcTime(source="begins_at")
    succeeded = _Int()
    failed = _Int()
    averageMs = _Int(source="average_ms", allow_null=True)
    p95Ms = _Int(source="p95_ms", allow_null=True)


class _ErrorShape(serializers.Serializer):
    code = _Text()
    count = _Int()
    percent = _Float()


class _RecentErrorShape(serializers.Serializer):
    at = UtcTime()
    record = _Int(source="record_id", allow_null=True)
    title = _Text(source="record")
    resource = _Text()
    code = _Text()
    detail = _Text()
    syncLog = _Int(source="log_id")


class _TasksShape(serializers.Serializer):
    open = _Int()
    oldestAt = UtcTime(source="oldest_at", allow_null=True)
    oldestAgeSeconds = _Float(source="oldest_age_s")
    waitingForPerson = _Int(source="waiting_for_person")


class _RemoteShape(serializers.Serializer):
    slug = _Text()
    name = _Text()
    calls = serializers.ChoiceField(choices=["running", "paused", "breaker_open"])
    detail = _Text()
    since = UtcTime(allow_null=True)
    until = UtcTime(allow_null=True)
    lastCheck = _Text(source="last_check")
    lastCheckAt = UtcTime(source="last_check_at", allow_null=True)
    waiting = _Int()
    due = _Int()
    oldestDueAt = UtcTime(source="oldest_due_at", allow_null=True)


class _AlertShape(serializers.Serializer):
    kind = _Text()
    severity = _Text()
    state = _Text()
    about = _Text(source="scope_name")
    summary = _Text()
    since = UtcTime()


class _WorkerShape(serializers.Serializer):
    name = _Text()
    seenAt = UtcTime(source="seen_at")
    alive = serializers.BooleanField()
    restarts = _Int()


@extend_schema_serializer(component_name="MetricsSummary")
class SummaryShape(serializers.Serializer):
    """One look at everything: the window's attempts, and where things stand at `takenAt`."""

    takenAt = UtcTime(source="taken_at")
    window = _Text(source="traffic.window.key")
    since = UtcTime(source="traffic.since")
    remote = _Text(source="scope.remote.slug", default=None, allow_null=True)
    resource = _Text(source="scope.resource.slug", default=None, allow_null=True)
    ownRecordsOnly = serializers.SerializerMethodField()
    total = _Int()
    counts = serializers.SerializerMethodField()
    backlog = _Int()
    due = _Int()
    oldestDueAt = UtcTime(source="oldest_due_at", allow_null=True)
    oldestDueSeconds = _Int(source="overdue_s")
    attempts = _Int(source="traffic.whole.attempts")
    succeeded = _Int(source="traffic.whole.succeeded")
    failed = _Int(source="traffic.whole.failed")
    outcomes = serializers.SerializerMethodField()
    successPercent = _Float(source="traffic.success_percent", allow_null=True)
    targetPercent = serializers.SerializerMethodField()
    averageMs = _Int(source="traffic.whole.average_ms", allow_null=True)
    p95Ms = _Int(source="traffic.whole.p95_ms", allow_null=True)
    series = _SlotShape(source="traffic.slots", many=True)
    topErrors = _ErrorShape(source="traffic.errors", many=True)
    recentErrors = _RecentErrorShape(source="recent_errors", many=True)
    openConflicts = _Int(source="open_conflicts")
    deadLetters = _Int(source="dead_letters")
    openDiscrepancies = _Int(source="open_discrepancies")
    compensatingTasks = _TasksShape(source="tasks")
    alerts = _AlertShape(many=True)
    openAlerts = _Int(source="open_alerts")
    remotes = _RemoteShape(many=True)
    workers = _WorkerShape(many=True)
    workerAlive = serializers.BooleanField(source="worker_alive")

    @extend_schema_field(serializers.BooleanField())
    def get_ownRecordsOnly(self, seen: Snapshot) -> bool:
        """Tell whether the caller sees own records only."""
        return not seen.scope.everything

    @extend_schema_field(_COUNTS)
    def get_counts(self, seen: Snapshot) -> dict[str, int]:
        """Return how many records have each status."""
        return {one.status: one.count for one in seen.statuses}

    @extend_schema_field(_COUNTS)
    def get_outcomes(self, seen: Snapshot) -> dict[str, int]:
        """Return how many attempts came to what."""
        return seen.traffic.outcomes

    @extend_schema_field(serializers.FloatField())
    def get_targetPercent(self, seen: Snapshot) -> float:
        """Return the target of the success rate."""
        return TARGET_PERCENT
