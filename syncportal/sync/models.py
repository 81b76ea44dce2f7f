"""Tables of a record's life: Record, SyncJob, SyncLog, Rollup, RecordCount, Conflict, Event, Pull, ScanPosition.
The tables of error groups stand in `error_models.py`.

Each table has one writer: Record `records.py`, SyncJob `transitions.py`, Conflict `conflict_store.py`, SyncLog and
Event `events.py`, Rollup `rollups.py`, RecordCount `record_counts.py`, Pull `pull.py`, ScanPosition `sweep.py`. The
constraints repeat the invariants that those modules keep, so that a bug is an error and not silent damage.
"""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from syncportal.remote.models import Remote, Resource
from syncportal.sync.error_models import ErrorGroup
from syncportal.sync.querysets import ConflictQuerySet, EventQuerySet, RecordQuerySet, SyncJobQuerySet, SyncLogQuerySet
from syncportal.sync.states import AGREED, CLAIMABLE, Intent, Status

UNREMARKABLE = (Status.PROCESSING.value, Status.SYNCED.value)
_DUE = Q(status__in=sorted(CLAIMABLE), held_by="")


class Record(models.Model):
    """The local row for one remote object.

    `data` is the local content, `base` the content both sides last agreed on (null until the remote
    confirmed the object), `version` the remote's version of `base`. `revision` grows by one with
    every change of `data`, whoever made it.
    """

    resource = models.ForeignKey(Resource, on_delete=models.PROTECT, related_name="records", db_index=False)
    external_id = models.CharField("external id", max_length=500, null=True, blank=True)
    title = models.CharField(max_length=200, blank=True, help_text="What the record is called in lists.")
    data = models.JSONField(default=dict)
    base = models.JSONField(null=True)
    version = models.CharField(max_length=255, null=True, blank=True)
    revision = models.PositiveBigIntegerField(default=1)
    intent = models.CharField(max_length=6, choices=Intent.choices, default=Intent.UPDATE)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="owned_records",
        db_index=False,
    )  # fmt: skip
    content_hash = models.CharField(max_length=32, blank=True, editable=False)
    synced_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    history_removed_at = models.DateTimeField(null=True, help_text="When older entries of its history were removed.")

    objects = RecordQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-updated_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["resource", "external_id"], name="record_one_per_remote_object"),
            models.CheckConstraint(condition=Q(intent__in=Intent.values), name="record_intent_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["resource", "-updated_at", "-id"], name="record_by_resource"),
            models.Index(fields=["-updated_at", "-id"], name="record_by_update"),
            models.Index(fields=["owner", "-updated_at"], name="record_by_owner"),
            models.Index(fields=["resource"], condition=Q(deleted_at__isnull=False), name="record_deleted"),
        ]
        permissions: ClassVar = [
            ("see_all_records", "Can see the records of every owner"),
            ("operate_records", "Can requeue, refresh, assign and resolve the records of every owner"),
        ]

    def __str__(self) -> str:
        return self.title or self.external_id or f"new record {self.pk}"


