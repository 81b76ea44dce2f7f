"""Events that somebody must be told of: dead letters, failed undos, refused credentials, conflicts handed over.

Guarantees: the feed's cursor skips none, and it moves in the transaction that hangs them on their alerts; so each is
told at least once, even if it was mended before anybody looked. Does not: tell; alerts do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.urls import NoReverseMatch, reverse

from syncportal.ops.alerts.kinds import Kind
from syncportal.sync import feed, scan_positions
from syncportal.sync.events import Kind as Happened
from syncportal.sync.models import Event, ScanPosition

POSITION: Final = "alert_news"
BATCH: Final = 2_000
_KINDS: Final[dict[str, Kind]] = {
    Happened.SYNC_DEAD_LETTERED: Kind.DEAD_LETTERS,
    Happened.COMPENSATION_FAILED: Kind.FAILED_UNDOS,
    Happened.REMOTE_PAUSED: Kind.CREDENTIAL_REFUSED,
    Happened.CONFLICT_ESCALATED: Kind.CONFLICTS_WAITING,
}
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class NewsItem:
    """One event for a rule of `kind`; `shown` is what a message says of it."""

    kind: str
    at: datetime
    remote_id: int | None
    resource_id: int | None
    shown: dict[str, Any]


@dataclass(frozen=True, slots=True)
class News:
    """Events between two positions of the feed."""

    items: tuple[NewsItem, ...]
    after: int
    cursor: int


def read(*, now: datetime) -> News:
    """Return what happened since the last time; takes nothing yet."""
    after = ScanPosition.objects.filter(pk=POSITION).values_list("after_id", flat=True).first() or 0
    rows = Event.objects.filter(kind__in=list(_KINDS)).select_related("record__owner", "resource", "remote")
    page = feed.read(rows, after=after, limit=BATCH, now=now)
    # A person who paused a remote by hand knows it.
    told = [row for row in page.events if row.kind != Happened.REMOTE_PAUSED or row.actor_kind == "worker"]
    return News(tuple(_item(row) for row in told), after, page.cursor)


def take(news: News) -> Sequence[NewsItem]:
    """Move the position, in the caller's transaction, and return the items; none when somebody else took them."""
    if scan_positions.locked(POSITION) != news.after:
        return ()
    scan_positions.move(POSITION, to=news.cursor)
    return news.items


def _item(row: Event) -> NewsItem:
    data = row.data if isinstance(row.data, dict) else {}
    error = data.get("error")
    said = error if isinstance(error, dict) else data
    why = said.get("detail") or said.get("code") or said.get("reason")
    where = row.resource.slug if row.resource else row.remote.slug if row.remote else str(data.get("remote") or "?")
    what = str(row.record) if row.record else "deleted record"
    path = _path("admin:sync_record_change", row.record_id)
    if row.kind == Happened.COMPENSATION_FAILED:
        what += f" (request {data.get('request', '?')}, group {data.get('group', '?')})"
        path = _path("admin:rollback_group_change", data.get("group_pk"))
    elif row.kind == Happened.CONFLICT_ESCALATED:
        owner = row.record.owner if row.record else None
        what += f" (owner: {owner.get_username()})" if owner else " (no owner)"
        path = _path("admin:sync_conflict_change", data.get("conflict"))
    elif row.kind == Happened.REMOTE_PAUSED:
        what, path = "all calls are paused", _path("admin:remote_remote_change", row.remote_id)
    shown = {"where": where[:_LONGEST], "what": what[:_LONGEST], "why": str(why or "")[:_LONGEST], "path": path}
    return NewsItem(_KINDS[row.kind].value, row.at, row.remote_id, row.resource_id, shown)


def _path(name: str, pk: Any) -> str:
    try:
        return reverse(name, args=[pk]) if isinstance(pk, int) else ""
    except NoReverseMatch:
        return ""
