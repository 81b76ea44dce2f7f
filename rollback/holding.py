"""Records in the hands of a group or task: taking them, advancing them to what was read, giving them back.

Everything here runs inside the caller's transaction and on rows that the caller locked through
`sync.records` (record before job, before group, before task).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from syncportal.kernel import doorbell
from syncportal.kernel.bulk import read_rows
from syncportal.remote.models import Resource
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import conflict_store, open_conflicts, records, transitions
from syncportal.sync.claims import Json
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.disputes import dispute
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import AGREED, CLAIMABLE, Intent, Status
from syncportal.sync.tasks import DRAIN
from syncportal.sync.transitions import NewJob


@dataclass(frozen=True, slots=True)
class Busy:
    """One record that cannot be taken now, and why."""

    record_id: int
    resource: str
    occurrence_id: str
    status: str
    reason: str


class RecordBusy(Exception):
    """A record of the request is in use; nothing was stored. Try again later."""

    def __init__(self, busy: list[Busy]) -> None:
        super().__init__("; ".join(f"{b.occurrence_id}: {b.reason}" for b in busy))
        self.busy = busy


@dataclass(frozen=True, slots=True)
class Taken:
    """One object of a request as a locked record. placeholder: the row was made for this request."""

    state: RecordState
    placeholder: bool


def take(
    wanted: Mapping[int, Iterable[str]], resources: Mapping[int, Resource], *, now: datetime
) -> dict[tuple[int, str], Taken]:
    """Lock the record of every wanted object, all or none; objects unknown here get a hidden placeholder.

    wanted: external ids by resource id. Raises RecordBusy for rows that do not agree or are in use.
    """
    locked = records.lock_objects(wanted)
    known = {(state.resource_id, str(state.external_id)): state for state in locked.values()}
    missing = sorted(
        (resource_id, external_id)
        for resource_id, external_ids in wanted.items()
        for external_id in external_ids
        if (resource_id, external_id) not in known
    )
    made = _placeholders(missing, resources, now=now) if missing else {}
    rows = SyncJob.objects.select_for_update().order_by("pk").only("status", "held_by", "in_doubt")
    jobs = rows.in_bulk(list(locked))
    busy = [
        found
        for pk, state in locked.items()
        if (found := _why_busy(state, jobs[pk], resources[state.resource_id])) is not None
    ]
    if busy:
        raise RecordBusy(busy)
    return {key: Taken(state, key in made) for key, state in (known | made).items()}


def _placeholders(
    missing: list[tuple[int, str]], resources: Mapping[int, Resource], *, now: datetime
) -> dict[tuple[int, str], RecordState]:
    states = [
        RecordState(
            id=0, resource_id=resource_id, external_id=external_id, data={}, base=None, version=None, revision=1,
            intent=Intent.UPDATE, owner_id=None, deleted_at=now,
        )
        for resource_id, external_id in missing
    ]  # fmt: skip
    ids = records.insert(states, now=now)
    jobs = [
        NewJob(pk, resources[resource_id].remote_id, False, spec_for(resources[resource_id]).policy.max_attempts)
        for pk, (resource_id, _) in zip(ids, missing, strict=True)
    ]
    transitions.insert(jobs, now=now)
    return {key: replace(state, id=pk) for key, state, pk in zip(missing, states, ids, strict=True)}


def _why_busy(state: RecordState, job: SyncJob, resource: Resource) -> Busy | None:
    reason = ""
    if job.held_by:
        kind = job.held_by.split(":", 1)[0]
        reason = f"Another {'group' if kind == 'group' else 'compensating task'} holds it."
    elif job.status not in AGREED:
        reason = f"It has changes of its own under way ({Status(job.status).label.lower()})."
    elif job.in_doubt:
        reason = "The outcome of an earlier write is not settled yet."
    elif state.deleted_at is None and unsent_changes(state.base, state.data, comparator=spec_for(resource).comparator):
        reason = "It has edits that were not pushed yet."
    if not reason:
        return None
    return Busy(state.id, resource.slug, str(state.external_id), job.status, reason)


@dataclass(frozen=True, slots=True)
class Reading:
    """Content read from the remote for a locked record, and the merge base it is compared with."""

    state: RecordState
    shown: RemoteObject
    base: Json | None
    spec: ResourceSpec


def advance(readings: Iterable[Reading], *, now: datetime) -> set[int]:
    """Move locked records to content read from the remote, in one statement.

    Returns the records that wait for a person: their own edits clash with it, or their conflict was open already.
    """
    found = list(readings)
    if not found:
        return set()
    waiting = conflict_store.open_of([reading.state.id for reading in found])
    pairs = [(reading.state, _advanced(reading, waiting.get(reading.state.id), now=now)) for reading in found]
    changed = [after for before, after in pairs if after is not None and _content(after) != _content(before)]
    records.write(changed, now=now)
    return {before.id for before, after in pairs if after is None}


def _content(state: RecordState) -> tuple[object, ...]:
    return state.data, state.base, state.version, state.deleted_at


def _advanced(reading: Reading, waiting: Conflict | None, *, now: datetime) -> RecordState | None:
    """Return the record's next state; None when a person must decide."""
    state, shown = reading.state, reading.shown
    if state.base is None or state.deleted_at is not None:
        return replace(
            state.with_data(shown.data), base=shown.data, version=shown.version, intent=Intent.UPDATE, deleted_at=None,
            synced_at=now,
        )  # fmt: skip
    moved, merge = records.advance(state, base=reading.base, remote=shown, spec=reading.spec)
    if waiting is not None:  # the open question is the same one, about what the remote holds now
        there_again = waiting.reason == Conflict.Reason.DELETED_REMOTE
        reason = Conflict.Reason.CONCURRENT_EDIT if there_again else waiting.reason
        open_conflicts.ask(state, shown, reason, base=reading.base, fields=merge.conflicts, now=now)
        return None
    found = dispute(state, moved, merge, shown=shown, spec=reading.spec)
    if found is not None:
        open_conflicts.ask(
            state, shown, found.reason, base=reading.base, fields=found.fields, detail=found.detail, now=now
        )
        return None
    return replace(moved, synced_at=now)


def release(record_ids: Iterable[int], *, holder: str, now: datetime) -> None:
    """Give records back and ring when one of them was edited meanwhile."""
    ids = list(record_ids)
    transitions.release(ids, holder=holder, now=now)
    jobs = read_rows(SyncJob, ids, ("status", "due_at"), where="t.held_by = ''")
    if any(status in CLAIMABLE and due_at is not None and due_at <= now for status, due_at in jobs):
        doorbell.ring(DRAIN)
