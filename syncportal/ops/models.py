"""Tables of operation: Heartbeat and Duty; those of alerts stand in alerts/models.py.

Owns: what is known about workers and the timetable. Each has one writer: Heartbeat `heartbeat.py`, Duty `duties.py`.
Does not: hold work; losing these rows loses nothing but knowledge.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from syncportal.ops.alerts.models import Alert, AlertRule, Channel, Delivery, DigestChoice, Silence

__all__ = ["Alert", "AlertRule", "Channel", "Delivery", "DigestChoice", "Duty", "Heartbeat", "Silence", "WorkerState"]


class WorkerState(models.TextChoices):
    """What a supervisor says of itself."""

    STARTING = "starting", "Starting"
    RUNNING = "running", "Running"
    RESTARTING = "restarting", "Restarting its pool"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"


class Heartbeat(models.Model):
    """A supervisor that says it is there: one row for each process, `name` is host:pid.

    `canary_at` is when its pool last proved that it takes tasks.
    """

    name = models.CharField(max_length=280, primary_key=True)
    kind = models.CharField(max_length=16, default="supervisor")
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=WorkerState.choices, default=WorkerState.STARTING)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()
    canary_at = models.DateTimeField(null=True)
    restarts = models.PositiveIntegerField(default=0, help_text="How often the pool had to be killed and started.")
    info = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["-beat_at"]
        verbose_name = "worker"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=WorkerState.values), name="heartbeat_state_known"),
        ]

    def __str__(self) -> str:
        return self.name


class Duty(models.Model):
    """One line of the timetable and how its last run went. Lines that other rooms run exist only while paused."""

    name = models.CharField(max_length=40, primary_key=True)
    every_s = models.PositiveIntegerField()
    lease_until = models.DateTimeField(null=True)
    last_started_at = models.DateTimeField(null=True)
    last_finished_at = models.DateTimeField(null=True)
    last_duration_ms = models.PositiveIntegerField(null=True)
    last_ok = models.BooleanField(default=True)
    last_result = models.TextField(blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="Failed runs in a row.")
    paused_at = models.DateTimeField(null=True)
    paused_by = models.CharField(max_length=150, blank=True)
    pause_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name_plural = "duties"

    def __str__(self) -> str:
        return self.name
