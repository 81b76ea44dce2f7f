"""Everything that happened to one record, newest first: events, exchanges and conflicts merged.

Guarantees: stable order by time, then kind, then id; three queries a page, whatever its length. Does not: check who
may see the record.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from django.db.models import Q, QuerySet

from syncportal.sync.models import Conflict, Event, SyncLog


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where an entry stands: entries are shown in descending order of this."""

    at: datetime
    kind: str
    id: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; `row` is an Event, a SyncLog or a Conflict, as `position.kind` says."""

    position: Position
    row: Any


def entries(record_id: int, *, before: Position | None, limit: int) -> list[Entry]:
    """Return up to `limit` entries older than `before`, newest first."""
    sources = [
        _newest("event", Event.objects.select_related("actor", "resource", "remote"), "at", record_id, before, limit),
        _newest("syncLog", SyncLog.objects.select_related("resource"), "at", record_id, before, limit),
        _newest(
            "conflict",
            Conflict.objects.select_related("resource__remote", "record__owner", "resolved_by"),
            "created_at",
            record_id,
            before,
            limit,
        ),
    ]
    return list(islice(merge(*sources, key=lambda entry: entry.position, reverse=True), limit))


def _newest(
    kind: str, rows: QuerySet, time_field: str, record_id: int, before: Position | None, limit: int
) -> Iterator[Entry]:
    rows = rows.filter(record_id=record_id).order_by(f"-{time_field}", "-pk")
    if before is not None:
        earlier = Q(**{f"{time_field}__lt": before.at})
        if kind < before.kind:
            earlier |= Q(**{time_field: before.at})
        elif kind == before.kind:
            earlier |= Q(**{time_field: before.at}, pk__lt=before.id)
        rows = rows.filter(earlier)
    for row in rows[:limit]:
        yield Entry(Position(getattr(row, time_field), kind, row.pk), row)
