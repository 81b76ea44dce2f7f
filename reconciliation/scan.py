"""The two-sided streaming comparison: pages of the remote's list against our rows in the byte order of their ids.

Owns: what one page, or one stretch of spooled rows, comes to. Each is one transaction that also moves the cursor, so a
killed slice is simply done again; none waits for the disk, because a power cut only takes back the last pages together
with their cursor. Guarantees: memory for one page and its rows; the list's order is checked, and at the
first row out of order the rest is spooled and compared in order afterwards; what differs is only suspected here.
Does not: confirm, repair, or conclude anything from a row that the list did not show.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from reconciliation import diff, journal, local_side
from reconciliation.diff import Pair
from reconciliation.journal import Progress, Suspicion
from reconciliation.listing import Place, Taken
from reconciliation.local_side import LocalRow, Quiet, Spooled
from reconciliation.models import Discrepancy, Run, SpooledRow
from reconciliation.states import Kind, Phase
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.validation import answer_problems

STRETCH = 1_000
NO_ID = ""


@dataclass(frozen=True, slots=True)
class ListRow:
    """One object as the list showed it."""

    external_id: str
    shown: RemoteObject
    page: str


class Scan:
    """One slice's comparing of a run; `place` is the list's, `after` the last id compared on both sides."""

    def __init__(self, run: Run, spec: ResourceSpec) -> None:
        self.run, self.spec = run, spec
        cursor = run.cursor
        self.place = Place.from_json(cursor.get("place", {}))
        self.after: str = cursor.get("after", "")
        self.boundary: str = cursor.get("boundary", "")
        self.braked: str = cursor.get("braked", "")
        self.last: dict[str, str] = cursor.get("last", {})
        self._worked_at = time.monotonic()

    def cursor(self) -> dict[str, object]:
        """Return what the next slice needs."""
        return {
            "place": self.place.as_json(), "after": self.after, "boundary": self.boundary, "braked": self.braked,
            "last": self.last,
        }  # fmt: skip

    # --- the list --------------------------------------------------------------------------------------------------

    def take_page(self, taken: Taken) -> None:
        """Compare one page, or spool it once the order was broken; one transaction."""
        atomic_retry(partial(self._take_page, taken, self.place.as_json(), self.after, dict(self.last)), durable=False)

    def _take_page(self, taken: Taken, place: dict, after: str, last: dict[str, str]) -> None:
        self.place, self.after, self.last = Place.from_json(place), after, last  # it may run several times
        now, progress = db_now(), Progress()
        rows, suspicions = self._rows(taken)
        phase = Phase(self.run.phase)
        rows, repeated = self._same_as_last(rows, phase=phase)
        if repeated:
            suspicions += repeated
            ids = [suspicion.external_id for suspicion in repeated]
            progress.counts["matched"] -= len(set(ids) - journal.suspected_as(self.run.pk, ids).keys())
        if phase == Phase.LISTING and not diff.is_ascending([row.external_id for row in rows], after=self.after):
            phase, self.boundary = Phase.SPOOLING, self.after
        if phase == Phase.SPOOLING:
            journal.spool(self.run.pk, (self._spooled(row) for row in rows))
        elif rows:
            upto = rows[-1].external_id
            suspicions += self._compare(rows, upto=upto, asked_at=taken.asked_at, counts=progress.counts)
            self.after = upto
            self.last = {"id": upto, "digest": self.spec.comparator.digest(rows[-1].shown.data), "page": taken.cursor}
        journal.suspect(self.run.pk, suspicions)
        self.place.pass_page(taken.page)
        progress.counts["remote_rows"] += len(taken.page.objects) + len(taken.page.problems)
        progress.phase = phase
        self._advance(progress, now=now)

    def _rows(self, taken: Taken) -> tuple[list[ListRow], list[Suspicion]]:
        """Return a page's objects, deleted ones left out, and what is wrong with rows that are none."""
        found, bad = [], [Suspicion(NO_ID, Kind.INVALID_REMOTE, (taken.cursor,))] if taken.page.problems else []
        for shown in taken.page.objects:
            if shown.tombstone:
                continue
            if not shown.external_id:
                bad = [Suspicion(NO_ID, Kind.INVALID_REMOTE, (taken.cursor,))]
            else:
                found.append(ListRow(shown.external_id, shown, taken.cursor))
        return found, bad

    def _same_as_last(self, rows: list[ListRow], *, phase: Phase) -> tuple[list[ListRow], list[Suspicion]]:
        """Take rows off a page's start that show the last page's last object again; other content is suspect.

        That object was counted when its own page was compared.
        """
        again: list[Suspicion] = []
        while phase == Phase.LISTING and rows and self.last and rows[0].external_id == self.last["id"]:
            if self.spec.comparator.digest(rows[0].shown.data) != self.last["digest"]:
                pages = tuple(dict.fromkeys((self.last["page"], rows[0].page)))
                again = [Suspicion(rows[0].external_id, Kind.DUPLICATE_KEY, pages)]
            rows = rows[1:]
        return rows, again

    def _spooled(self, row: ListRow) -> SpooledRow:
        digest = "" if answer_problems(row.shown.data, spec=self.spec) else self.spec.comparator.digest(row.shown.data)
        return SpooledRow(
            run_id=self.run.pk, external_id=row.external_id, digest=digest, version=row.shown.version, page=row.page
        )

    def _compare(
        self, rows: Sequence[ListRow], *, upto: str, asked_at: datetime, counts: Counter[str]
    ) -> list[Suspicion]:
        """Join a page with our rows up to its last id and return what differs."""
        quiet = self._quiet(asked_at)
        known = self._unsettled(upto=upto)
        found = []
        for pair in diff.merge_join(self._ours(after=self.after, upto=upto, quiet=quiet), rows):
            suspicion = self._judge(pair, known=known)
            self._count(pair.local, suspicion, counts)
            if suspicion is not None:
                found.append(suspicion)
        return found

    def _judge(self, pair: Pair[LocalRow, ListRow], *, known: set[str]) -> Suspicion | None:
        local, shown = pair.local, [row.shown for row in pair.remote]
        if len(shown) > 1 and any(not self.spec.comparator.equal(shown[0].data, other.data) for other in shown[1:]):
            pages = tuple(dict.fromkeys(row.page for row in pair.remote))
            return Suspicion(pair.external_id, Kind.DUPLICATE_KEY, pages)
        if local is not None and local.busy:
            return None
        if local is None:
            return Suspicion(pair.external_id, Kind.MISSING_LOCAL)
        if not shown:
            return Suspicion(pair.external_id, Kind.MISSING_REMOTE)
        kind: Kind | None = diff.compare(local.data, local.version, shown[0], spec=self.spec)
        if kind == Kind.DATA_MISMATCH and answer_problems(shown[0].data, spec=self.spec):
            kind = Kind.INVALID_REMOTE
        if kind is None and pair.external_id not in known:
            return None
        return Suspicion(pair.external_id, kind or "")

    def _count(self, local: LocalRow | None, suspicion: Suspicion | None, counts: Counter[str]) -> None:
        counts["checked"] += 1
        if suspicion is None:
            counts["busy" if local is not None and local.busy else "matched"] += 1

    # --- our rows behind the list's last -----------------------------------------------------------------------------

    def take_rest(self, *, asked_at: datetime) -> bool:
        """Suspect a stretch of our rows behind the list's last id; False when there are none left."""
        return atomic_retry(partial(self._take_rest, self.after, asked_at=asked_at), durable=False)

    def _take_rest(self, after: str, *, asked_at: datetime) -> bool:
        self.after = after
        now, progress = db_now(), Progress()
        rows = local_side.between(
            self.run.resource_id, after=after, upto=None, limit=STRETCH, quiet=self._quiet(asked_at)
        )
        if not rows:
            return False
        missing = [Suspicion(row.external_id, Kind.MISSING_REMOTE) for row in rows if not row.busy]
        progress.counts.update(checked=len(rows), busy=len(rows) - len(missing))
        journal.suspect(self.run.pk, missing)
        self.after = rows[-1].external_id
        self._advance(progress, now=now)
        return True

    # --- rows that came out of order ---------------------------------------------------------------------------------

    def begin_spooled(self) -> None:
        """Go over to comparing what was spooled, from its first id on."""
        self.last = {"spool": ""}
        atomic_retry(lambda: self._advance(Progress(phase=Phase.SORTED_REST), now=db_now()))

    def take_spooled(self, *, asked_at: datetime) -> bool:
        """Compare a stretch of spooled rows; False when there are none left."""
        return atomic_retry(partial(self._take_spooled, self.after, dict(self.last), asked_at=asked_at), durable=False)

    def _take_spooled(self, after: str, last: dict[str, str], *, asked_at: datetime) -> bool:
        self.after, self.last = after, last
        now, progress = db_now(), Progress()
        rows = local_side.spooled(self.run.pk, after=last["spool"], limit=STRETCH)
        if not rows:
            return False
        quiet = self._quiet(asked_at)
        early = [row for row in rows if row.external_id <= self.boundary]
        late = [row for row in rows if row.external_id > self.boundary]
        suspicions = self._seen_late(early, quiet=quiet, counts=progress.counts) if early else []
        if late:
            known = self._unsettled(upto=late[-1].external_id)
            for pair in diff.merge_join(self._ours(after=self.after, upto=late[-1].external_id, quiet=quiet), late):
                suspicion = self._judge_spooled(pair.external_id, pair.local, pair.remote, known=known)
                self._count(pair.local, suspicion, progress.counts)
                suspicions += [suspicion] if suspicion is not None else []
            self.after = late[-1].external_id
        self.last = {"spool": rows[-1].external_id}
        journal.suspect(self.run.pk, suspicions)
        self._advance(progress, now=now)
        return True

    def _seen_late(self, rows: Sequence[Spooled], *, quiet: Quiet, counts: Counter[str]) -> list[Suspicion]:
        """Compare rows whose place in the order was passed before the list showed them."""
        ids = list(dict.fromkeys(row.external_id for row in rows))
        ours = local_side.named(self.run.resource_id, ids, quiet=quiet)
        suspected = journal.suspected_as(self.run.pk, ids)
        missed = {external_id for external_id, kind in suspected.items() if kind == Kind.MISSING_REMOTE}
        unsettled = Discrepancy.objects.unsettled().filter(resource_id=self.run.resource_id)
        known = set(unsettled.filter(external_id__in=ids).values_list("external_id", flat=True))
        journal.acquit(self.run.pk, missed)
        found = []
        for external_id in ids:
            local = ours.get(external_id)
            shown = tuple(row for row in rows if row.external_id == external_id)
            suspicion = self._judge_spooled(external_id, local, shown, known=known if external_id in missed else set())
            if external_id in missed:
                counts["matched"] += suspicion is None
            elif local is None and external_id not in suspected:
                counts["checked"] += 1
            elif suspicion is not None and external_id not in suspected:  # it matched when its place was passed
                counts["matched"] -= 1
            found += [suspicion] if suspicion is not None else []
        return found

    def _judge_spooled(
        self, external_id: str, local: LocalRow | None, rows: Sequence[Spooled], *, known: set[str]
    ) -> Suspicion | None:
        if len(rows) > 1:
            return Suspicion(external_id, Kind.DUPLICATE_KEY, tuple(dict.fromkeys(row.page for row in rows)))
        if local is not None and local.busy:
            return None
        if local is None:
            return Suspicion(external_id, Kind.MISSING_LOCAL)
        if not rows:
            return Suspicion(external_id, Kind.MISSING_REMOTE)
        if self.spec.comparator.digest(local.data) != rows[0].digest:
            return Suspicion(external_id, Kind.DATA_MISMATCH)
        if diff.drifted(local.version, rows[0].version):
            return Suspicion(external_id, Kind.VERSION_DRIFT)
        return Suspicion(external_id) if external_id in known else None

    # --- shared ------------------------------------------------------------------------------------------------------

    def _ours(self, *, after: str, upto: str, quiet: Quiet) -> Iterable[LocalRow]:
        while True:
            rows = local_side.between(self.run.resource_id, after=after, upto=upto, limit=STRETCH, quiet=quiet)
            yield from rows
            if len(rows) < STRETCH:
                return
            after = rows[-1].external_id

    def _quiet(self, asked_at: datetime) -> Quiet:
        return Quiet.at(asked_at, lag_s=self.spec.policy.lag_s)

    def _unsettled(self, *, upto: str) -> set[str]:
        """Return what an earlier run left unsettled in (after, upto]: it is read again, so that it can close."""
        rows = Discrepancy.objects.unsettled().filter(resource_id=self.run.resource_id)
        rows = rows.annotate(key=local_side.bytewise("external_id")).filter(key__gt=self.after, key__lte=upto)
        return set(rows.values_list("external_id", flat=True))

    def _advance(self, progress: Progress, *, now: datetime) -> None:
        progress.cursor = self.cursor()
        spent, self._worked_at = time.monotonic() - self._worked_at, time.monotonic()
        journal.advance(self.run, progress, now=now, worked_ms=round(1000 * spent))
