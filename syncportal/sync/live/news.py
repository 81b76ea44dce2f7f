"""What pages are told: "look again at these", and how the person's own saves came out.

Guarantees: no content of records but their titles; what the remote said is capped and is text, never markup. Does not:
say what a page shows; pages read that from the tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from django.urls import reverse

from syncportal.sync.events import Kind
from syncportal.sync.live.hub import Viewer
from syncportal.sync.live.stream import frame
from syncportal.sync.live.tail import OUTCOMES, Happening
from syncportal.sync.models import Event

NAMED: Final = 100  # more records than this are not named: everybody looks again
_TITLE, _DETAIL = 60, 160


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one save came out. `tone` is success, warning or error; `over`: nothing follows by itself."""

    id: int
    record: int
    title: str
    text: str
    tone: str
    over: bool
    url: str

    def as_json(self) -> dict[str, Any]:
        """Return the fields that the page's script reads."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class PageNews:
    """Tells pages what moved; the last page of the past is enough."""

    skips: ClassVar[bool] = True

    def __call__(self, seen: Sequence[Happening], *, viewer: Viewer, cursors: Sequence[int]) -> str:
        """Return one frame for what moved, and one for the person's own saves."""
        yours = outcomes(seen, user_id=viewer.user_id)
        told = frame([one.as_json() for one in yours], event="yours") if yours else ""
        return told + frame(moved(seen), event="moved", cursor=cursors[-1])


def moved(seen: Sequence[Happening]) -> dict[str, Any]:
    """Return which records and which kinds of events to look at again; records null for very many."""
    records = {one.event.record_id for one in seen if one.event.record_id is not None}
    named = sorted(records) if len(records) <= NAMED else None
    return {"records": named, "kinds": sorted({one.event.kind for one in seen})}


def outcomes(seen: Sequence[Happening], *, user_id: int) -> list[Outcome]:
    """Return how the person's own saves came out, the last of each record."""
    mine = {one.event.record_id: one for one in seen if user_id in one.savers and one.event.kind in OUTCOMES}
    return [_outcome(one.event, one.title) for one in mine.values()]


def _outcome(event: Event, title: str) -> Outcome:
    text, tone, over = _words(event)
    record_id = event.record_id or 0
    return Outcome(
        id=event.pk,
        record=record_id,
        title=_cut(title, _TITLE) or f"record {record_id}",
        text=text,
        tone=tone,
        over=over,
        url=reverse("admin:sync_record_change", args=[record_id]),
    )


def _words(event: Event) -> tuple[str, str, bool]:
    data = event.data
    why = _cut(str(data.get("detail") or data.get("reason") or "").rstrip("."), _DETAIL)
    because = f": {why}" if why else ""
    again = _until(data.get("next_attempt_at"), event.at)
    match event.kind:
        case Kind.SYNC_SUCCEEDED if data.get("operation") == "delete":
            return "deleted at the remote", "success", True
        case Kind.SYNC_SUCCEEDED:
            return "synced", "success", True
        case Kind.SYNC_SKIPPED:
            return "synced, the remote had it already", "success", True
        case Kind.SYNC_CONFLICT:
            return "both sides changed; decide which value is right", "warning", True
        case Kind.SYNC_POSTPONED:
            return f"waits for the remote{because}{again}", "warning", False
        case Kind.SYNC_FAILED if again:
            return f"failed{because}{again}", "warning", False
        case Kind.SYNC_DEAD_LETTERED:
            return f"given up{because}", "error", True
        case Kind.SYNC_VALIDATION_FAILED:
            return f"sent, but the answer is not valid{because}", "error", True
    return f"failed{because}", "error", True


def _until(moment: object, now: datetime) -> str:
    """Return when the next try is, as seen at the event."""
    if not isinstance(moment, str) or not moment:
        return ""
    seconds = max(1, round((datetime.fromisoformat(moment) - now).total_seconds()))
    return f"; retry in {seconds} s" if seconds < 120 else f"; retry in {round(seconds / 60)} min"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
