"""Fetching an access token from a remote: OAuth2 client credentials, or its own login.

Owns: the token call itself and reading its answer. Guarantees: one exchange through the same client as everything else
(deadline, limits, address policy); the token never shows in a repr. Does not: store tokens or decide when one is old.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urljoin

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request

from syncportal.kernel import pointer as pointers
from syncportal.kernel import strict_json
from syncportal.remote.client import Deadline, HttpClient, HttpRequest
from syncportal.remote.errors import Forbidden, InvalidResponse, Misconfiguration, Rejected, Unauthorized
from syncportal.remote.knobs import AuthSpec
from syncportal.remote.payloads import Answer

FORM_TYPE = "application/x-www-form-urlencoded"
_WAYS = ("client_secret_basic", "client_secret_post")
LIKELY_POINTERS = ("/access_token", "/token", "/data/token", "/key", "/jwt", "/id_token", "/data/access_token")


@dataclass(frozen=True, slots=True)
class AccessGrant:
    """A token and when it ends by the clock that gave `now`; None: until the remote refuses it."""

    token: str = field(repr=False)
    expires_at: datetime | None


def fetch(
    auth: AuthSpec, *, base_url: str, secret: str, http: HttpClient, headers: Mapping[str, str], now: datetime,
    deadline: Deadline,
) -> AccessGrant:  # fmt: skip
    """Fetch a token; raises a RemoteError, or Misconfiguration when the credential does not fit."""
    if auth.kind == "oauth2_client_credentials":
        answer = _client_credentials(auth, base_url=base_url, secret=secret, http=http, deadline=deadline)
        found = pointers.get(answer.body, auth.token_pointer or "/access_token", None)
    else:
        answer = _login(auth, base_url=base_url, secret=secret, http=http, headers=headers, deadline=deadline)
        places = (auth.token_pointer,) if auth.token_pointer else LIKELY_POINTERS
        found = next((value for at in places if (value := pointers.get(answer.body, at, None))), None)
    if not isinstance(found, str) or not found.strip() or not found.isprintable():
        raise InvalidResponse(
            "The answer to the login holds no token where the configuration looks for it (auth.token_pointer).",
            code="no_token",
            status=answer.status,
        )
    return AccessGrant(found.strip(), _expiry(auth, answer.body, now=now))


def _expiry(auth: AuthSpec, body: Any, *, now: datetime) -> datetime | None:
    lasts = auth.ttl_s
    if lasts is None:
        lasts = pointers.get(body, "/expires_in", None)
        if isinstance(lasts, str) and lasts.strip().isdigit():
            lasts = float(lasts)
    if isinstance(lasts, bool) or not isinstance(lasts, (int, float)) or lasts <= 0:
        return None
    return now + timedelta(seconds=min(float(lasts), 366 * 86400.0))


def _absolute(target: str, *, base_url: str) -> str:
    if "://" in target:
        return target
    return base_url.rstrip("/") + "/" + target.lstrip("/") if target else urljoin(base_url, target)


def _client_credentials(auth: AuthSpec, *, base_url: str, secret: str, http: HttpClient, deadline: Deadline) -> Answer:
    client_id, client_secret = auth.client_id, secret
    if not client_id:
        client_id, _, client_secret = secret.partition(":")
        if not client_secret:
            raise Misconfiguration("Set auth.client_id, or give the credential as client_id:client_secret.")
    elif secret.startswith(client_id + ":"):
        client_secret = secret[len(client_id) + 1 :]
    url = _absolute(auth.token_url or auth.token_path, base_url=base_url)
    http = http.with_secrets(client_secret)
    refused: Unauthorized | Rejected | None = None
    for way in _WAYS:
        form = prepare_token_request("client_credentials", scope=auth.scope or None)
        sent_to, headers, body = ClientAuth(client_id, client_secret, way).prepare(
            "POST", url, {"Content-Type": FORM_TYPE, "Accept": "application/json"}, form
        )
        request = HttpRequest(
            method="POST", url=sent_to, headers=dict(headers), body=str(body).encode(), purpose="token"
        )
        try:
            return http.send(request, deadline=deadline)
        except (Unauthorized, Rejected) as problem:
            if problem.status not in (400, 401):
                raise
            refused = problem
    raise Unauthorized(
        f"The token endpoint refused the client credentials (HTTP {refused.status if refused else 0}).",
        code="token_refused",
        status=refused.status if refused else None,
        exchange=refused.exchange if refused else None,
    )


def _login(
    auth: AuthSpec, *, base_url: str, secret: str, http: HttpClient, headers: Mapping[str, str], deadline: Deadline
) -> Answer:
    user, _, password = secret.partition(":")
    words = {"credential": secret, "secret": secret, "user": user, "username": user, "password": password,
             "0": user, "1": password}  # fmt: skip
    body = auth.token_body
    if body is None:
        body = {"username": user, "password": password}
    filled = _filled(body, words)
    if isinstance(filled, str):
        raw, content_type = filled.encode(), FORM_TYPE
        if filled.lstrip().startswith("{"):
            content_type = "application/json"
    else:
        raw, content_type = strict_json.dumps(filled), "application/json"
    request = HttpRequest(
        method="POST",
        url=_absolute(auth.token_path or auth.token_url, base_url=base_url),
        headers={**headers, "Content-Type": content_type},
        body=raw,
        purpose="token",
    )
    try:
        return http.with_secrets(password or secret).send(request, deadline=deadline)
    except (Rejected, Forbidden) as problem:
        if problem.status not in (400, 403, 422):
            raise
        raise Unauthorized(
            f"The remote refused the login (HTTP {problem.status}).",
            code="token_refused",
            status=problem.status,
            exchange=problem.exchange,
        ) from None


def _filled(body: Any, words: Mapping[str, str]) -> Any:
    if isinstance(body, str):
        # One pass over the names, so that a brace inside a password is never filled in.
        return "".join(_word(part, words) for part in _split(body))
    if isinstance(body, Mapping):
        return {name: _filled(inner, words) for name, inner in body.items()}
    return [_filled(inner, words) for inner in body] if isinstance(body, list) else body


def _split(text: str) -> list[str]:
    parts, rest = [], text
    while "{" in rest:
        before, _, after = rest.partition("{")
        name, closed, tail = after.partition("}")
        if not closed:
            break
        parts += [before, "{" + name + "}"]
        rest = tail
    return [*parts, rest]


def _word(part: str, words: Mapping[str, str]) -> str:
    return words.get(part[1:-1], part) if part.startswith("{") and part.endswith("}") else part
