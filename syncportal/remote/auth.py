"""Credentials: found before threads start, put on each request, renewed once when a token is refused.

Owns: reading a remote's secret (`env:NAME` through the settings, or stored encrypted), the shared access token, and
`Credentials`. Guarantees: only writer of AccessToken; a token fetched with another credential or configuration is never
used; no secret in any repr, error or log. Does not: touch the database from the threads that send: a token renewed
there waits in `dirty_token` until the caller stores it.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from django.conf import settings

from syncportal.kernel.clock import db_now
from syncportal.kernel.encryption import Undecryptable, fingerprint
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote import tokens
from syncportal.remote.client import Deadline, HttpClient
from syncportal.remote.errors import Misconfiguration, Unauthorized
from syncportal.remote.models import AccessToken, Remote
from syncportal.remote.pools import http_for
from syncportal.remote.signing import Draft, Signer, query_names, signer_for, without_query
from syncportal.remote.spec import RemoteSpec, remote_spec
from syncportal.remote.tokens import AccessGrant

TOKEN_KINDS = ("oauth2_client_credentials", "login")
NEEDS_CREDENTIAL = ("basic", "header", "query", *TOKEN_KINDS)
SPARE = timedelta(seconds=60)
TOKEN_CALL_S = 10.0


@dataclass(eq=False)
class Credentials:
    """What signs the requests to one remote; shared by the threads of a drain."""

    spec: RemoteSpec
    secret: str = field(default="", repr=False)
    grant: AccessGrant | None = None
    prepared_at: datetime | None = None
    dirty_token: AccessGrant | None = None
    _signer: Signer = field(init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._signer = signer_for(self.spec.auth, secret=self._proof())

    def _proof(self) -> str:
        return self.grant.token if self.grant is not None else self.secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return every value that must not show in a stored exchange."""
        parts = [self.secret, self._proof()]
        if self.spec.auth.kind in ("basic", "login", "oauth2_client_credentials"):
            parts.append(self.secret.partition(":")[2])
        if self.spec.auth.kind == "query":
            parts += [pair.partition("=")[2] for pair in self.secret.split("&")]
        return tuple(dict.fromkeys(part for part in parts if part))

    @property
    def query_names(self) -> frozenset[str]:
        """Return the query parameters that carry the credential."""
        if self.spec.auth.kind != "query":
            return frozenset()
        return frozenset({self.spec.auth.name}) if self.spec.auth.name else query_names(self.secret.lstrip("?&"))

    def stripped(self, url: str) -> str:
        """Return `url` without the credential's query parameters."""
        return without_query(url, self.query_names) if self.spec.auth.kind == "query" else url

    def sign(self, draft: Draft) -> AccessGrant | None:
        """Put the credential on a draft and return the token used, for `renew`."""
        grant = self.grant
        self._signer(draft)
        return grant

    def renew(self, used: AccessGrant | None, *, http: HttpClient, deadline: Deadline) -> bool:
        """Fetch a new token after `used` was refused; False when this kind has none. One thread fetches, all use it."""
        if self.spec.auth.kind not in TOKEN_KINDS:
            return False
        with self._lock:
            if self.grant is not used:
                return True
            # The time only sets the token's end; what matters is that it is not later than the database's.
            fresh = _fetched(self.spec, secret=self.secret, http=http, now=self.prepared_at, deadline=deadline)
            self.grant = self.dirty_token = fresh
            self._signer = signer_for(self.spec.auth, secret=fresh.token)
            return True


def _fetched(
    spec: RemoteSpec, *, secret: str, http: HttpClient, now: datetime | None, deadline: Deadline
) -> AccessGrant:
    if now is None:
        raise Unauthorized("The token was refused and cannot be renewed here.", code="token_refused")
    return tokens.fetch(
        spec.auth, base_url=spec.base_url, secret=secret, http=http, headers=spec.headers, now=now, deadline=deadline
    )


