"""The chain over the acts of people: a change of a sealed event, or its removal, shows.

Owns: sealing, in batches after commit, and checking. A seal is the position in the chain (16 hex digits) and the first
48 digits of the SHA-256 over the seal before and this event, so the order of the chain is the order of sealing, not
of ids, which commit out of order. Guarantees: one chain, however many seal at once. Does not: cover references that
the database may clear (record, resource, remote, user; the user's label is covered), nor events of the machine;
pruned old events are no break: the chain is checked from its oldest seal on.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import structlog
from django.db import connection
from django.db.models import Max

from syncportal.kernel.tx import atomic_retry
from syncportal.sync import events
from syncportal.sync.models import Event

log = structlog.get_logger(__name__)

PEOPLE = ("api_key", "user")
BATCH = 1_000
_POSITION, _DIGEST = 16, 48
_LOCK = 0x53594E43  # any number, the same everywhere


def seal(now: datetime, *, most: int = 20_000) -> int:
    """Seal the acts of people that are not sealed yet, at most `most`; return how many."""
    total = 0
    while total < most:
        sealed = atomic_retry(_seal_batch)
        total += sealed
        if sealed < BATCH:
            break
    return total


def verify() -> int | None:
    """Return the id of the first event at which the chain breaks, None when it holds.

    Where an event is missing, the one after the gap is named.
    """
    before: str | None = None
    for event in _chain():
        position = _position_of(event.seal)
        if before is None:
            before = "" if position == 1 else None
        elif position != _position_of(before) + 1:
            return event.pk
        if before is not None and event.seal != _seal_of(event, before=before, position=position):
            return event.pk
        before = event.seal
    return None


def _chain() -> Iterator[Event]:
    return Event.objects.exclude(seal="").order_by("seal", "id").iterator(chunk_size=2_000)


def _seal_batch() -> int:
    if not _only_me():
        return 0
    waiting = list(Event.objects.filter(seal="", actor_kind__in=PEOPLE).order_by("id")[:BATCH])
    if not waiting:
        return 0
    before = Event.objects.exclude(seal="").aggregate(last=Max("seal"))["last"] or ""
    seals: dict[int, str] = {}
    for event in waiting:
        before = seals[event.pk] = _seal_of(event, before=before, position=_position_of(before) + 1)
    events.set_seals(seals)
    # Written where whoever tampers with the database does not reach: a chain cut short or computed anew shows here.
    log.info("audit.sealed", events=len(seals), seal=before)
    return len(seals)


def _only_me() -> bool:
    """Take the chain's lock for this transaction; on SQLite the transaction is the lock."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])


def _position_of(seal_text: str) -> int:
    try:
        return int(seal_text[:_POSITION], 16) if seal_text else 0
    except ValueError:
        return -1


def _seal_of(event: Event, *, before: str, position: int) -> str:
    content = json.dumps(
        [
            before,
            event.pk,
            event.at.astimezone(UTC).isoformat(),
            event.kind,
            event.actor_kind,
            event.actor_label,
            event.data,
            event.correlation_id,
        ],
        sort_keys=True,
        separators=(",", ":"),
    )
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{position:0{_POSITION}x}{digest[:_DIGEST]}"
