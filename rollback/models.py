"""Tables of grouped updates. Their only writer is `journal.py`.

A Step is the write-ahead journal of one occurrence: what it will send is committed before the call.
A CompensatingTask is born with the decision to abort and stays open until its undo is proven.
"""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from rollback.states import OPEN_TASKS, GroupStatus, StepStatus, TaskStatus
from syncportal.remote.models import Resource
from syncportal.sync.models import Record


class GroupedUpdate(models.Model):
    """One request. `request_id` is unique per user and is its idempotency key."""

    request_id = models.CharField(max_length=200)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    actor_kind = models.CharField(max_length=10)
    actor_label = models.CharField(max_length=150, blank=True)
    body_hash = models.CharField(max_length=64)
    correlation_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "request_id"], name="grouped_update_once_per_user"),
        ]

    def __str__(self) -> str:
        return self.request_id


class Group(models.Model):
    """One atomic group. While it runs it has a lease; its decision is made once."""

    request = models.ForeignKey(GroupedUpdate, on_delete=models.CASCADE, related_name="groups", db_index=False)
    group_id = models.CharField(max_length=200)
    position = models.PositiveIntegerField()
    status = models.CharField(max_length=16, choices=GroupStatus.choices, default=GroupStatus.RUNNING)
    inline = models.BooleanField(default=True, help_text="Whether the request itself is still undoing.")
    error = models.JSONField(null=True)
    claim_no = models.PositiveBigIntegerField(default=1)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["request_id", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["request", "group_id"], name="group_id_once_per_request"),
            models.CheckConstraint(condition=Q(status__in=GroupStatus.values), name="group_status_known"),
            models.CheckConstraint(
                condition=~Q(status=GroupStatus.RUNNING) | Q(lease_until__isnull=False), name="group_running_has_lease"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["lease_until"], condition=Q(status=GroupStatus.RUNNING), name="group_leases"),
            models.Index(fields=["status", "-id"], name="group_by_status"),
        ]

    def __str__(self) -> str:
        return f"{self.group_id}: {self.status}"


class Step(models.Model):
    """One occurrence in a group: the journal of what is sent, and what came of it."""

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="steps", db_index=False)
    position = models.PositiveIntegerField()
    record = models.ForeignKey(Record, on_delete=models.SET_NULL, null=True, related_name="steps")
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT, related_name="+")
    occurrence_id = models.CharField(max_length=500)
    changes = models.JSONField()
    expected_version = models.CharField(max_length=255, null=True)
    status = models.CharField(max_length=12, choices=StepStatus.choices, default=StepStatus.PLANNED)
    snapshot = models.JSONField(null=True)
    snapshot_version = models.CharField(max_length=255, null=True)
    intended = models.JSONField(null=True)
    key = models.CharField(max_length=36, blank=True)
    sent_at = models.DateTimeField(null=True)
    applied = models.JSONField(null=True)
    applied_version = models.CharField(max_length=255, null=True)
    error = models.JSONField(null=True)
    placeholder = models.BooleanField(default=False, help_text="The record was made for this group.")

    class Meta:
        ordering: ClassVar = ["group_id", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group", "position"], name="step_position_once"),
            models.UniqueConstraint(fields=["group", "record"], name="step_record_once_per_group"),
            models.CheckConstraint(condition=Q(status__in=StepStatus.values), name="step_status_known"),
        ]

    def __str__(self) -> str:
        return f"{self.occurrence_id}: {self.status}"


class CompensatingTask(models.Model):
    """Durable work that restores one step's snapshot. At most one is open per record."""

    task_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    step = models.OneToOneField(Step, on_delete=models.CASCADE, related_name="task")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="tasks")
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT, related_name="+")
    request_id = models.CharField(max_length=200)
    group_id = models.CharField(max_length=200)
    occurrence_id = models.CharField(max_length=500)
    snapshot = models.JSONField()
    snapshot_version = models.CharField(max_length=255, null=True)
    applied = models.JSONField(help_text="The content that was sent, or came back, for the step.")
    unknown = models.BooleanField(help_text="Nobody knows whether the step's write was applied.")
    status = models.CharField(max_length=16, choices=TaskStatus.choices, default=TaskStatus.PENDING)
    reason = models.CharField(max_length=16, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=10)
    next_attempt_at = models.DateTimeField(null=True)
    outstanding = models.JSONField(
        default=list, help_text="Writes of ours that may still arrive: [{version, sent_at}], the version each expects."
    )
    weaker_promise = models.CharField(max_length=200, blank=True)
    force = models.BooleanField(default=False)
    looked_at = models.JSONField(null=True, help_text="The remote's content that a person decided to overwrite.")
    claim_no = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    last_error = models.JSONField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    succeeded_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["record"], condition=Q(status__in=sorted(OPEN_TASKS)), name="task_one_open_per_record"
            ),
            models.CheckConstraint(condition=Q(status__in=TaskStatus.values), name="task_status_known"),
            models.CheckConstraint(
                condition=(Q(status=TaskStatus.PROCESSING) & Q(lease_until__isnull=False))
                | (~Q(status=TaskStatus.PROCESSING) & Q(lease_until__isnull=True)),
                name="task_lease_iff_processing",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["next_attempt_at"], condition=Q(status=TaskStatus.PENDING), name="task_due"),
            models.Index(fields=["status", "next_attempt_at"], name="task_by_status"),
            models.Index(fields=["request_id"], name="task_by_request"),
        ]

    def __str__(self) -> str:
        return f"{self.occurrence_id}: {self.status}"
