"""Putting a credential on a request: one small signer per kind of authentication.

Owns: `Draft` (a request that is not sent yet) and `signer_for`. Guarantees: no database and no network; secrets never
appear in a repr. Does not: find credentials or fetch tokens (auth.py).
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

from django.utils.module_loading import import_string

from syncportal.remote.errors import Misconfiguration
from syncportal.remote.knobs import AuthSpec


@dataclass(slots=True)
class Draft:
    """A request before it is sent; a hook `sign(request)` may change headers, url and body.

    `credential` is the secret configured for the remote, for hooks that need one.
    """

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    credential: str = field(default="", repr=False)


Signer = Callable[[Draft], None]


def signer_for(auth: AuthSpec, *, secret: str) -> Signer:
    """Return the function that signs a draft; `secret` is the credential or the fetched token."""
    if auth.kind == "none":
        return _leave
    if auth.kind == "hook":
        return _hooked(load_hook(auth.hook), secret=secret)
    if auth.kind == "query":
        return _query(f"{quote(auth.name, safe='')}={quote(secret, safe='')}" if auth.name else secret.lstrip("?&"))
    if auth.kind == "basic":
        return _header("Authorization", "Basic " + base64.b64encode(secret.encode()).decode())
    if auth.kind == "header":
        return _header(auth.name or "Authorization", spaced(auth.prefix or "") + secret)
    prefix = "Bearer" if auth.prefix is None and auth.name.lower() in ("", "authorization") else auth.prefix or ""
    return _header(auth.name or "Authorization", spaced(prefix) + secret)


def spaced(prefix: str) -> str:
    """Return a prefix as it stands before a token: a word gets the space that separates it."""
    return prefix + " " if prefix and prefix[-1].isalnum() else prefix


def load_hook(path: str) -> Callable[[Draft], object]:
    """Import a signing hook (`package.module:function`, or a module with a function `sign`)."""
    dotted = path.replace(":", ".")
    try:
        try:
            found = import_string(dotted)
        except ImportError:
            found = import_string(dotted + ".sign")
    except (ImportError, ValueError) as problem:
        raise Misconfiguration(f"The signing hook {path!r} cannot be imported: {problem}") from problem
    found = found if callable(found) else getattr(found, "sign", None)
    if not callable(found):
        raise Misconfiguration(f"The signing hook {path!r} is not a function sign(request).")
    return found


def query_names(raw: str) -> frozenset[str]:
    """Return the parameter names of a raw query string, decoded."""
    return frozenset(unquote_plus(pair.partition("=")[0]) for pair in raw.split("&") if pair)


def without_query(url: str, names: frozenset[str]) -> str:
    """Return `url` without those parameters, so that a link we keep never holds the credential."""
    if not names or "?" not in url:
        return url
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if unquote_plus(pair.partition("=")[0]) not in names]
    return urlunsplit(parts._replace(query="&".join(kept)))


def with_query(url: str, raw: str) -> str:
    """Return `url` with a raw query string appended."""
    if not raw:
        return url
    return f"{url}{'&' if '?' in url else '?'}{raw}"


def _leave(draft: Draft) -> None:
    return None


def _header(name: str, value: str) -> Signer:
    def sign(draft: Draft) -> None:
        draft.headers[name] = value

    return sign


def _query(raw: str) -> Signer:
    def sign(draft: Draft) -> None:
        draft.url = with_query(draft.url, raw)

    return sign


def _hooked(hook: Callable[[Draft], object], *, secret: str) -> Signer:
    def sign(draft: Draft) -> None:
        draft.credential = secret
        try:
            answer = hook(draft)
        except Exception as problem:
            # A hook is somebody else's code: whatever it raises must name the hook and must not quote the request.
            raise Misconfiguration(f"The signing hook failed with {type(problem).__name__}.") from None
        if isinstance(answer, Draft) and answer is not draft:
            draft.url, draft.headers, draft.body = answer.url, dict(answer.headers), answer.body

    return sign
