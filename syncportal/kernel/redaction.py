"""Takes secrets out of what is stored and shown, and caps it.

Guarantees, for headers, URLs, bodies and free text alike: no value under a name that looks secret survives, no known
secret value survives in any spelling it travels in (plain, percent-encoded, base64, JSON-escaped), control characters
are shown as escapes, and a body is at most `cap` bytes followed by a mark. Works without ever failing: what cannot be
parsed is still searched as text. Does not know where secrets come from; the caller names them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote_plus

MASK: Final = "[redacted]"
DEFAULT_CAP: Final = 16 * 1024
SHORTEST_SECRET: Final = 4

_SECRET_NAME = re.compile(
    r"pass(?:word|wd|phrase|code)?(?:$|[^a-z])|pwd|secret|credential|authoriz|authentic|cookie|bearer|jwt"
    r"|(?:^|[^a-z])(?:otp|pin|cvv|cvc|sig|sid|ssn|dsn)(?:$|[^a-z])|signature|session(?:[^a-z]?(?:id|key|token))?$"
    r"|private[^a-z]?key|(?:api|access|auth|account|shared|signing|encryption|subscription|app|client|master|secret)"
    r"[^a-z]?key|(?:^|[^a-z])auth(?:$|[^a-z])"
)
_TOKEN_NAME = re.compile(r"(?:^|[^a-z])tokens?(?:$|[^a-z])|token$")
_HARMLESS_NAMES: Final = frozenset(
    {"next_page_token", "page_token", "continuation_token", "sync_token", "www-authenticate", "proxy-authenticate"}
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PAIR = re.compile(r"([?&;]|^)([^=&;?\s#]{1,200})=([^&;\s#]*)")
_JSON_PAIR = re.compile(r'"((?:[^"\\]|\\.){1,200})"(\s*:\s*)("(?:[^"\\]|\\.)*"?|[^\s,}\]\[{"]+)')
_JSON_KEY = re.compile(r'"((?:[^"\\]|\\.){1,200})"\s*:')
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_USERINFO = re.compile(r"(?<=://)[^/?#@\s]*@")
_AUTH_SCHEMES: Final = ("bearer", "basic", "token", "apikey", "digest")
_AUTH_VALUE = re.compile(rf"(?i)\b({'|'.join(_AUTH_SCHEMES)})(\s+)([A-Za-z0-9+/=_.~-]{{6,}})")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_AND_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Redactor:
    """Takes one caller's secrets out of texts; immutable, safe to share between threads, cheap to reuse.

    `secrets` are values that must never be stored; those shorter than four characters are ignored, they would blank
    ordinary text. `names` are further header, query or field names (any case) whose values are secret.
    """

    def __init__(self, *, secrets: Iterable[str] = (), names: Iterable[str] = (), cap: int = DEFAULT_CAP) -> None:
        self._secrets = tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)
        self._extra = frozenset(name.lower() for name in names)
        self._cap = cap
        self._spellings = _spellings(self._secrets)
        self._known: dict[str, bool] = {}
        self._headers: dict[tuple[str, str], tuple[str, str]] = {}

    def with_secrets(self, *secrets: str) -> Redactor:
        """Return a redactor that knows further secret values."""
        return Redactor(secrets=(*self._secrets, *secrets), names=self._extra, cap=self._cap)

    def is_secret(self, name: str) -> bool:
        """Tell whether a header, query parameter or field of this name holds a secret."""
        known = self._known.get(name)
        if known is None:
            known = name.lower() in self._extra or looks_secret(name)
            if len(self._known) < 2000:
                self._known[name] = known
        return known

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Redact header values; a secret one keeps nothing but its name."""
        shown = {}
        for name, value in headers.items():
            pair = (name, value)
            # Most headers are the same in every call.
            found = self._headers.get(pair)
            if found is None:
                found = (self.line(name), MASK if self.is_secret(name) else self.line(str(value)))
                if len(self._headers) < 500:
                    self._headers[pair] = found
            shown[found[0]] = found[1]
        return shown

    def url(self, url: str) -> str:
        """Redact userinfo and secret query parameters of a URL or query string."""
        text = self.values(_USERINFO.sub(f"{MASK}@", url))
        return visible(_PAIR.sub(self._pair, text) if "=" in text else text)

    def line(self, text: str) -> str:
        """Redact one line of free text, such as an error's detail or a header value."""
        text = self.values(text)
        if "://" in text:
            text = _USERINFO.sub(f"{MASK}@", text)
        if "=" in text:
            text = _PAIR.sub(self._pair, text)
        return visible(_without_schemes(text), keep_breaks=False)

    def values(self, text: str) -> str:
        """Replace every known secret value in a text."""
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, MASK)
        return text

    def body(self, body: bytes | str | None, *, parsed: Any = None) -> str | None:
        """Redact and cap a body; None stays None.

        `parsed` is the body's JSON value when the caller has it already; it spares a second parse.
        """
        if body is None:
            return None
        raw = body if isinstance(body, bytes) else body.encode("utf-8", "backslashreplace")
        if not raw:
            return ""
        # A value may be cut by the cap, so redaction looks at more than is kept, but never at megabytes.
        text = raw[: self._cap * 4].decode("utf-8", "backslashreplace")
        whole = len(raw) <= self._cap * 4
        if whole and text.lstrip()[:1] in ("{", "["):
            text = self._json(text, parsed)
        else:
            text = self._text(text)
        text = self.values(text)
        if not whole and self._spellings:
            # The window may end inside a secret that no pattern can recognise any more.
            text = text[: -len(self._spellings[0])]
        return self._capped(visible(text), total=len(raw), whole=whole)

    def json(self, value: Any) -> Any:
        """Return a copy of a JSON value with the secret fields masked."""
        if isinstance(value, dict):
            return {
                key: MASK if item not in (None, "", {}, []) and self.is_secret(str(key)) else self.json(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if isinstance(value, str):
            return self.values(value)
        return value

    def _json(self, text: str, parsed: Any) -> str:
        # Most bodies hold no secret name at all: then the text is kept as it came.
        if not any(self.is_secret(_plain(match[1])) for match in _JSON_KEY.finditer(text)):
            return text
        try:
            value = parsed if isinstance(parsed, (dict, list)) else json.loads(text)
            return json.dumps(self.json(value), ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            return self._text(text)

    def _text(self, text: str) -> str:
        text = _JSON_PAIR.sub(self._json_pair, text)
        if "=" in text:
            text = _PAIR.sub(self._pair, text)
        return _without_schemes(text)

    def _pair(self, match: re.Match[str]) -> str:
        return f"{match[1]}{match[2]}={MASK}" if match[3] and self.is_secret(unquote_plus(match[2])) else match[0]

    def _json_pair(self, match: re.Match[str]) -> str:
        return f'"{match[1]}"{match[2]}"{MASK}"' if self.is_secret(_plain(match[1])) else match[0]

    def _capped(self, text: str, *, total: int, whole: bool) -> str:
        raw = text.encode("utf-8")
        if whole and len(raw) <= self._cap:
            return text
        return raw[: self._cap].decode("utf-8", "ignore") + f"… [cut: {total:,} bytes in all]"


def looks_secret(name: str) -> bool:
    """Tell whether a name is one under which secrets usually travel."""
    plain = _CAMEL.sub("_", name).lower()
    if plain in _HARMLESS_NAMES:
        return False
    return bool(_SECRET_NAME.search(plain) or _TOKEN_NAME.search(plain))


def visible(text: str, *, keep_breaks: bool = True) -> str:
    """Show control and direction characters as escapes, so that a text can neither forge a line nor hide one."""
    if text.isprintable():
        return text
    return (_CONTROL if keep_breaks else _CONTROL_AND_BREAKS).sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def cap_bytes(text: str, *, cap: int = DEFAULT_CAP) -> str:
    """Cut a text to `cap` bytes of UTF-8 and say so with a mark."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= cap:
        return text
    return raw[:cap].decode("utf-8", "ignore") + f"… [cut: {len(raw):,} bytes in all]"


def _without_schemes(text: str) -> str:
    # The scan ignores case and is slow, so it only runs where one of its words stands.
    lowered = text.lower()
    return _AUTH_VALUE.sub(rf"\1\2{MASK}", text) if any(word in lowered for word in _AUTH_SCHEMES) else text


def _plain(key: str) -> str:
    if "\\" not in key:
        return key
    try:
        return str(json.loads(f'"{key}"'))
    except ValueError:
        return key


def _spellings(secrets: tuple[str, ...]) -> tuple[str, ...]:
    found: set[str] = set()
    for secret in secrets:
        for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
            found |= {quoted, _ESCAPE.sub(lambda match: match[0].lower(), quoted)}
        found |= {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        found |= {spelling.replace("/", "\\/") for spelling in tuple(found) if "/" in spelling}
        raw = secret.encode("utf-8", "surrogatepass")
        for offset in range(3 if len(raw) >= 8 else 1):
            # Base64 of something that holds the secret: only the characters no neighbour can change are searched.
            coded = base64.b64encode(b"\0" * offset + raw).decode()
            stable = coded[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
            found |= {stable, stable.replace("+", "-").replace("/", "_")}
    # Longest first, so that a spelling is never left half replaced by a shorter one inside it.
    return tuple(sorted((s for s in found if len(s) >= SHORTEST_SECRET), key=len, reverse=True))