class SyncJob(models.Model):
    """The record's machine row: what the worker does with it, and what happens next.

    `sends` holds every send whose outcome is not settled: [{operation, content, version, key,
    sent_at}]. While PROCESSING the last one belongs to the running claim.
    """

    record = models.OneToOneField(Record, on_delete=models.CASCADE, primary_key=True, related_name="job")
    remote = models.ForeignKey(Remote, on_delete=models.PROTECT, related_name="+")
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT, related_name="+", db_index=False)
    status = models.CharField(max_length=17, choices=Status.choices, default=Status.PENDING)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.TextField(blank=True)
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=4)
    due_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    claim_no = models.PositiveBigIntegerField(default=0)
    claimed_by = models.CharField(max_length=64, blank=True)
    claimed_revision = models.PositiveBigIntegerField(null=True)
    in_doubt = models.BooleanField(default=False)
    sends = models.JSONField(default=list, blank=True)
    idempotency_key = models.CharField(max_length=36, blank=True)
    key_for = models.CharField(max_length=320, blank=True)
    rebases = models.PositiveSmallIntegerField(default=0)
    worker_deaths = models.PositiveSmallIntegerField(default=0)
    held_by = models.CharField(max_length=80, blank=True)
    held_at = models.DateTimeField(null=True)
    refresh_requested_at = models.DateTimeField(null=True)
    error_group = models.ForeignKey(
        ErrorGroup, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False,
        help_text="Why the last attempt failed, until the record agrees or a person must decide.",
    )  # fmt: skip
    correlation_id = models.CharField(max_length=64, blank=True)
    status_since = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = SyncJobQuerySet.as_manager()

    class Meta:
        verbose_name = "sync job"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=Status.values), name="job_status_known"),
            models.CheckConstraint(
                condition=(Q(status=Status.PROCESSING) & Q(lease_until__isnull=False))
                | (~Q(status=Status.PROCESSING) & Q(lease_until__isnull=True)),
                name="job_lease_iff_processing",
            ),
            models.CheckConstraint(
                condition=Q(held_by="") | ~Q(status=Status.PROCESSING), name="job_held_is_not_processing"
            ),
            models.CheckConstraint(
                condition=~Q(status__in=sorted(CLAIMABLE)) | Q(due_at__isnull=False), name="job_waiting_has_due_time"
            ),
            models.CheckConstraint(
                condition=~Q(status__in=[*sorted(AGREED), Status.VERSION_CONFLICT]) | Q(error_group__isnull=True),
                name="job_error_ends_in_agreement",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["remote", "due_at"], condition=_DUE, name="job_due"),
            models.Index(fields=["lease_until"], condition=Q(status=Status.PROCESSING), name="job_leases"),
            models.Index(fields=["status", "status_since"], name="job_by_status"),
            # What is neither agreed nor under way, counted without reading rows; pushes that succeed pass it by.
            models.Index(
                fields=["resource", "status", "held_by", "due_at"],
                condition=~Q(status__in=UNREMARKABLE),
                name="job_remarkable",
            ),
            models.Index(fields=["error_group"], condition=Q(error_group__isnull=False), name="job_by_error"),
            models.Index(
                fields=["refresh_requested_at"], condition=Q(refresh_requested_at__isnull=False), name="job_refreshes"
            ),
        ]

    def __str__(self) -> str:
        return f"job of record {self.pk}: {self.status}"


class SyncLog(models.Model):
    """One HTTP exchange of an attempt, redacted and capped. Append-only."""

    record = models.ForeignKey(Record, on_delete=models.SET_NULL, null=True, related_name="logs", db_index=False)
    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    claim_no = models.PositiveBigIntegerField(default=0)
    attempt = models.PositiveIntegerField(default=0)
    purpose = models.CharField(max_length=20)
    method = models.CharField(max_length=10)
    url = models.TextField()
    request_headers = models.JSONField(default=dict)
    request_body = models.TextField(null=True)
    http_status = models.PositiveIntegerField(null=True)
    response_headers = models.JSONField(default=dict)
    response_body = models.TextField(null=True)
    response_bytes = models.PositiveBigIntegerField(default=0)
    duration_ms = models.PositiveIntegerField(default=0)
    outcome = models.CharField(max_length=20, help_text="What the attempt came to.")
    final = models.BooleanField(default=False, help_text="The last exchange of its attempt.")
    error_kind = models.CharField(max_length=20, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    detail = models.TextField(blank=True)
    error_group = models.ForeignKey(
        ErrorGroup, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, db_constraint=False,
        help_text="Of the last exchange of an attempt that failed.",
    )  # fmt: skip
    verdicts = models.JSONField(default=list)
    correlation_id = models.CharField(max_length=64, blank=True)

    objects = SyncLogQuerySet.as_manager()

    class Meta:
        verbose_name = "sync log entry"
        verbose_name_plural = "sync log"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["record", "-id"], name="log_by_record"),
            models.Index(fields=["at"], name="log_by_time"),
            models.Index(fields=["outcome", "-id"], name="log_by_outcome"),
            models.Index(fields=["resource", "-id"], name="log_by_resource"),
            models.Index(fields=["error_group", "-id"], condition=Q(error_group__isnull=False), name="log_by_error"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.url}: {self.http_status or self.error_kind}"


