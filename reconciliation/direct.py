"""Comparing by reading each object: for remotes without a list, for selections, and for the daily sample.

Guarantees: batches of at most 200, bounded concurrency, the cursor moves with each batch. What differs is only
suspected, as after a list. Does not: find objects that exist only at the remote; without a list nobody can.
"""

import time
from functools import partial

from reconciliation import diff, journal, local_side
from reconciliation.journal import Progress, Suspicion
from reconciliation.local_side import LocalRow, Quiet
from reconciliation.models import Discrepancy, Run
from reconciliation.pace import Pace
from reconciliation.reading import Reading, in_threads, read, what_stops
from reconciliation.states import Kind, Phase, Scope
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.gateway import ResourceClient

BATCH = 200


class Direct:
    """One slice's reading of each record's object."""

    def __init__(self, run: Run, client: ResourceClient) -> None:
        self.run, self.client, self.spec = run, client, client.spec

    def take_batch(self, *, pace: Pace, until: float) -> bool:
        """Compare the next records; False when there are none left. Raises the error all reads ended with."""
        begun, asked_at = time.monotonic(), db_now()
        after_id = int(self.run.cursor.get("after_id", 0))
        only = None if self.run.scope == Scope.ALL else self.run.record_ids
        quiet = Quiet.at(asked_at, lag_s=self.spec.policy.lag_s)
        rows = local_side.behind(self.run.resource_id, after_id=after_id, limit=BATCH, quiet=quiet, record_ids=only)
        if not rows:
            return False
        idle = [row for row in rows if not row.busy]
        readings = {
            reading.external_id: reading
            for reading in in_threads(
                lambda row: read(self.client, row.external_id, version=row.version), idle, pace=pace, until=until
            )
        }
        for row in idle:
            if row.external_id in readings:
                pace.heard(readings[row.external_id].error, record_id=row.record_id)
        stops = what_stops(readings.values(), last_try=journal.is_last_try(self.run, most=self.spec.most_reads))
        if stops is not None:
            raise stops
        done = self._in_order(rows, readings)
        spent = round(1000 * (time.monotonic() - begun))
        if done:
            atomic_retry(partial(self._store, done, readings, worked_ms=spent), durable=False)
        return True

    def _in_order(self, rows: list[LocalRow], readings: dict[str, Reading]) -> list[LocalRow]:
        """Return the rows before the first one that time did not suffice for."""
        done = []
        for row in rows:
            if not row.busy and row.external_id not in readings:
                break
            done.append(row)
        return done

    def _store(self, rows: list[LocalRow], readings: dict[str, Reading], *, worked_ms: int) -> None:
        now, progress = db_now(), Progress(phase=Phase.READING)
        unsettled = Discrepancy.objects.unsettled().filter(resource_id=self.run.resource_id)
        known = set(
            unsettled.filter(external_id__in=[row.external_id for row in rows]).values_list("external_id", flat=True)
        )
        suspicions = []
        for row in rows:
            progress.counts["checked"] += 1
            if row.busy:
                progress.counts["busy"] += 1
                continue
            kind = self._kind(row, readings[row.external_id])
            if kind is None and row.external_id not in known:
                progress.counts["matched"] += 1
            else:
                suspicions.append(Suspicion(row.external_id, kind or ""))
        journal.suspect(self.run.pk, suspicions)
        progress.cursor = {**self.run.cursor, "after_id": rows[-1].record_id}
        journal.advance(self.run, progress, now=now, worked_ms=worked_ms)

    def _kind(self, row: LocalRow, reading: Reading) -> Kind | None:
        if reading.unreadable:
            return Kind.INVALID_REMOTE
        if reading.shown is None:
            return Kind.MISSING_REMOTE
        return diff.compare(row.data, row.version, reading.shown, spec=self.spec)
