"""Encryption of secrets at rest: one text field on MultiFernet with a key list of its own.

Owns: turning `settings.ENCRYPTION_KEYS` into keys, encrypting, decrypting, and the model field.
Guarantees: the first key encrypts and every key decrypts, so keys can be rotated; a secret never shows in a repr; a
value whose key is gone loads as `Undecryptable` (empty, its ciphertext kept) and is written back unchanged, so no page
breaks and no secret is lost when a key is missing.
Does not: derive anything from SECRET_KEY, so rotating that loses no secret.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

_PREFIX = "f1:"


class SecretText(str):
    """A string whose repr never shows its content."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>" if self else "<no secret>"


class Undecryptable(SecretText):
    """A stored secret that none of the configured keys opens: reads as empty, keeps its ciphertext for saving."""

    ciphertext: str

    def __new__(cls, ciphertext: str) -> "Undecryptable":
        made = super().__new__(cls, "")
        made.ciphertext = ciphertext
        return made

    def __repr__(self) -> str:
        return "<secret that no key of ENCRYPTION_KEYS opens>"


def fernet_key(text: str) -> bytes:
    """Return `text` as a Fernet key: taken as it is when it is one, derived by HKDF-SHA256 otherwise."""
    raw = text.encode()
    try:
        if len(base64.urlsafe_b64decode(raw)) == 32:
            return raw
    except (binascii.Error, ValueError):
        pass
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"syncportal field encryption").derive(raw)
    return base64.urlsafe_b64encode(derived)


@lru_cache(maxsize=8)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(fernet_key(key)) for key in keys])


def _configured(keys: Sequence[str] | None) -> MultiFernet:
    usable = tuple(key for key in (settings.ENCRYPTION_KEYS if keys is None else keys) if key)
    if not usable:
        raise ImproperlyConfigured("ENCRYPTION_KEYS is empty: set at least one key to store secrets.")
    return _box(usable)


def encrypt(text: str, *, keys: Sequence[str] | None = None) -> str:
    """Encrypt `text` under the first key (default: the configured ones)."""
    return _PREFIX + _configured(keys).encrypt(text.encode()).decode("ascii")


def decrypt(ciphertext: str, *, keys: Sequence[str] | None = None) -> SecretText:
    """Return the text behind `ciphertext`, or an `Undecryptable` when no key opens it."""
    try:
        return SecretText(_configured(keys).decrypt(ciphertext.removeprefix(_PREFIX).encode()).decode())
    except (InvalidToken, ImproperlyConfigured, UnicodeError):
        return Undecryptable(ciphertext)


def is_ciphertext(text: str) -> bool:
    """Say whether `text` is something `encrypt` made under a key that is still configured."""
    return text.startswith(_PREFIX) and not isinstance(decrypt(text), Undecryptable)


class EncryptedTextField(models.TextField):
    """A text column that holds ciphertext; attributes read back as `SecretText`. Empty stays empty. Not searchable."""

    description = "Encrypted text"

    def get_prep_value(self, value: Any) -> str | None:
        """Encrypt on the way to the database; ciphertext from a fixture or an unopened secret passes unchanged."""
        if isinstance(value, Undecryptable):
            return value.ciphertext
        text = super().get_prep_value(value)
        if not text or is_ciphertext(text):
            return text
        return encrypt(text)

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> SecretText | None:
        """Decrypt on the way in."""
        if value is None:
            return None
        return decrypt(value) if value else SecretText("")

    def value_to_string(self, obj: models.Model) -> str:
        """Give serializers the ciphertext, never the secret."""
        return self.get_prep_value(self.value_from_object(obj)) or ""


def fingerprint(text: str, *, keys: Sequence[str] | None = None) -> str:
    """Return a keyed digest of `text` in hex: it says whether two secrets are equal and helps nobody to guess one."""
    usable = [key for key in (settings.ENCRYPTION_KEYS if keys is None else keys) if key]
    if not usable:
        raise ImproperlyConfigured("ENCRYPTION_KEYS is empty: set at least one key to store secrets.")
    return hmac.new(fernet_key(usable[0]), b"fingerprint:" + text.encode(), "sha256").hexdigest()
