"""Tables of who may call: ApiKey (only writer: keys.py), StoredAnswer (idempotency.py) and WrongKeys (throttle.py)."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q


class ApiKey(models.Model):
    """A person's key for programs. The key itself is shown once; only its digest and a public prefix are kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class WrongKeys(models.Model):
    """How many wrong keys came from one address or network since a moment."""

    source = models.CharField(max_length=50, primary_key=True)
    count = models.PositiveIntegerField()
    since = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "wrong keys"

    def __str__(self) -> str:
        return f"{self.count} from {self.source}"


class StoredAnswer(models.Model):
    """What a request with an Idempotency-Key came to; `status` null while it runs.

    `holder` names the one request that may execute until `held_until`; `fingerprint` is a digest of method, path
    and body.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    holder = models.CharField(max_length=32)
    held_until = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "key"], name="storedanswer_one_per_key"),
            models.CheckConstraint(condition=~Q(key=""), name="storedanswer_has_key"),
        ]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="storedanswer_by_age")]

    def __str__(self) -> str:
        return f"{self.key}: {self.status or 'running'}"