def resolve_secret(remote: Remote) -> str:
    """Return the remote's credential; raises Misconfiguration that says how to supply it."""
    auth = remote.config.get("auth") or {}
    given = str(auth.get("credential") or "")
    if not given:
        if auth.get("kind", "none") in NEEDS_CREDENTIAL:
            raise Misconfiguration(f"The remote {remote.slug} has no credential: set auth.credential.")
        return ""
    if given.startswith("env:"):
        name = given.removeprefix("env:").strip()
        secret = settings.ENV_SECRET(name)
        if not secret:
            raise Misconfiguration(f"The credential of {remote.slug} is not set: give {name} (or {name}_FILE).")
    else:
        secret = remote.secret
        if isinstance(secret, Undecryptable):
            raise Misconfiguration(
                f"The stored credential of {remote.slug} was encrypted with a key that is not in ENCRYPTION_KEYS any "
                "more: add that key again, or store the credential anew."
            )
        if not secret:
            raise Misconfiguration(f"The remote {remote.slug} has no stored credential: enter it in the admin.")
    secret = str(secret).strip("\r\n")
    if not secret.isprintable():
        raise Misconfiguration(f"The credential of {remote.slug} holds characters that cannot be sent.")
    if auth.get("kind") == "basic" and ":" not in secret:
        raise Misconfiguration(f"The credential of {remote.slug} must have the form user:password.")
    return secret


def prepare(remote: Remote, *, deadline: Deadline | None = None) -> Credentials:
    """Find what signs requests to `remote`: reads the database, and fetches a token when none is fresh enough.

    Never call it inside a transaction. Raises Misconfiguration, or a RemoteError of the token call.
    """
    spec = remote_spec(remote)
    secret = resolve_secret(remote)
    if spec.auth.kind not in TOKEN_KINDS:
        return Credentials(spec=spec, secret=secret)
    assert_outside_transaction()
    now = db_now()
    grant = _stored_grant(remote, spec=spec, secret=secret, now=now)
    if grant is not None:
        return Credentials(spec=spec, secret=secret, grant=grant, prepared_at=now)
    http = http_for(spec, secrets=(secret,))
    fetched = _fetched(spec, secret=secret, http=http, now=now, deadline=deadline or Deadline(TOKEN_CALL_S))
    credentials = Credentials(spec=spec, secret=secret, grant=fetched, prepared_at=now, dirty_token=fetched)
    store(remote, credentials)
    return credentials


def store(remote: Remote, credentials: Credentials) -> bool:
    """Save a token that was renewed while sending, for all workers; True when there was one."""
    grant = credentials.dirty_token
    if grant is None or remote.pk is None:
        return False
    mark = _fingerprint(credentials.spec, secret=credentials.secret)

    def write() -> None:
        AccessToken.objects.update_or_create(
            remote_id=remote.pk,
            defaults={
                "token": grant.token, "fingerprint": mark, "fetched_at": db_now(), "expires_at": grant.expires_at,
            },
        )  # fmt: skip

    atomic_retry(write)
    credentials.dirty_token = None
    return True


def forget_token(remote_id: int) -> None:
    """Drop the shared token, after the credential changed."""
    AccessToken.objects.filter(remote_id=remote_id).delete()


def _stored_grant(remote: Remote, *, spec: RemoteSpec, secret: str, now: datetime) -> AccessGrant | None:
    row = AccessToken.objects.filter(remote_id=remote.pk).first() if remote.pk else None
    if row is None or not row.token or row.fingerprint != _fingerprint(spec, secret=secret):
        return None
    if row.expires_at is not None and row.expires_at - now < min(SPARE, (row.expires_at - row.fetched_at) / 2):
        return None
    return AccessGrant(str(row.token), row.expires_at)


def _fingerprint(spec: RemoteSpec, *, secret: str) -> str:
    return fingerprint(json.dumps([spec.base_url, asdict(spec.auth), secret], sort_keys=True, default=str))