class RecordCount(models.Model):
    """How many records a resource has among the ids up to `upto_id`; what came later is counted when it is asked for.

    `gone` counts, by status, deleted records whose job is not SYNCED.
    """

    resource = models.OneToOneField(Resource, on_delete=models.CASCADE, primary_key=True, related_name="+")
    number = models.PositiveBigIntegerField()
    gone = models.JSONField(default=dict)
    upto_id = models.BigIntegerField()
    counted_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.number} records of resource {self.resource_id} up to {self.upto_id}"


class Rollup(models.Model):
    """The attempts of one resource that began in one span of time and came to one outcome, counted and timed.

    Sums up the final exchanges in the sync log. `error` is the code, or else the kind, of what went wrong; `took_N`
    counts those that took at most N ms and more than the bound before, `took_more` the rest.
    """

    span_s = models.PositiveIntegerField()
    begins_at = models.DateTimeField()
    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, related_name="+", db_index=False)
    outcome = models.CharField(max_length=20)
    error = models.CharField(max_length=40, blank=True)
    attempts = models.PositiveBigIntegerField()
    total_ms = models.PositiveBigIntegerField()
    took_5 = models.PositiveBigIntegerField()
    took_10 = models.PositiveBigIntegerField()
    took_20 = models.PositiveBigIntegerField()
    took_35 = models.PositiveBigIntegerField()
    took_50 = models.PositiveBigIntegerField()
    took_75 = models.PositiveBigIntegerField()
    took_100 = models.PositiveBigIntegerField()
    took_150 = models.PositiveBigIntegerField()
    took_200 = models.PositiveBigIntegerField()
    took_300 = models.PositiveBigIntegerField()
    took_500 = models.PositiveBigIntegerField()
    took_750 = models.PositiveBigIntegerField()
    took_1000 = models.PositiveBigIntegerField()
    took_1500 = models.PositiveBigIntegerField()
    took_2500 = models.PositiveBigIntegerField()
    took_5000 = models.PositiveBigIntegerField()
    took_10000 = models.PositiveBigIntegerField()
    took_more = models.PositiveBigIntegerField()

    class Meta:
        verbose_name = "roll-up"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["span_s", "begins_at", "resource", "outcome", "error"], name="rollup_one_per_span"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.attempts} × {self.outcome} from {self.begins_at:%Y-%m-%d %H:%M}"


