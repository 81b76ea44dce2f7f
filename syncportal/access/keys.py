"""API keys: made, checked, revoked. The only writer of ApiKey.

Guarantees: 256 random bits a key, of which only a SHA-256 digest is stored (a random key needs no slow hash); an
expired, revoked or inactive person's key is refused; the row of an expired key stays, so that people see why a program
stopped. Does not: decide what a scope allows; that is permissions.py.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from django.contrib.auth.models import User
from django.db.models import Q

from syncportal.access.models import ApiKey

_SHAPE: Final = re.compile(r"sp_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")
_USED_EVERY: Final = timedelta(minutes=1)


class Scope(StrEnum):
    """What a key may be used for; a person's own permissions still apply on top."""

    READ = "read"
    WRITE = "write"
    OPERATE = "operate"


ALL_SCOPES: Final = tuple(Scope)


class KeyRefused(Exception):
    """The key is unknown, expired or revoked, or its person is not active; the message never tells more."""


def create_key(user: User, *, name: str, scopes: Iterable[Scope], expires_at: datetime | None, now: datetime) -> str:
    """Make a key and return it; it cannot be shown again."""
    prefix = f"sp_{secrets.token_hex(4)}"
    key = f"{prefix}_{secrets.token_urlsafe(32)}"
    ApiKey.objects.create(
        user=user,
        name=name,
        prefix=prefix,
        digest=_digest(key),
        scopes=sorted({scope.value for scope in scopes}),
        created_at=now,
        expires_at=expires_at,
    )
    return key


def check_key(text: str, *, now: datetime) -> ApiKey:
    """Return the key's row with its user; raises KeyRefused with what to do about it."""
    if not _SHAPE.fullmatch(text):
        raise KeyRefused("This is not an API key of this portal.")
    row = ApiKey.objects.select_related("user").filter(digest=_digest(text)).first()
    if row is None or not row.user.is_active:
        raise KeyRefused("This API key is not known.")
    if row.revoked_at is not None:
        raise KeyRefused("This API key was revoked.")
    if row.expires_at is not None and row.expires_at <= now:
        raise KeyRefused("This API key has expired; make a new one.")
    _touch(row, now=now)
    return row


def still_holds(key_id: int, *, now: datetime) -> bool:
    """Tell whether a key that was accepted before would be accepted now."""
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    return ApiKey.objects.filter(unexpired, pk=key_id, revoked_at__isnull=True, user__is_active=True).exists()


def revoke(key_id: int, *, now: datetime) -> bool:
    """Make a key useless from now on; False when it was already."""
    return bool(ApiKey.objects.filter(pk=key_id, revoked_at__isnull=True).update(revoked_at=now))


def _touch(row: ApiKey, *, now: datetime) -> None:
    """Note the use, at most once a minute: reads stay reads."""
    if row.last_used_at is not None and row.last_used_at > now - _USED_EVERY:
        return
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=now - _USED_EVERY)
    ApiKey.objects.filter(stale, pk=row.pk).update(last_used_at=now)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
