"""The closed taxonomy of what can go wrong with a remote, and the pure function that classifies a status.

Owns every exception the rest of the system sees from a remote; nobody outside this package reads status codes.
Guarantees: each error knows its kind, whether a write may have been applied, and one sentence for the operator that
holds no secret. Does not decide what happens to a job: that is the executor's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from syncportal.kernel import pointer
from syncportal.remote.payloads import Answer, Exchange


class ErrorKind(StrEnum):
    """Every kind of failure a call to a remote can have."""

    unreachable = "unreachable"
    timeout = "timeout"
    server_fault = "server_fault"
    throttled = "throttled"
    rejected = "rejected"
    missing = "missing"
    unauthorized = "unauthorized"
    forbidden = "forbidden"
    conflict = "conflict"
    invalid_response = "invalid_response"


TRANSIENT_KINDS: Final = frozenset({ErrorKind.unreachable, ErrorKind.timeout, ErrorKind.server_fault})


class RemoteError(Exception):
    """A call to a remote failed.

    `code` is short and stable ("http_503", "dns", "too_large"); `retry_after_s` is what the remote asked for, not yet
    capped; `maybe_applied` is True when a byte of a write may have arrived and no definite answer came; `answer` holds
    the parsed refusal when it was JSON.
    """

    kind: ClassVar[ErrorKind]

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        maybe_applied: bool = False,
        exchange: Exchange | None = None,
        answer: Answer | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s
        self.maybe_applied = maybe_applied
        self.exchange = exchange
        self.answer = answer

    @property
    def transient(self) -> bool:
        """Tell whether the same call may succeed later without anybody acting."""
        return self.kind in TRANSIENT_KINDS

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, status={self.status}, maybe_applied={self.maybe_applied})"


class Unreachable(RemoteError):
    """The remote was never reached, nothing was sent; the call is tried again later."""

    kind = ErrorKind.unreachable


class Timeout(RemoteError):
    """No complete answer came in time or the connection broke; a write is read back before it is tried again."""

    kind = ErrorKind.timeout


class ServerFault(RemoteError):
    """The remote reported a fault of its own; the call is tried again later."""

    kind = ErrorKind.server_fault


class Throttled(RemoteError):
    """The remote asked us to slow down; the call is postponed and not counted as an attempt."""

    kind = ErrorKind.throttled


class Rejected(RemoteError):
    """The remote refused the request for good; a person has to change something."""

    kind = ErrorKind.rejected


class Missing(RemoteError):
    """The remote says that the object does not exist; a second read confirms it before a person is asked."""

    kind = ErrorKind.missing


class Unauthorized(RemoteError):
    """The remote refused our credential; the remote is paused until a person renews it."""

    kind = ErrorKind.unauthorized


class Forbidden(RemoteError):
    """The remote forbids this call; a known-good read decides whether the credential or the object is refused."""

    kind = ErrorKind.forbidden


class Conflict(RemoteError):
    """The object changed at the remote since we read it; both sides are compared next."""

    kind = ErrorKind.conflict


class InvalidResponse(RemoteError):
    """The remote answered something that cannot be trusted; nothing of it was taken over."""

    kind = ErrorKind.invalid_response


class Misconfiguration(Exception):
    """The call cannot start because the configuration is incomplete; the detail says what to do."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


DEFAULT_RETRY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
REDIRECTS: Final = frozenset({300, 301, 302, 303, 305, 307, 308})
EXCERPT_CHARS: Final = 300
MAX_RETRY_AFTER_S: Final = 10.0 * 365 * 86400
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?\Z", re.ASCII)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


@dataclass(frozen=True, slots=True)
class StatusRules:
    """What the statuses of one resource mean.

    `retry` and `transient` list statuses worth another attempt (409 in `retry` counts only with Retry-After; while
    `retry` is the default, every 5xx is). `gone` means the object does not exist. `conflict` statuses mean a conflict,
    narrowed by `conflict_pointer` = `conflict_value` in the body when a pointer is given. `required` statuses mean
    that a precondition was missing.
    """

    retry: frozenset[int] = DEFAULT_RETRY
    transient: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset({404, 410})
    conflict: frozenset[int] = frozenset({412})
    conflict_pointer: str | None = None
    conflict_value: Any = None
    required: frozenset[int] = frozenset({428})


