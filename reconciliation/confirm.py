"""From a suspicion to a finding: one single read, compared with our row under its lock, in one transaction a batch.

Guarantees: a difference counts only if revision, version and claim number are what they were before the read, and
nothing is in flight; what the policy repairs is repaired in the transaction that stores the finding; a killed slice
repeats a batch without effect. Does not: decide which objects to look at.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from reconciliation import causes, diff, findings, journal, local_side, policy
from reconciliation.causes import LastActs
from reconciliation.findings import Finding
from reconciliation.journal import Progress
from reconciliation.local_side import Quiet, Snapshot
from reconciliation.models import Run, Suspect
from reconciliation.pace import Pace
from reconciliation.reading import Reading, in_threads, problems_of, read, what_stops
from reconciliation.scan import NO_ID
from reconciliation.states import Direction, Kind, State
from reconciliation.suspect_pages import seen_again
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.payloads import RemoteObject
from syncportal.sync import bypassed, events, records, repair
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.events import WORKER, Fact
from syncportal.sync.models import SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.repair import Repair
from syncportal.sync.states import IN_FLIGHT, Status
from syncportal.sync.tasks import DRAIN

BATCH = 200
MOST_TRIES = 3
WHY = "reconciliation {run}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one suspicion came to. kind None: both sides agree; busy: not judged."""

    external_id: str
    kind: Kind | None = None
    busy: bool = False
    state: RecordState | None = None
    job: SyncJob | None = None
    shown: RemoteObject | None = None
    detail: str = ""
    forbidden: bool = False


