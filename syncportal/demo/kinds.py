"""The kinds of fault, how one is described in words, and the presets of the switchboard.

Owns: `KINDS`, `PRESETS`, reading a fault from a header, the command line or JSON. Pure.
Guarantees: an unknown kind, setting or type is refused by name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class FaultError(ValueError):
    """A fault was described wrongly; the message names what and lists what is possible."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: where it strikes, what it does in one sentence, its settings with their defaults.

    `place`: before (nothing is applied), late (see delayed_apply), wire (the bytes), body, object, page.
    """

    place: str
    says: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_APPLY = {"apply": True}
KINDS: dict[str, Kind] = {
    "latency": Kind("before", "waits before the request is handled; adds to other faults", {"latency_ms": 200}),
    "timeout_before": Kind("before", "never answers, nothing applied"),
    "timeout_after": Kind("wire", "applies, never answers"),
    "delayed_apply": Kind(
        "late",
        "answers nothing (answer=0) or a status now, applies later with the request's If-Match",
        {"delay_ms": 500, "answer": 0},
    ),
    "reset_before": Kind("before", "resets the connection, nothing applied"),
    "reset_after": Kind("wire", "applies, then resets the connection"),
    "truncate": Kind("wire", "closes before Content-Length bytes were sent", {"missing": 20, **_APPLY}),
    "drip": Kind("wire", "sends the body byte by byte", {"interval_ms": 100, "chunk": 1, **_APPLY}),
    "drip_headers": Kind("wire", "sends the headers byte by byte", {"interval_ms": 100, "chunk": 1, **_APPLY}),
    "big_headers": Kind("wire", "adds many big headers", {"count": 90, "size": 4000, **_APPLY}),
    "status": Kind(
        "before",
        "answers a status; retry_after: seconds, date, past, or any text",
        {"status": 500, "retry_after": "", "body": "", "media_type": "", "apply": False},
    ),
    "redirect": Kind("before", "redirects elsewhere", {"url": "http://other.invalid/", "status": 302, "apply": False}),
    "no_change": Kind("before", "says 200 with the object as asked for, but applies nothing", {"answer": "asked"}),
    "error_200": Kind("before", "says 200 with an error text", {"apply": False}),
    "no_content": Kind("body", "answers 204 without a body", _APPLY),
    "empty": Kind("body", "answers 200 with an empty body", _APPLY),
    "html": Kind("body", "answers 200 with an HTML page", _APPLY),
    "huge": Kind("body", "answers a body of many megabytes", {"mb": 20.0, **_APPLY}),
    "gzip_bomb": Kind("body", "answers a small gzip that inflates to many megabytes", {"mb": 50.0, **_APPLY}),
    "nan": Kind("object", "puts NaN, Infinity or 1e999 in a number", {"field": "", "value": "NaN", **_APPLY}),
    "huge_integer": Kind(
        "object", "puts an integer of many digits in a number", {"field": "", "digits": 4000, **_APPLY}
    ),
    "duplicate_keys": Kind("object", "repeats a key with another value", {"field": "", **_APPLY}),
    "deep": Kind("object", "nests a field very deeply", {"field": "", "depth": 100_000, **_APPLY}),
    "nul": Kind("object", "puts a NUL character in a string", {"field": "", **_APPLY}),
    "surrogate": Kind("object", "puts a lone surrogate in a string", {"field": "", **_APPLY}),
    "bad_utf8": Kind("body", "breaks the body's UTF-8", _APPLY),
    "utf16": Kind("body", "encodes the body as UTF-16", _APPLY),
    "bom": Kind("body", "begins the body with a byte order mark", _APPLY),
    "stale_version": Kind("object", "answers the object as it was before its last write", _APPLY),
    "wrong_version": Kind(
        "object",
        "how: lower, equal (to the one before), string, missing, or value=…",
        {"how": "lower", "value": "", **_APPLY},
    ),
    "wrong_id": Kind("object", "answers another id", {"id": "WRONG-ID", **_APPLY}),
    "bad_checksum": Kind("object", "answers a checksum that does not fit", _APPLY),
    "invalid_data": Kind(
        "object", "how: type (wrong type) or missing (required field left out)", {"how": "type", "field": "", **_APPLY}
    ),
    "page_loop": Kind("page", "every page is the first and has a next"),
    "page_repeat": Kind("page", "later pages repeat the one before"),
    "page_overlap": Kind("page", "later pages begin some rows too early", {"rows": 3}),
    "page_skip": Kind("page", "later pages begin some rows too late", {"rows": 3}),
    "page_shrink": Kind("page", "the total falls while paging", {"rows": 3}),
    "page_empty": Kind("page", "later pages are empty but have a next"),
    "page_other_host": Kind("page", "next links point to another host", {"host": "http://other.invalid"}),
    "page_lose_tail": Kind("page", "the second half of the list is missing"),
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "storm-503": ("Every call is answered 503", {"kind": "status", "status": 503}),
    "storm-500": ("Half of the calls are answered 500", {"kind": "status", "status": 500, "rate": 0.5}),
    "throttle-429": (
        "Every call is answered 429, Retry-After 5",
        {"kind": "status", "status": 429, "retry_after": "5"},
    ),
    "slow-10s": ("Every call takes 10 seconds", {"kind": "latency", "latency_ms": 10_000}),
    "timeout-after": ("Writes are applied but never answered", {"kind": "timeout_after", "phase": "write"}),
    "unauthorized": ("Every call is answered 401", {"kind": "status", "status": 401}),
    "forbidden": ("Writes are answered 403", {"kind": "status", "status": 403, "phase": "write"}),
    "wrong-versions": ("Answers to writes carry a lower version", {"kind": "wrong_version", "phase": "write"}),
    "invalid-data": ("Answers to writes have a wrong type", {"kind": "invalid_data", "phase": "write"}),
    "lost-writes": ("Writes are confirmed and not kept: drift", {"kind": "no_change", "phase": "write"}),
    "html": ("Answers are HTML pages, nothing is applied", {"kind": "html", "apply": False}),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with its settings, defaults filled in."""

    kind: str
    settings: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Say where it strikes."""
        return KINDS[self.kind].place

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]


def make_fault(kind: str, **settings: Any) -> Fault:
    """Build a fault; a three-digit kind is that status. Raises FaultError on unknown kinds, settings and types."""
    kind = kind.strip().replace("-", "_")
    if len(kind) == 3 and kind.isdigit():
        kind, settings = "status", {"status": int(kind), **settings}
    if kind not in KINDS:
        raise FaultError(f"unknown fault {kind!r}; known: {', '.join(KINDS)}")
    known = KINDS[kind].settings
    filled = dict(known)
    for name, value in settings.items():
        if name not in known:
            raise FaultError(f"{kind} has no setting {name!r}; it has: {', '.join(known) or 'none'}")
        filled[name] = _like(known[name], value, name=name)
    return Fault(kind, filled)


def parse_header(text: str) -> tuple[Fault, ...]:
    """Read an X-Demo-Fault header: `kind; setting=value`, several with commas between, or JSON. Raises FaultError."""
    text = text.strip()
    if text[:1] in "[{" and text:
        try:
            listed = json.loads(text)
        except ValueError as error:
            raise FaultError(f"X-Demo-Fault is not JSON: {error}") from None
        listed = listed if isinstance(listed, list) else [listed]
        return tuple(fault_from(item) for item in listed)
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, *rest = (piece.strip() for piece in part.split(";"))
        found.append(make_fault(kind, **dict(_pair(piece) for piece in rest if piece)))
    return tuple(found)


def fault_from(item: str | Mapping[str, Any] | None) -> Fault:
    """Build a fault from text as in the header, or from an object with a kind and settings. Raises FaultError."""
    if isinstance(item, str):
        return parse_header(item)[0]
    if not isinstance(item, Mapping) or not isinstance(item.get("kind"), str):
        raise FaultError("a fault is a text or an object with a kind")
    return make_fault(item["kind"], **{str(name): value for name, value in item.items() if name != "kind"})


def _pair(piece: str) -> tuple[str, str]:
    name, _, value = piece.partition("=")
    return name.strip(), value.strip()


def _like(default: Any, value: Any, *, name: str) -> Any:
    """Read a setting's value as the type of its default."""
    if isinstance(default, bool):
        return value if isinstance(value, bool) else str(value).lower() in ("1", "true", "yes", "on")
    if isinstance(default, str):
        return value if isinstance(value, str) else json.dumps(value)
    try:
        return type(default)(value)
    except (TypeError, ValueError):
        raise FaultError(f"{name} must be a number, not {value!r}") from None
