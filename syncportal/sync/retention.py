"""Forgets history that is old enough: exchanges of the sync log, events of the machine, roll-ups, error groups, pulls.

Guarantees: a record keeps its last `KEPT_PER_RECORD` exchanges and events however old they are; small transactions; a
slice goes on where the last one stopped. Does not: touch acts of people (their chain would show a gap), conflicts,
records or jobs.
"""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.db.models import F, Model, Q, Window
from django.db.models.functions import RowNumber

from syncportal.kernel.tx import atomic_retry
from syncportal.sync import error_groups, events, pull, records, rollups, scan_positions
from syncportal.sync.audit import PEOPLE
from syncportal.sync.models import Event, SyncLog

KEPT_FOR: Final = timedelta(days=90)
KEPT_PER_RECORD: Final = 20
BATCH: Final = 1_000


def prune(now: datetime, *, seconds: float = 10.0) -> int:
    """Forget old counts, and for about `seconds` old exchanges and events; return how many of those."""
    until = time.monotonic() + seconds
    atomic_retry(partial(rollups.prune, now))
    atomic_retry(partial(error_groups.prune, now))
    atomic_retry(partial(pull.prune, now))
    logs = _prune(SyncLog, Q(), name="retention_logs", now=now, until=until)
    return logs + _prune(Event, ~Q(actor_kind__in=PEOPLE), name="retention_events", now=now, until=until)


def _prune(table: type[Model], which: Q, *, name: str, now: datetime, until: float) -> int:
    removed = 0
    while True:
        gone, more = atomic_retry(partial(_batch, table, which, name=name, now=now))
        removed += gone
        if not more or time.monotonic() >= until:
            return removed


def _batch(table: type[Model], which: Q, *, name: str, now: datetime) -> tuple[int, bool]:
    """Look at the next rows that are old enough; return how many were removed, and whether there are more."""
    rows = table._default_manager.filter(which, at__lt=now - KEPT_FOR, pk__gt=scan_positions.locked(name)).order_by(
        "pk"
    )
    found = list(rows.values_list("pk", "record_id")[:BATCH])
    more = len(found) == BATCH
    scan_positions.move(name, to=found[-1][0] if more else 0)
    kept = _newest(table, {record_id for _, record_id in found if record_id is not None})
    old = [pk for pk, _ in found if pk not in kept]
    records.note_history_removed({who for pk, who in found if pk not in kept and who is not None}, now=now)
    return (events.forget_logs(old) if table is SyncLog else events.forget(old)), more


def _newest(table: type[Model], record_ids: Iterable[int]) -> set[int]:
    place = Window(RowNumber(), partition_by=F("record_id"), order_by=F("pk").desc())
    rows = table._default_manager.filter(record_id__in=list(record_ids)).annotate(place=place)
    return set(rows.filter(place__lte=KEPT_PER_RECORD).values_list("pk", flat=True))
