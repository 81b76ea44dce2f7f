"""The event feed: events after a cursor, none ever skipped.

Ids are handed out before they are committed, so on PostgreSQL event 5 can be visible while 4 still is in an open
transaction; a reader that went on from 5 would never see 4. Comparing transaction ids does not help: the owner of 4 may
have begun later than that of 5. What helps: whoever inserts events holds a table lock until it ends, from before it
takes its first id. So: note the highest id, then wait for every transaction that holds this lock at that moment; what
is visible then up to the noted id is complete. SQLite has one writer at a time, so its ids are committed in order.
Does not: decide who sees which event; the caller passes the queryset.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.db.models import QuerySet

from syncportal.sync.models import Event

_LOOKS: Final = 20
_PAUSE_S: Final = 0.01
SURELY_OVER: Final = timedelta(minutes=2)  # statement and idle timeouts end every transaction of ours sooner
_WRITERS: Final = """
    SELECT virtualtransaction FROM pg_locks
     WHERE locktype = 'relation' AND relation = %s::regclass AND mode = 'RowExclusiveLock' AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND pid IS DISTINCT FROM pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Events in the order of their ids, the cursor to go on from, and whether more are ready now."""

    events: tuple[Event, ...]
    cursor: int
    more: bool


def read(visible: QuerySet[Event], *, after: int, limit: int, now: datetime) -> FeedPage:
    """Return up to `limit` events after the cursor; may wait a fifth of a second for writers to commit."""
    end = horizon(now)
    rows = list(visible.filter(pk__gt=after, pk__lte=end).order_by("pk")[: limit + 1])
    more = len(rows) > limit
    rows = rows[:limit]
    return FeedPage(tuple(rows), rows[-1].pk if more else max(after, end), more)


def horizon(now: datetime) -> int:
    """Return the highest id up to which every event is committed or will never exist."""
    highest = newest()
    waiting = writers()
    for _ in range(_LOOKS):
        if not waiting:
            return highest
        time.sleep(_PAUSE_S)
        waiting &= writers()
    return newest(before=now - SURELY_OVER)


def newest(*, before: datetime | None = None) -> int:
    """Return the highest id that is visible now, of the events written before a time; 0 when there is none."""
    rows = Event.objects.order_by("-pk").values_list("pk", flat=True)
    return (rows if before is None else rows.filter(at__lt=before)).first() or 0


def writers() -> set[str]:
    """Return the transactions that may hold ids not visible yet; none on SQLite, which has one writer at a time."""
    if connection.vendor != "postgresql":
        return set()
    with connection.cursor() as cursor:
        cursor.execute(_WRITERS, [Event._meta.db_table])
        return {row[0] for row in cursor.fetchall()}