class Confirm:
    """One slice's confirming of a run's suspicions; `braked` says why nothing is repaired by itself."""

    def __init__(self, run: Run, client: ResourceClient, *, braked: str) -> None:
        self.run, self.client, self.spec, self.braked = run, client, client.spec, braked

    def take_batch(self, *, pace: Pace, until: float) -> bool:
        """Confirm up to 200 suspicions, or as many as time allows; False when none are left.

        Raises the error that every read of the batch ended with.
        """
        begun = time.monotonic()
        waiting = journal.suspects(self.run.pk, limit=BATCH)
        if not waiting:
            return False
        asked_at = db_now()
        ids = [suspect.external_id for suspect in waiting]
        quiet = Quiet.at(asked_at, lag_s=self.spec.policy.lag_s)
        before = local_side.snapshots(self.run.resource_id, ids, quiet=quiet)
        moving = {external_id for external_id, row in before.items() if row.busy}
        readings = self._read([s for s in waiting if s.external_id not in moving], before, pace=pace, until=until)
        failed = {s.external_id: s.tries for s in waiting if (r := readings.get(s.external_id)) and r.later}
        stops = what_stops(readings.values(), last_try=journal.is_last_try(self.run, most=self.spec.most_reads))
        if stops is not None:
            raise stops
        failed = failed if len(failed) < len(readings) else {}  # nothing else can be read: each is unreadable
        settled = [readings[name] for name in readings if failed.get(name, MOST_TRIES) >= MOST_TRIES - 1]
        work = partial(
            self._store, [s for s in waiting if s.external_id in moving or s.external_id in readings], settled, before,
            quiet=quiet, again=[name for name in failed if failed[name] < MOST_TRIES - 1],
        )  # fmt: skip
        atomic_retry(lambda: work(worked_ms=round(1000 * (time.monotonic() - begun))))
        return True

    def _read(
        self, waiting: Sequence[Suspect], before: dict[str, Snapshot], *, pace: Pace, until: float
    ) -> dict[str, Reading]:
        def one(suspect: Suspect) -> Reading:
            if suspect.pages and (found := seen_again(self.client, suspect)) is not None:
                return found
            known = before.get(suspect.external_id)
            return read(self.client, suspect.external_id, version=known.version if known else None)

        found = {reading.external_id: reading for reading in in_threads(one, waiting, pace=pace, until=until)}
        for external_id, reading in found.items():
            known = before.get(external_id)
            pace.heard(reading.error, record_id=known.record_id if known else None)
        return found

    def _store(
        self,
        waiting: Sequence[Suspect],
        readings: Sequence[Reading],
        before: dict[str, Snapshot],
        *,
        quiet: Quiet,
        again: Sequence[str],
        worked_ms: int,
    ) -> None:
        """Judge a batch under the records' locks, store what was found, repair what the policy repairs."""
        now, progress = db_now(), Progress()
        suspected = {suspect.external_id: suspect for suspect in waiting}
        verdicts = self._judge_all(readings, before, quiet=quiet, now=now)
        verdicts += [Verdict(name, busy=True) for name, row in before.items() if row.busy and name in suspected]
        self._record(verdicts, counts=progress.counts, now=now)
        for verdict in verdicts:
            missed = suspected[verdict.external_id].kind == Kind.MISSING_REMOTE
            progress.counts["unlisted"] += missed and not verdict.busy and verdict.kind != Kind.MISSING_REMOTE
        unlisted = progress.counts.pop("unlisted", 0)
        journal.acquit(self.run.pk, [verdict.external_id for verdict in verdicts])
        journal.try_again(self.run.pk, again)
        progress.cursor = {**self.run.cursor, "unlisted": self.run.cursor.get("unlisted", 0) + unlisted}
        journal.advance(self.run, progress, now=now, worked_ms=worked_ms)

    # --- judging -----------------------------------------------------------------------------------------------------

    def _judge_all(
        self, readings: Sequence[Reading], before: dict[str, Snapshot], *, quiet: Quiet, now: datetime
    ) -> list[Verdict]:
        ids = [reading.external_id for reading in readings]
        after = local_side.snapshots(self.run.resource_id, ids, quiet=quiet)
        pks = sorted(row.record_id for row in after.values())
        states = records.lock(pks)
        if bypassed.take_in(pks, now=now):
            doorbell.ring(DRAIN)
            states = records.states_of(pks)
        jobs = SyncJob.objects.select_for_update().order_by("pk").in_bulk(pks)
        unborn = local_side.unborn(self.run.resource_id) if len(after) < len(readings) else []
        verdicts = []
        for reading in readings:
            row = after.get(reading.external_id)
            state, job = (states.get(row.record_id), jobs.get(row.record_id)) if row else (None, None)
            if row is not None:
                busy = self._moved(before.get(reading.external_id), row, state, job)
            else:
                busy = reading.shown is not None and self._maybe_ours(reading.shown, unborn)
            if busy:
                verdicts.append(Verdict(reading.external_id, busy=True))
            else:
                verdicts.append(self._judge(reading, state, job))
        return verdicts

    def _moved(self, before: Snapshot | None, after: Snapshot, state: RecordState | None, job: SyncJob | None) -> bool:
        """Tell whether a record is not what it was before the read, or is under way."""
        if before is None or before.record_id != after.record_id or after.busy or state is None or job is None:
            return True
        if job.status in IN_FLIGHT or job.status == Status.VERSION_CONFLICT or job.in_doubt or job.held_by:
            return True
        return (state.revision, state.version, job.claim_no) != (before.revision, before.version, before.claim_no)

    def _maybe_ours(self, shown: RemoteObject, unborn: list[dict] | None) -> bool:
        """Tell whether an object may come from a create of ours that does not know its id yet."""
        return unborn is None or any(diff.could_be(content, shown.data, spec=self.spec) for content in unborn)

    def _judge(self, reading: Reading, state: RecordState | None, job: SyncJob | None) -> Verdict:
        """Say what a read and a record that nothing happens to come to."""
        base = Verdict(reading.external_id, state=state, job=job, shown=reading.shown)
        here = state is not None and state.deleted_at is None
        if reading.duplicate:
            return _as(base, Kind.DUPLICATE_KEY, reading.detail)
        if reading.error is not None or (reading.shown is None and reading.invalid):
            return replace(_as(base, Kind.INVALID_REMOTE, reading.unreadable), forbidden=reading.forbidden)
        if reading.external_id == NO_ID:
            return _as(base, Kind.INVALID_REMOTE, reading.detail) if reading.detail else base
        if reading.shown is None:
            return _as(base, Kind.MISSING_REMOTE, "The remote has no such object.") if here else base
        kind = diff.compare(state.data, state.version, reading.shown, spec=self.spec) if here and state else None
        if kind is None and here:
            return base
        invalid = reading.invalid or problems_of(reading.shown, client=self.client)
        if invalid and kind != Kind.VERSION_DRIFT:
            return _as(base, Kind.INVALID_REMOTE, invalid)
        return _as(base, kind or Kind.MISSING_LOCAL, "")

    # --- storing -----------------------------------------------------------------------------------------------------

    def _record(self, verdicts: Sequence[Verdict], *, counts: Counter[str], now: datetime) -> None:
        agreed = [verdict.external_id for verdict in verdicts if verdict.kind is None and not verdict.busy]
        counts["busy"] += sum(verdict.busy for verdict in verdicts)
        counts["matched"] += sum(1 for external_id in agreed if external_id != NO_ID)
        counts["closed"] += findings.close(self.run.resource_id, agreed, now=now)
        differing = [verdict for verdict in verdicts if verdict.kind is not None]
        for verdict in differing:
            counts[str(verdict.kind)] += 1
            counts["checked"] += verdict.external_id == NO_ID
        told = [v for v in differing if v.kind and policy.rule_of(v.kind, spec=self.spec) != policy.OFF]
        acts = causes.last_acts(v.state.id for v in told if v.state is not None)
        found = {v.external_id: self._finding(v, acts) for v in told}
        stored = findings.find(list(found.values()), run_id=self.run.pk, now=now)
        planned = [v for v in told if found[v.external_id].planned and stored[v.external_id].state == State.OPEN]
        fixed = [] if self.braked or self.run.dry_run else planned
        self._repair(fixed, found, stored, now=now)
        counts["planned"] += len(planned) if self.run.dry_run else 0
        counts["fixed"] += len(fixed)
        counts["ignored"] += sum(1 for result in stored.values() if result.state == State.IGNORED)
        counts["needing_action"] += sum(1 for result in stored.values() if result.state == State.OPEN) - len(fixed)
        news = [v for v in told if stored[v.external_id].news]
        events.write((self._fact(v, found[v.external_id]) for v in news), now=now)

    def _finding(self, verdict: Verdict, acts: dict[int, LastActs]) -> Finding:
        state, shown, kind = verdict.state, verdict.shown, verdict.kind
        if kind is None:
            raise ValueError("an agreement is no finding")
        status = verdict.job.status if verdict.job else ""
        cause = causes.cause_of(
            kind, state=state, shown=shown, status=status,
            acts=acts.get(state.id, LastActs()) if state else LastActs(), spec=self.spec, forbidden=verdict.forbidden,
        )  # fmt: skip
        local = state.data if state and state.deleted_at is None else None
        return Finding(
            resource_id=self.run.resource_id, external_id=verdict.external_id, record_id=state.id if state else None,
            kind=kind, cause=cause, detail=verdict.detail,
            differences=diff.differences(local, shown.data if shown else None, spec=self.spec),
            revision=state.revision if state else None, status=status, local_version=state.version if state else None,
            remote_version=shown.version if shown else None,
            remote_digest=self.spec.comparator.digest(shown.data) if shown else "",
            planned=self._planned(kind, verdict),
        )  # fmt: skip

    def _planned(self, kind: Kind, verdict: Verdict) -> str:
        if repair.untouchable(verdict.job):
            return ""
        state = verdict.state
        unsent = bool(
            state and state.deleted_at is None and unsent_changes(state.base, state.data,
                                                                  comparator=self.spec.comparator)
        )  # fmt: skip
        version = state.version if state else None
        direction = policy.plan(kind, unsent=unsent, version=version, shown=verdict.shown, spec=self.spec)
        return direction.value if direction else ""

    def _repair(
        self,
        verdicts: Sequence[Verdict],
        found: dict[str, Finding],
        stored: dict[str, findings.Found],
        *,
        now: datetime,
    ) -> None:
        if not verdicts:
            return
        why = WHY.format(run=self.run.pk)
        wanted = [Repair(found[v.external_id].planned, v.state, v.shown, about=why) for v in verdicts]
        repair.carry_out(wanted, resource=self.run.resource, spec=self.spec, actor=WORKER, now=now)
        for direction in Direction:
            ids = [stored[v.external_id].discrepancy_id for v in verdicts if found[v.external_id].planned == direction]
            findings.fix(ids, outcome=f"{direction.label}: by policy.", user_id=None, now=now)

    def _fact(self, verdict: Verdict, finding: Finding) -> Fact:
        data = {
            "run": self.run.pk, "kind": finding.kind, "cause": finding.cause, "external_id": verdict.external_id,
            "fields": [difference["pointer"] for difference in finding.differences][:50], "detail": verdict.detail,
        }  # fmt: skip
        return Fact(events.Kind.DISCREPANCY_FOUND, finding.record_id, finding.resource_id,
                    self.run.resource.remote_id, data=data)  # fmt: skip


def _as(verdict: Verdict, kind: Kind, detail: str) -> Verdict:
    return replace(verdict, kind=kind, detail=detail)