class Conflict(models.Model):
    """Both sides changed since `base`, and a person must decide. Resolved rows keep the rejected values."""

    class State(models.TextChoices):
        """Whether somebody still has to decide."""

        OPEN = "open", "Open"
        RESOLVED = "resolved", "Resolved"

    class Reason(models.TextChoices):
        """How the conflict came about."""

        PRECONDITION_FAILED = "precondition_failed", "The remote refused a stale write"
        CONCURRENT_EDIT = "concurrent_edit", "Changed on both sides"
        STALE_REMOTE = "stale_remote", "The remote shows an older version than we know"
        VERSION_REUSE = "version_reuse", "Other content under the same version"
        DELETED_REMOTE = "deleted_remote", "Deleted at the remote"
        DELETED_LOCAL = "deleted_local", "Deleted here, changed at the remote"
        UNDO_CONFLICT = "undo_conflict", "Changed by somebody else before it could be undone"

    record = models.ForeignKey(Record, on_delete=models.CASCADE, related_name="conflicts")
    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    reason = models.CharField(max_length=20, choices=Reason.choices)
    base = models.JSONField(null=True)
    local = models.JSONField()
    remote = models.JSONField(null=True, help_text="Null: the object is gone at the remote.")
    fields = models.JSONField(default=list, help_text="JSON Pointers of the fields in conflict.")
    revision = models.PositiveBigIntegerField()
    remote_version = models.CharField(max_length=255, null=True)
    remote_seen_at = models.DateTimeField(null=True, help_text="When the remote side was last read.")
    notified_at = models.DateTimeField(null=True, help_text="When the record's present owner was told.")
    escalated_at = models.DateTimeField(null=True, help_text="When operations were asked to decide.")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    resolution = models.CharField(max_length=12, blank=True)
    choices = models.JSONField(default=dict)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="resolved_conflicts"
    )
    resolved_at = models.DateTimeField(null=True)

    objects = ConflictQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["record"], condition=Q(state="open"), name="conflict_one_open_per_record"),
        ]
        indexes: ClassVar = [models.Index(fields=["state", "-id"], name="conflict_by_state")]

    def __str__(self) -> str:
        return f"conflict of record {self.record_id}: {self.get_reason_display()}"

    @property
    def happened(self) -> str:
        """Return in a few words what happened, for people who need not know how it was found."""
        refused = self.reason == self.Reason.PRECONDITION_FAILED
        return str(self.Reason.CONCURRENT_EDIT.label if refused else self.get_reason_display())


class Event(models.Model):
    """An append-only fact in the past tense: feeds the timeline, notices and API clients.

    `kind` is one of `events.Kind`; `data` holds the particulars, with before and after for acts of
    people. `seal` chains the acts of people: sha256 over the previous seal and this row.
    """

    at = models.DateTimeField()
    kind = models.CharField(max_length=40)
    record = models.ForeignKey(Record, on_delete=models.SET_NULL, null=True, related_name="events", db_index=False)
    resource = models.ForeignKey(Resource, on_delete=models.SET_NULL, null=True, related_name="+")
    remote = models.ForeignKey(Remote, on_delete=models.SET_NULL, null=True, related_name="+")
    actor_kind = models.CharField(max_length=10)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    actor_label = models.CharField(max_length=150, blank=True)
    data = models.JSONField(default=dict)
    correlation_id = models.CharField(max_length=64, blank=True)
    seal = models.CharField(max_length=64, blank=True, editable=False)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["record", "-id"], name="event_by_record"),
            models.Index(fields=["kind", "-id"], name="event_by_kind"),
            models.Index(fields=["at"], name="event_by_time"),
            models.Index(
                fields=["id"], condition=Q(seal="", actor_kind__in=["api_key", "user"]), name="event_unsealed"
            ),
            models.Index(fields=["seal"], condition=~Q(seal=""), name="event_by_seal"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} ({self.at:%Y-%m-%d %H:%M:%S})"


class Pull(models.Model):
    """One import of a resource: its cursor and counts, so that it goes on where it stopped.

    `since` None: everything; else only what changed at the remote from then on.
    """

    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, related_name="pulls")
    since = models.DateTimeField(null=True)
    state = models.CharField(max_length=8, default="running")
    cursor = models.TextField(null=True)
    seen = models.PositiveBigIntegerField(default=0)
    created = models.PositiveBigIntegerField(default=0)
    updated = models.PositiveBigIntegerField(default=0)
    unchanged = models.PositiveBigIntegerField(default=0)
    busy = models.PositiveBigIntegerField(default=0)
    invalid = models.PositiveBigIntegerField(default=0)
    problem = models.TextField(blank=True)
    tries = models.PositiveSmallIntegerField(default=0, help_text="How often in a row the next page failed.")
    holder = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(null=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["resource"], condition=Q(state="running"), name="pull_one_per_resource"),
        ]

    def __str__(self) -> str:
        return f"pull {self.pk}: {self.state}"


class ScanPosition(models.Model):
    """How far a periodic scan over a table has come, so that the next slice goes on from there."""

    name = models.CharField(max_length=40, primary_key=True)
    after_id = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name} after {self.after_id}"
