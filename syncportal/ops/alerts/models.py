"""Tables of alerts: AlertRule, Alert, Silence, Channel, Delivery, DigestChoice.

Each has one writer: AlertRule `rule_store.py`, Alert `alert_store.py`, Silence `silences.py`, Channel `channels.py`,
Delivery `outbox.py`, DigestChoice `digests.py`. The constraints repeat what those modules keep: one open alert for each
rule and scope, a lease exactly while a delivery is being sent. Secrets are encrypted and leave no trace in the history.
"""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from simple_history.models import HistoricalRecords

from syncportal.kernel.encryption import EncryptedTextField
from syncportal.ops.alerts.kinds import Kind, Scope
from syncportal.ops.alerts.states import LIVE, AlertState, DeliveryState, Message, Severity
from syncportal.remote.models import Remote, Resource


class AlertRule(models.Model):
    """What is watched. `remote` or `resource` narrows a rule to one of them."""

    kind = models.CharField(max_length=24, choices=Kind.choices)
    enabled = models.BooleanField(default=True)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    scope = models.CharField(max_length=8, choices=Scope.choices)
    remote = models.ForeignKey(Remote, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    threshold = models.FloatField(default=0)
    window_min = models.PositiveIntegerField(default=0)
    minimum = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    history = HistoricalRecords()

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="alertrule_kind_known"),
            models.CheckConstraint(condition=Q(severity__in=Severity.values), name="alertrule_severity_known"),
            models.CheckConstraint(condition=Q(scope__in=Scope.values), name="alertrule_scope_known"),
            models.CheckConstraint(
                condition=Q(remote__isnull=True) | Q(resource__isnull=True), name="alertrule_one_narrowing"
            ),
            models.UniqueConstraint(
                fields=["kind"], condition=Q(remote__isnull=True, resource__isnull=True), name="alertrule_one_wide"
            ),
            models.UniqueConstraint(
                fields=["kind", "remote"], condition=Q(remote__isnull=False), name="alertrule_one_per_remote"
            ),
            models.UniqueConstraint(
                fields=["kind", "resource"], condition=Q(resource__isnull=False), name="alertrule_one_per_resource"
            ),
        ]

    def __str__(self) -> str:
        narrowed = self.remote or self.resource
        return f"{self.get_kind_display()}: {narrowed}" if narrowed else str(self.get_kind_display())


class Alert(models.Model):
    """One incident: what a rule found in one scope, from the first finding until it was over.

    `news` lists what happened since the last notice, at most 50 of `news_count`. `told` is what the last notice said:
    "" for none yet, open, or resolved.
    """

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts", db_index=False)
    kind = models.CharField(max_length=24, choices=Kind.choices)
    scope_key = models.CharField(max_length=32)
    scope_name = models.CharField(max_length=200)
    remote = models.ForeignKey(Remote, on_delete=models.CASCADE, null=True, related_name="+")
    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, null=True, related_name="+")
    state = models.CharField(max_length=12, choices=AlertState.choices, default=AlertState.OPEN)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    summary = models.CharField(max_length=500)
    value = models.FloatField(default=0)
    count = models.PositiveBigIntegerField(default=1, help_text="How often the rule found it.")
    since = models.DateTimeField(help_text="When the trouble itself began, as far as is known.")
    opened_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    reopened_at = models.DateTimeField(null=True)
    reopenings = models.PositiveIntegerField(default=0)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    acknowledged_label = models.CharField(max_length=150, blank=True)
    acknowledged_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=500, blank=True)
    held_back = models.CharField(max_length=300, blank=True, help_text="Why no notice is sent although it is open.")
    news = models.JSONField(default=list)
    news_count = models.PositiveBigIntegerField(default=0)
    told = models.CharField(max_length=12, blank=True)
    told_severity = models.CharField(max_length=8, blank=True)
    told_at = models.DateTimeField(null=True)
    regression_untold = models.BooleanField(default=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["rule", "scope_key"], condition=Q(state__in=sorted(LIVE)), name="alert_one_open_per_scope"
            ),
            models.CheckConstraint(condition=Q(state__in=AlertState.values), name="alert_state_known"),
            models.CheckConstraint(
                condition=(Q(state=AlertState.RESOLVED) & Q(resolved_at__isnull=False))
                | (~Q(state=AlertState.RESOLVED) & Q(resolved_at__isnull=True)),
                name="alert_resolved_has_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(state=AlertState.ACKNOWLEDGED) | Q(acknowledged_at__isnull=False),
                name="alert_acknowledged_has_a_time",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["state", "-id"], name="alert_by_state"),
            models.Index(fields=["rule", "scope_key", "-id"], name="alert_by_scope"),
            models.Index(fields=["id"], condition=Q(told=AlertState.OPEN) | Q(news_count__gt=0), name="alert_untold"),
            models.Index(fields=["resolved_at"], condition=Q(resolved_at__isnull=False), name="alert_by_end"),
        ]

    def __str__(self) -> str:
        name = str(self.get_kind_display())
        return name if self.scope_key == "all" else f"{name}: {self.scope_name}"


