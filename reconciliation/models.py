"""Tables of reconciliation: Run, Discrepancy, Suspect, SpooledRow.

Each has one writer: Run and its working tables `journal.py`, Discrepancy `findings.py`. A Suspect is a difference that
one look at the list showed and that a single read has not confirmed yet; a SpooledRow is a list's row that came out of
order. Both exist only while their run does, and are what makes a run resumable in constant memory.
"""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from reconciliation.querysets import DiscrepancyQuerySet, RunQuerySet
from reconciliation.states import Cause, Direction, Kind, Origin, Phase, RunState, Scope, State
from syncportal.remote.models import Resource
from syncportal.sync.models import Record


class Run(models.Model):
    """One pass over a resource: where it stands, what it counted.

    `cursor` holds everything that the next slice needs; `claim_no` is the fencing token of the slice that works on it.
    """

    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, related_name="runs", db_index=False)
    scope = models.CharField(max_length=9, choices=Scope.choices, default=Scope.ALL)
    origin = models.CharField(max_length=8, choices=Origin.choices, default=Origin.PERSON)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    dry_run = models.BooleanField(default=False)
    state = models.CharField(max_length=9, choices=RunState.choices, default=RunState.RUNNING)
    phase = models.CharField(max_length=11, choices=Phase.choices, default=Phase.LISTING)
    cursor = models.JSONField(default=dict)
    record_ids = models.JSONField(default=list, help_text="The records of a selection or sample, frozen.")
    expected = models.PositiveBigIntegerField(null=True, help_text="How many rows there are to compare, as known.")
    checked = models.PositiveBigIntegerField(default=0, help_text="Records and objects compared.")
    matched = models.PositiveBigIntegerField(default=0)
    busy = models.PositiveBigIntegerField(default=0, help_text="In flight or younger than the lag: not judged.")
    suspected = models.PositiveBigIntegerField(default=0, help_text="Differences waiting for a confirming read.")
    version_drift = models.PositiveBigIntegerField(default=0)
    data_mismatch = models.PositiveBigIntegerField(default=0)
    missing_remote = models.PositiveBigIntegerField(default=0)
    missing_local = models.PositiveBigIntegerField(default=0)
    duplicate_key = models.PositiveBigIntegerField(default=0)
    invalid_remote = models.PositiveBigIntegerField(default=0)
    fixed = models.PositiveBigIntegerField(default=0, help_text="Repaired by policy during the run.")
    planned = models.PositiveBigIntegerField(default=0, help_text="Repairs that a dry run would have made.")
    ignored = models.PositiveBigIntegerField(default=0, help_text="Found, but ignored by a person until they change.")
    closed = models.PositiveBigIntegerField(default=0, help_text="Earlier discrepancies that this run found settled.")
    needing_action = models.PositiveBigIntegerField(default=0, help_text="Found and left to a person.")
    remote_rows = models.PositiveBigIntegerField(default=0, help_text="Rows that the list showed.")
    problem = models.TextField(blank=True)
    tries = models.PositiveSmallIntegerField(default=0, help_text="How often in a row the remote failed it.")
    correlation_id = models.CharField(max_length=64, blank=True)
    claim_no = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    worked_ms = models.PositiveBigIntegerField(default=0, help_text="Working time, without waiting for turns.")
    started_at = models.DateTimeField()
    progress_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    applied_at = models.DateTimeField(null=True, help_text="When a dry run's plan was applied.")
    applied_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["resource"], condition=Q(state="running"), name="run_one_per_resource"),
            models.CheckConstraint(condition=Q(state__in=RunState.values), name="run_state_known"),
        ]
        indexes: ClassVar = [models.Index(fields=["resource", "-id"], name="run_by_resource")]

    def __str__(self) -> str:
        return f"run {self.pk}: {self.get_state_display()}"


class Discrepancy(models.Model):
    """One confirmed difference: a single row for each object of a resource, however often it comes back.

    `revision`, `local_version`, `status`, `remote_version` and `remote_digest` are the finding's: a repair happens only
    while all of them still hold. `planned` is what the policy would do, `wanted` a repair that somebody asked for.
    """

    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, related_name="discrepancies", db_index=False)
    external_id = models.CharField("external id", max_length=500, blank=True)
    record = models.ForeignKey(Record, on_delete=models.SET_NULL, null=True, related_name="discrepancies")
    run = models.ForeignKey(Run, on_delete=models.SET_NULL, null=True, related_name="discrepancies", db_index=False)
    kind = models.CharField(max_length=14, choices=Kind.choices)
    cause = models.CharField(max_length=20, choices=Cause.choices)
    state = models.CharField(max_length=7, choices=State.choices, default=State.OPEN)
    differences = models.JSONField(default=list, help_text="[{pointer, local, remote}]")
    detail = models.TextField(blank=True)
    fingerprint = models.CharField(max_length=64, help_text="Digest of the difference, for ignoring until it changes.")
    revision = models.PositiveBigIntegerField(null=True)
    status = models.CharField(max_length=17, blank=True)
    local_version = models.CharField(max_length=255, null=True)
    remote_version = models.CharField(max_length=255, null=True)
    remote_digest = models.CharField(max_length=64, blank=True)
    planned = models.CharField(max_length=11, choices=Direction.choices, blank=True)
    wanted = models.CharField(max_length=11, choices=Direction.choices, blank=True)
    wanted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    wanted_as = models.CharField(max_length=10, blank=True, help_text="The kind of actor who asked.")
    wanted_at = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0, help_text="How often the wanted repair could not be read for.")
    outcome = models.TextField(blank=True, help_text="What the last repair came to.")
    reopened = models.PositiveIntegerField(default=0)
    ignore_reason = models.TextField(blank=True)
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    found_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True)

    objects = DiscrepancyQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "discrepancies"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["resource", "external_id"], name="discrepancy_one_per_object"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="discrepancy_state_known"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="discrepancy_kind_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["state", "-id"], name="discrepancy_by_state"),
            models.Index(fields=["run", "kind"], name="discrepancy_by_run"),
            models.Index(fields=["wanted_at"], condition=Q(wanted_at__isnull=False), name="discrepancy_wanted"),
        ]

    def __str__(self) -> str:
        return f"{self.external_id}: {self.get_kind_display()}"


class Suspect(models.Model):
    """A difference that the list showed and that a single read has to confirm.

    `pages` are the cursors of the pages that showed it, kept only where no single read can confirm it.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="suspects", db_index=False)
    external_id = models.CharField(max_length=500, blank=True)
    kind = models.CharField(max_length=14, blank=True, help_text="What it looked like; blank: an earlier discrepancy.")
    pages = models.JSONField(default=list)
    tries = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "external_id"], name="suspect_once_per_run"),
        ]

    def __str__(self) -> str:
        return f"{self.external_id}: {self.kind or 'known'}"


class SpooledRow(models.Model):
    """A list's row that came out of order: what comparing it needs, until the list has been read to its end."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="spooled", db_index=False)
    external_id = models.CharField(max_length=500)
    digest = models.CharField(max_length=64, help_text="Of the compared fields; blank: not a valid object.")
    version = models.CharField(max_length=255, null=True)
    page = models.TextField(help_text="Cursor of the page that showed it.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "external_id", "digest"], name="spooled_once_per_content"),
        ]

    def __str__(self) -> str:
        return self.external_id
