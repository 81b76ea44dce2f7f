"""The guarantee card: what a remote was seen to do, and the promise that follows from it.

Owns: `Observations` and `card_of`. Guarantees: pure; what was not seen is None or "unknown", never a guess.
Does not: observe anything; probe.py does.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

UNKNOWN, YES, NO = "unknown", "yes", "no"


@dataclass(slots=True)
class Observations:
    """What a probe saw; None means that it could not be seen."""

    list_readable: bool | None = None
    keeps_order: bool | None = None
    page_cap: int | None = None
    total_shown: bool | None = None
    version_in_list: bool | None = None
    version_real: bool | None = None
    version_coarse: bool | None = None
    wrote: bool = False
    scratch: str = ""
    stale_write_refused: bool | None = None
    precondition_required: bool | None = None
    bumps_on_equal_write: bool | None = None
    returns_object: bool | None = None
    normalises: list[str] = field(default_factory=list)
    idempotency: bool | None = None
    retry_after_seen: bool = False
    window_ms: int | None = None
    problems: list[str] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)


def card_of(seen: Observations, *, send: str) -> dict[str, Any]:
    """Return the card as JSON; `send` is the configured precondition."""
    conditional = conditional_writes(seen, send=send)
    return {
        "conditional_writes": conditional,
        **asdict(seen),
        "promise": promise(conditional, window_ms=seen.window_ms, pages_by_order=seen.keeps_order),
    }


def conditional_writes(seen: Observations, *, send: str) -> str:
    """Say whether the remote refuses a stale write of ours: yes, no, or unknown when no write was made."""
    if send == "none" or seen.version_real is False:
        return NO
    if seen.stale_write_refused is None:
        return UNKNOWN
    return YES if seen.stale_write_refused else NO


def promise(conditional: str, *, window_ms: int | None, pages_by_order: bool | None) -> str:
    """Say in words what holds."""
    if conditional == YES:
        text = "The remote refuses a stale write, so nothing that somebody else changed is ever overwritten unread."
    elif conditional == NO:
        window = f"about {window_ms} ms" if window_ms else "the time of one call"
        text = (
            "The remote does not refuse stale writes: it is read before and after each write, and a change that "
            f"somebody else makes within {window} in between can be overwritten."
        )
    else:
        text = "The configured precondition is trusted; probe with --write to find out whether the remote keeps it."
    if pages_by_order is False:
        text += " Its list changes order while it is read, so an object may be seen only in the next run."
    return text
