"""Whether a write may happen: If-Match, If-None-Match, If-Unmodified-Since, a version in the body or the query. Pure.

Owns: the verdict. Does not: hold the lock; the store calls the check in the same step as the write.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from syncportal.demo.messages import Call
from syncportal.demo.spec import Collection
from syncportal.demo.store import Check, Refused
from syncportal.demo.versions import Held, token_of


def expectation(call: Call, *, spec: Collection, body: Mapping[str, Any]) -> str:
    """Return what the request says it has seen, as text; empty when it says nothing."""
    if spec.precondition == "if_match":
        return call.headers.get("if-match", "")
    if spec.precondition == "if_unmodified_since":
        return call.headers.get("if-unmodified-since", "")
    if spec.precondition == "query":
        return call.query.get(spec.precondition_param, "")
    if spec.precondition == "body":
        seen = body.get(spec.precondition_param)
        return "" if seen is None else str(seen)
    return ""


def checker(call: Call, *, spec: Collection, body: Mapping[str, Any]) -> Check:
    """Make the check for one write; it raises Refused (the conflict status, or 428) when the write may not happen."""
    expected = expectation(call, spec=spec, body=body)
    fresh_only = call.headers.get("if-none-match", "").strip() == "*"

    def check(current: Held | None) -> None:
        alive = current is not None and not current.buried
        if fresh_only:
            if alive:
                raise Refused(412, "exists", "There is such an object already.")
            return
        if not expected:
            if spec.require_precondition and alive:
                raise Refused(428, "precondition_required", "Say which version you have seen.")
            return
        if current is not None and alive and not _same(expected, current, spec):
            raise Refused(spec.conflict_status, "stale", "The object has changed since that version.")

    return check


def _same(expected: str, current: Held, spec: Collection) -> bool:
    if spec.precondition == "if_match":
        tokens = [token.strip() for token in expected.split(",")]
        return "*" in tokens or token_of(current, spec=spec) in tokens
    if spec.precondition == "if_unmodified_since":
        try:
            return current.changed_at.replace(microsecond=0) <= parsedate_to_datetime(expected)
        except (TypeError, ValueError):
            raise Refused(400, "bad_date", "If-Unmodified-Since is not an HTTP date.") from None
    return expected == str(current.version)