class Silence(models.Model):
    """No notices about what it matches until it ends. An empty part matches everything."""

    kind = models.CharField(max_length=24, choices=Kind.choices, blank=True)
    remote = models.ForeignKey(Remote, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    resource = models.ForeignKey(Resource, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    reason = models.CharField(max_length=300)
    begun_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    made_label = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering: ClassVar = ["-ends_at"]
        indexes: ClassVar = [models.Index(fields=["ends_at"], name="silence_by_end")]

    def __str__(self) -> str:
        return f"silence until {self.ends_at:%Y-%m-%d %H:%M}"


class Channel(models.Model):
    """A way to people, and from which severity on it is used.

    `setting` names the setting that holds the target of a channel that comes with the installation; its secret is never
    stored. `target` holds addresses of mail; everything else is secret.
    """

    class Via(models.TextChoices):
        """How a message travels."""

        EMAIL = "email", "E-mail"
        SLACK = "slack", "Slack"
        WEBHOOK = "webhook", "Webhook"
        APPRISE = "apprise", "Apprise"

    name = models.CharField(max_length=100, unique=True)
    via = models.CharField(max_length=8, choices=Via.choices)
    setting = models.CharField(max_length=40, blank=True, editable=False)
    enabled = models.BooleanField(default=True)
    lowest_severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.WARNING)
    tells_recovery = models.BooleanField(default=True)
    target = models.TextField(blank=True, help_text="Addresses, separated by commas.")
    secret_url = EncryptedTextField(blank=True, default="")
    signing_key = EncryptedTextField(blank=True, default="")
    updated_at = models.DateTimeField(auto_now=True)

    history = HistoricalRecords(excluded_fields=["secret_url", "signing_key"])

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(via__in=["email", "slack", "webhook", "apprise"]), name="channel_via_known"
            ),
            models.UniqueConstraint(fields=["setting"], condition=~Q(setting=""), name="channel_one_per_setting"),
        ]

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One message on its way over one channel, or by mail to one person.

    `alert`: what it is about, if it is about one; `gathered`: the alerts that it tells of together.
    `resent_at` and `resent_by`: when a person last asked for it to be sent again, and who.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, null=True, related_name="deliveries")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+")
    alert = models.ForeignKey(Alert, on_delete=models.SET_NULL, null=True, related_name="deliveries")
    gathered = models.ManyToManyField(Alert, related_name="gathered_in")
    message = models.CharField(max_length=12, choices=Message.choices)
    state = models.CharField(max_length=8, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    subject = models.CharField(max_length=250)
    body = models.TextField()
    payload = models.JSONField(default=dict)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    claim_no = models.PositiveBigIntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    resent_at = models.DateTimeField(null=True)
    resent_by = models.CharField(max_length=150, blank=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=DeliveryState.values), name="delivery_state_known"),
            models.CheckConstraint(
                condition=Q(channel__isnull=False, person__isnull=True) | Q(channel__isnull=True, person__isnull=False),
                name="delivery_to_channel_or_person",
            ),
            models.CheckConstraint(
                condition=(Q(state=DeliveryState.SENDING) & Q(lease_until__isnull=False))
                | (~Q(state=DeliveryState.SENDING) & Q(lease_until__isnull=True)),
                name="delivery_lease_iff_sending",
            ),
            models.CheckConstraint(
                condition=~Q(state=DeliveryState.PENDING) | Q(due_at__isnull=False),
                name="delivery_waiting_is_due",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], condition=Q(state=DeliveryState.PENDING), name="delivery_due"),
            models.Index(fields=["lease_until"], condition=Q(state=DeliveryState.SENDING), name="delivery_leases"),
            models.Index(fields=["state", "-id"], name="delivery_by_state"),
            models.Index(fields=["ended_at"], condition=Q(state=DeliveryState.FAILED), name="delivery_given_up"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} ({self.get_state_display()})"


class DigestChoice(models.Model):
    """Whether a person wants the daily digest, and for which day the last one was made."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="+")
    wanted = models.BooleanField(default=True)
    last_day = models.DateField(null=True)

    def __str__(self) -> str:
        return f"digest of user {self.pk}: {'wanted' if self.wanted else 'off'}"
