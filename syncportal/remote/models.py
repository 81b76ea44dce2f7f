"""Tables of the remote side: what a person configures and what the machine knows about reaching it.

Owns: Remote and Resource (configuration, with history; only writer: configuration.py), Gate and SlotLease (breaker,
pause, rate and slots shared by all workers; only writer: limits.py), AccessToken (fetched tokens, encrypted; only
writer: auth.py).
Guarantees: secrets are encrypted columns and leave no trace in the history; the database refuses impossible gate
states.
Does not: interpret `config`; spec.py compiles it.
"""

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from simple_history.models import HistoricalRecords

from syncportal.kernel.encryption import EncryptedTextField

SLUG_PATTERN = r"^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?$"
_slug = RegexValidator(
    SLUG_PATTERN, "Use lower-case letters, digits, - and _, beginning and ending with a letter or digit."
)


class Remote(models.Model):
    """One configured master API."""

    slug = models.CharField(max_length=64, unique=True, validators=[_slug])
    name = models.CharField(max_length=200, blank=True)
    base_url = models.CharField("base URL", max_length=500)
    config = models.JSONField(default=dict, blank=True)
    secret = EncryptedTextField("stored credential", blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    history = HistoricalRecords(excluded_fields=["secret"])

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name or self.slug


class Resource(models.Model):
    """One collection of a remote: paths, knobs, JSON Schema, policies."""

    remote = models.ForeignKey(Remote, on_delete=models.PROTECT, related_name="resources")
    slug = models.CharField(max_length=64, unique=True, validators=[_slug])
    name = models.CharField(max_length=200, blank=True)
    config = models.JSONField(default=dict)
    guarantees = models.JSONField("guarantee card", default=dict, blank=True)
    probed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    history = HistoricalRecords()

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name or self.slug


class Breaker(models.TextChoices):
    """Whether calls may leave: an open breaker lets one probe through after `open_until`."""

    CLOSED = "closed", "Closed"
    OPEN = "open", "Open"


class ConnectionStatus(models.TextChoices):
    """Outcome of the last connection test."""

    ONLINE = "ONLINE", "Online"
    DEGRADED = "DEGRADED", "Degraded"
    OFFLINE = "OFFLINE", "Offline"
    AUTH = "AUTH", "Credential refused"


class Gate(models.Model):
    """What all workers share about one remote: breaker, pause, rate tokens, last connection test."""

    remote = models.OneToOneField(Remote, on_delete=models.CASCADE, primary_key=True, related_name="gate")
    breaker = models.CharField(max_length=8, choices=Breaker.choices, default=Breaker.CLOSED)
    consecutive_unreachable = models.PositiveIntegerField(default=0)
    consecutive_faults = models.PositiveIntegerField(default=0)
    fault_records = models.JSONField(default=list, blank=True)
    opened_at = models.DateTimeField(null=True, blank=True)
    open_until = models.DateTimeField(null=True, blank=True)
    probe_holder = models.CharField(max_length=64, blank=True, default="")
    probe_until = models.DateTimeField(null=True, blank=True)
    paused = models.BooleanField(default=False)
    pause_reason = models.CharField(max_length=64, blank=True, default="")
    pause_detail = models.TextField(blank=True, default="")
    paused_at = models.DateTimeField(null=True, blank=True)
    tokens = models.FloatField(default=0.0)
    tokens_at = models.DateTimeField(null=True, blank=True)
    last_check = models.CharField(max_length=8, choices=ConnectionStatus.choices, blank=True, default="")
    last_check_at = models.DateTimeField(null=True, blank=True)
    last_check_ms = models.PositiveIntegerField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(breaker__in=Breaker.values), name="gate_breaker_known"),
            models.CheckConstraint(
                condition=~Q(breaker=Breaker.OPEN) | Q(open_until__isnull=False), name="gate_open_has_an_end"
            ),
            models.CheckConstraint(
                condition=Q(paused=False) | Q(paused_at__isnull=False), name="gate_paused_has_a_time"
            ),
            models.CheckConstraint(
                condition=Q(last_check="") | Q(last_check__in=ConnectionStatus.values), name="gate_last_check_known"
            ),
        ]

    def __str__(self) -> str:
        return f"Gate of remote {self.remote_id}"


class SlotLease(models.Model):
    """A worker's block of a remote's concurrency, until it expires."""

    remote = models.ForeignKey(Remote, on_delete=models.CASCADE, related_name="slot_leases", db_index=False)
    holder = models.CharField(max_length=64)
    slots = models.PositiveIntegerField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["remote", "holder"], name="slotlease_one_per_holder")]
        indexes = [models.Index(fields=["remote", "expires_at"], name="slotlease_live")]

    def __str__(self) -> str:
        return f"{self.slots} slots of remote {self.remote_id} for {self.holder}"


class AccessToken(models.Model):
    """The token last fetched for a remote (OAuth2 or login), shared by all workers.

    `fingerprint` is a digest of the configuration and credential it was fetched with: a changed credential never
    uses an old token.
    """

    remote = models.OneToOneField(Remote, on_delete=models.CASCADE, primary_key=True, related_name="access_token")
    token = EncryptedTextField()
    fingerprint = models.CharField(max_length=64)
    fetched_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"Token of remote {self.remote_id}"
