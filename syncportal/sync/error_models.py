"""Tables of failures with the same cause: ErrorGroup and ErrorHour, both written by `error_groups.py` only.

Which records fail for a cause now stands on their jobs (`SyncJob.error_group`), which exchanges did on the sync log.
"""

from typing import ClassVar

from django.conf import settings
from django.db import models

from syncportal.remote.models import Remote


class ErrorGroup(models.Model):
    """Failures with one cause at one remote; `id` is the cause's own (`causes.Cause.id`).

    Snoozed until a time, or ignored while it affects at most `ignored_at_most` records; both are people's acts.
    """

    id = models.BigIntegerField(primary_key=True)
    remote = models.ForeignKey(Remote, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=20)
    code = models.CharField(max_length=40)
    message = models.CharField(max_length=200, blank=True)
    occurrences = models.PositiveBigIntegerField(default=0)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    note = models.TextField(blank=True)
    snoozed_until = models.DateTimeField(null=True)
    ignored_at = models.DateTimeField(null=True)
    ignored_at_most = models.PositiveBigIntegerField(default=0)
    ignored_why = models.TextField(blank=True)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    changed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "error group"
        ordering: ClassVar = ["-last_seen_at", "-id"]
        indexes: ClassVar = [
            models.Index(fields=["-last_seen_at"], name="error_group_by_time"),
            models.Index(fields=["code"], name="error_group_by_code"),
        ]

    def __str__(self) -> str:
        return self.message or self.code or self.kind


class ErrorHour(models.Model):
    """How many attempts failed for one cause in one hour."""

    group = models.ForeignKey(ErrorGroup, on_delete=models.CASCADE, related_name="hours", db_index=False)
    begins_at = models.DateTimeField()
    attempts = models.PositiveBigIntegerField()

    class Meta:
        verbose_name = "error hour"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group", "begins_at"], name="error_one_per_hour"),
        ]
        indexes: ClassVar = [models.Index(fields=["begins_at"], name="error_hour_by_time")]

    def __str__(self) -> str:
        return f"{self.attempts} from {self.begins_at:%Y-%m-%d %H:%M}"
