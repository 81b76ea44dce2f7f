"""Tables of bulk operations: BulkOperation and BulkRow, both written by `journal.py` only."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from syncportal.bulk.states import RowState, State


class BulkOperation(models.Model):
    """One act on many rows, as somebody asked for it; its rows were frozen when the preview was made.

    `allowed` is how many rows may have been let go by now (a ramp), null when all may. The counts are kept with the
    rows, in the same transaction.
    """

    act = models.CharField(max_length=60)
    parameters = models.JSONField(default=dict)
    state = models.CharField(max_length=9, choices=State.choices, default=State.DRAFT)
    reason = models.TextField(blank=True, help_text="Why it stopped.")
    ramp = models.BooleanField(default=False)
    allowed = models.PositiveIntegerField(null=True)
    total = models.PositiveIntegerField()
    done = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    handed_over = models.PositiveIntegerField(default=0)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    user_label = models.CharField(max_length=150, blank=True)
    user_kind = models.CharField(max_length=10, default="user", help_text="The kind of actor who asked.")
    back = models.TextField(blank=True, help_text="Query of the list it was started from.")
    correlation_id = models.CharField(max_length=64, blank=True)
    claim_no = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    progress_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = "bulk operation"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=State.values), name="bulk_state_known"),
            models.CheckConstraint(
                condition=Q(total__gte=models.F("done") + models.F("skipped") + models.F("failed")
                            + models.F("handed_over")),
                name="bulk_counts_fit",
            ),
        ]  # fmt: skip
        indexes: ClassVar = [
            models.Index(fields=["lease_until"], condition=Q(state=State.RUNNING), name="bulk_running"),
            models.Index(fields=["user", "-id"], name="bulk_by_user"),
        ]

    def __str__(self) -> str:
        return f"{self.act} on {self.total} rows"

    @property
    def settled(self) -> int:
        """Return how many rows have their final outcome."""
        return self.done + self.skipped + self.failed

    @property
    def let_go(self) -> int:
        """Return how many rows were really acted on; a ramp counts only these, for a row left out proves nothing."""
        return self.done + self.failed + self.handed_over

    @property
    def waiting(self) -> int:
        """Return how many rows nothing has been done with yet."""
        return self.total - self.settled - self.handed_over


class BulkRow(models.Model):
    """One frozen row of an operation, and what became of it."""

    operation = models.ForeignKey(BulkOperation, on_delete=models.CASCADE, related_name="rows", db_index=False)
    position = models.PositiveIntegerField()
    target_id = models.BigIntegerField()
    state = models.CharField(max_length=11, choices=RowState.choices, default=RowState.WAITING)
    outcome = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering: ClassVar = ["position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["operation", "target_id"], name="bulk_row_once"),
            models.CheckConstraint(condition=Q(state__in=RowState.values), name="bulk_row_state_known"),
        ]
        indexes: ClassVar = [models.Index(fields=["operation", "state", "position"], name="bulk_rows_by_state")]

    def __str__(self) -> str:
        return f"row {self.position}: {self.state}"
