"""A guarantee card as sentences. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One finding: `tone` is success, warning or info; `answer` is for people."""

    question: str
    answer: str
    tone: str
    icon: str


# Key of the card: question, what yes means, what no means, and which of both is good news.
_QUESTIONS: tuple[tuple[str, str, str, str, bool], ...] = (
    ("stale_write_refused", "Stale writes", "refused", "taken: a window remains", True),
    ("version_real", "Versions", "real", "not usable", True),
    ("version_coarse", "Resolution of versions", "coarse: two edits in a second may share one", "fine", False),
    ("version_in_list", "Versions in the list", "shown", "not shown", True),
    ("precondition_required", "Writes without a precondition", "refused", "taken", True),
    ("bumps_on_equal_write", "A write that changes nothing", "makes a new version", "keeps the version", True),
    ("returns_object", "The answer to a write", "shows the object", "does not show it, so it is read again", True),
    ("idempotency", "The same write twice with one key", "is done once", "is done twice", True),
    ("list_readable", "The list", "readable", "partly unreadable", True),
    ("keeps_order", "Order while paging", "stays", "changes, so one may be missed until the next run", True),
    ("total_shown", "Total number", "told", "not told", True),
)


def guarantee_lines(card: Mapping[str, Any] | None) -> tuple[Line, ...]:
    """Return what was found, in order; what was not looked at is left out."""
    if not card:
        return ()
    lines = []
    for key, question, yes, no, good in _QUESTIONS:
        seen = card.get(key)
        if isinstance(seen, bool):
            fine = seen is good
            lines.append(Line(question, yes if seen else no, "success" if fine else "warning", _icon(fine)))
    late = card.get("late_writes")
    if isinstance(late, Mapping):
        lines.append(Line("A late write, met by an undo", str(late.get("promise", "")), "warning", "alert"))
    if card.get("window_ms"):
        lines.append(Line("A read takes about", f"{card['window_ms']} ms", "info", "clock"))
    if card.get("page_cap"):
        lines.append(Line("Page size is capped at", str(card["page_cap"]), "info", "info"))
    if card.get("normalises"):
        lines.append(Line("Values come back changed", _listed(card["normalises"]), "info", "info"))
    for problem in card.get("problems") or ():
        lines.append(Line("Problem", str(problem), "warning", "alert"))
    for leftover in card.get("leftover") or ():
        lines.append(Line("Could not be cleaned up", str(leftover), "warning", "alert"))
    return tuple(lines)


def _icon(fine: bool) -> str:
    return "check" if fine else "alert"


def _listed(values: Any) -> str:
    return ", ".join(str(value) for value in values) if isinstance(values, list) else str(values)