DEFAULT_RULES: Final = StatusRules()


@dataclass(frozen=True, slots=True)
class Refusal:
    """What `classify` looks at beside the status: headers (lower-case names), parsed body, plain-text excerpt."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    excerpt: str = ""
    is_write: bool = False
    had_precondition: bool = False


def classify(status: int, refusal: Refusal, *, now: datetime, rules: StatusRules = DEFAULT_RULES) -> RemoteError | None:
    """Turn a status into the error it means, None for 2xx.

    Only 4xx answers are definite for a write; a 409 with Retry-After says that an earlier send of ours is still being
    worked on, so it is not. `now` is used for a Retry-After given as a date.
    """
    if 200 <= status < 300:
        return None
    raw_retry_after = refusal.headers.get("retry-after")
    retry_after = parse_retry_after(raw_retry_after, now=now)
    kind, code, sentence = _decide(status, refusal, rules=rules, asked_to_wait=retry_after is not None)
    definite = 400 <= status < 500 and not (status == 409 and kind is Throttled)
    detail = f"{sentence} (HTTP {status})" + (f": {refusal.excerpt}" if refusal.excerpt else ".")
    return kind(
        detail,
        code=code,
        status=status,
        retry_after_s=retry_after,
        maybe_applied=refusal.is_write and not definite,
    )


def _decide(
    status: int, refusal: Refusal, *, rules: StatusRules, asked_to_wait: bool
) -> tuple[type[RemoteError], str, str]:
    code = f"http_{status}"
    if _is_throttled(status, rules=rules, asked_to_wait=asked_to_wait):
        return Throttled, code, "The remote asks us to wait"
    if status == 401:
        return Unauthorized, code, "The remote refused the credential"
    if _is_conflict(status, refusal.body, rules=rules):
        return Conflict, code, "The object changed at the remote since it was read"
    if status in rules.transient:
        return ServerFault, code, "The remote cannot take the request just now"
    if status in rules.gone:
        return Missing, code, "The remote has no such object"
    if status == 403:
        return Forbidden, code, "The remote forbids this call"
    if status in rules.required and not refusal.had_precondition:
        return Rejected, "precondition_required", "The remote wants a precondition that is not configured"
    return _decide_by_class(status, code, rules=rules)


def _decide_by_class(status: int, code: str, *, rules: StatusRules) -> tuple[type[RemoteError], str, str]:
    if status in REDIRECTS:
        return Rejected, "redirect", "The remote answered with a redirect, which is never followed: correct the URL"
    if status == 408:
        kind: type[RemoteError] = Timeout if status in rules.retry else Rejected
        return kind, code, "The remote waited too long for the request"
    if status >= 500 and (status in rules.retry or rules.retry == DEFAULT_RETRY):
        return ServerFault, code, "The remote failed"
    if status in rules.retry and status != 409:
        return ServerFault, code, "The remote cannot take the request just now"
    if status >= 400:
        return Rejected, code, "The remote refused the request"
    return InvalidResponse, code, "The remote answered with a status that makes no sense here"


def _is_throttled(status: int, *, rules: StatusRules, asked_to_wait: bool) -> bool:
    if status == 429:
        return True
    return asked_to_wait and (status == 503 or (status == 409 and 409 in rules.retry))


def _is_conflict(status: int, body: Any, *, rules: StatusRules) -> bool:
    if status not in rules.conflict:
        return False
    if rules.conflict_pointer is None:
        return True
    found = pointer.get(body, rules.conflict_pointer)
    if found is pointer.MISSING:
        return False
    return found == rules.conflict_value or str(found) == str(rules.conflict_value)


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Read a Retry-After header as seconds from `now`.

    Takes seconds or an HTTP date; a past date is 0, garbage is None. At most ten years; the caller caps it further.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.match(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    if len(text) > 64:
        return None
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    try:
        seconds = (at - now).total_seconds()
    except OverflowError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def excerpt(text: str | None, *, limit: int = EXCERPT_CHARS) -> str:
    """Cut a remote's own words to one short line of plain text, without control or direction characters."""
    if not text:
        return ""
    line = _SPACE.sub(" ", text[: limit * 8]).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"
