"""What people and programs do to records here: create, edit, delete. Durable at once, pushed later.

One transaction: the record with its new revision, the armed job, the event, and a ring of the
doorbell. Nobody waits for a remote. Edits are checked against the resource's JSON Schema first, so
a bad edit never leaves. One path serves a single save and ten thousand.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from syncportal.kernel import correlation, doorbell, pointer
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.models import Resource
from syncportal.remote.spec import LONGEST_ID, ResourceSpec, spec_for
from syncportal.sync import events, records, transitions
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.open_conflicts import follow_edits
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status
from syncportal.sync.tasks import DRAIN
from syncportal.sync.validation import Problem, edit_problems

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """One wish to change a record.

    changes: merged into `data` by RFC 7396 (null removes the key). revision: the one the person
    looked at, None to take any. delete: remove the object on both sides instead.
    """

    record_id: int
    changes: Mapping[str, Any] | None = None
    revision: int | None = None
    delete: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of one edit. changed False: the record already said so. conflict_id: of its open conflict."""

    record_id: int
    revision: int
    changed: bool
    conflict_id: int | None = None


class EditRefused(Exception):
    """The edit was not saved; nothing was changed."""

    def __init__(self, detail: str, *, record_id: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.record_id = record_id


class InvalidEdit(EditRefused):
    """The values do not fit the resource's schema; correct them and save again."""

    def __init__(self, problems: Sequence[Problem], *, record_id: int | None = None) -> None:
        super().__init__("The values do not fit: " + "; ".join(f"{p.pointer}: {p.detail}" for p in problems[:5]))
        self.problems = tuple(problems)
        self.record_id = record_id


class StaleRevision(EditRefused):
    """Somebody changed the record since you opened it; look at the new values and save again."""

    def __init__(self, *, record_id: int, current: int) -> None:
        super().__init__(f"The record was changed meanwhile; it now stands at revision {current}.", record_id=record_id)
        self.current = current


class RecordGone(EditRefused):
    """The record does not exist any more."""


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch (RFC 7396) and return the result; inputs are left alone."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def save(edit: Edit, *, actor: Actor) -> Saved:
    """Save one edit; raises InvalidEdit, StaleRevision or RecordGone with nothing changed."""
    return save_many([edit], actor=actor)[0]


def save_many(edits: Sequence[Edit], *, actor: Actor) -> list[Saved]:
    """Save edits of different records, all or none, in a handful of statements; ring once.

    Raises the first refusal met.
    """
    if len({edit.record_id for edit in edits}) != len(edits):
        raise ValueError("one edit a record at a time")
    return atomic_retry(lambda: _save_many(edits, actor=actor, now=db_now()))


def _save_many(edits: Sequence[Edit], *, actor: Actor, now: datetime) -> list[Saved]:
    locked = records.lock(edit.record_id for edit in edits)
    specs = {
        resource.pk: spec_for(resource)
        for resource in Resource.objects.select_related("remote").filter(
            pk__in={state.resource_id for state in locked.values()}
        )
    }
    changed: list[RecordState] = []
    facts: list[Fact] = []
    for edit in edits:
        state = locked.get(edit.record_id)
        if state is None or state.deleted_at is not None:
            raise RecordGone("The record does not exist any more.", record_id=edit.record_id)
        if edit.revision is not None and edit.revision != state.revision:
            raise StaleRevision(record_id=state.id, current=state.revision)
        wanted = _edited(state, edit, spec=specs[state.resource_id])
        if wanted == state:
            continue
        changed.append(wanted)
        facts.append(_fact(state, wanted, actor=actor))
    records.write(changed, now=now)
    conflicts = _arm(changed, specs=specs, actor=actor, now=now)
    events.write(facts, now=now)
    if changed:
        doorbell.ring(DRAIN)
    by_id = {state.id: state for state in changed}
    return [
        Saved(
            edit.record_id,
            by_id.get(edit.record_id, locked[edit.record_id]).revision,
            edit.record_id in by_id,
            conflicts.get(edit.record_id),
        )
        for edit in edits
    ]


def _edited(state: RecordState, edit: Edit, *, spec: ResourceSpec) -> RecordState:
    """Return the state that the edit asks for; the same one when it asks for nothing new."""
    if edit.delete:
        if state.intent == Intent.DELETE:
            return state
        return replace(state, intent=Intent.DELETE, revision=state.revision + 1)
    data = merge_patch(state.data, edit.changes or {})
    problems = _untouchable(state.data, data, spec=spec) + edit_problems(data, spec=spec, before=state.data)
    if problems:
        raise InvalidEdit(problems, record_id=state.id)
    moved = state.with_data(data)
    if state.intent == Intent.DELETE:
        kept = Intent.CREATE if state.base is None else Intent.UPDATE
        moved = replace(moved, intent=kept, revision=state.revision + 1)
    return moved


def _untouchable(before: Json, after: Json, *, spec: ResourceSpec) -> list[Problem]:
    """Name changed places that only the remote, or nobody, may change."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        at = pointer.build((name,))
        if before.get(name) == after.get(name):
            continue
        if spec.is_read_only(at) and not _within_mapped(before, after, name, spec=spec):
            found.append(Problem(at, "read_only", "Only the remote sets this field."))
        elif any(
            pointer.matches(at, own) and pointer.get(before, own, None) != pointer.get(after, own, None)
            for own in spec.id_pointers
        ):
            found.append(Problem(at, "immutable", "The id of an object cannot be changed."))
    return found


def _within_mapped(before: Json, after: Json, name: str, *, spec: ResourceSpec) -> bool:
    """Tell whether a change of a read-only field touches only places that are written elsewhere (write_map)."""
    if not spec.is_mapped(pointer.build((name,))):
        return False
    return after.get(name) is None or spec.unmapped(before, name) == spec.unmapped(after, name)


def _fact(before: RecordState, after: RecordState, *, actor: Actor) -> Fact:
    kind = Kind.RECORD_DELETED if after.intent == Intent.DELETE else Kind.RECORD_EDITED
    names = sorted(before.data.keys() | after.data.keys())
    changes = {
        name: {"before": before.data.get(name), "after": after.data.get(name)}
        for name in names
        if before.data.get(name) != after.data.get(name)
    }
    return Fact(
        kind,
        record_id=after.id,
        resource_id=after.resource_id,
        actor=actor,
        data={"revision": after.revision, "changes": changes},
    )


def _arm(
    changed: Sequence[RecordState], *, specs: Mapping[int, ResourceSpec], actor: Actor, now: datetime
) -> dict[int, int]:
    """Arm the jobs; finish deletions of what was never sent; refresh open conflicts and return their ids."""
    unsent = [state.id for state in changed if state.intent == Intent.DELETE and state.base is None]
    finished = transitions.complete_unsent(unsent, now=now) if unsent else set()
    if finished:
        gone = [replace(state, deleted_at=now) for state in changed if state.id in finished]
        records.write(gone, now=now)
    by_attempts: dict[int, list[int]] = {}
    for state in changed:
        if state.id not in finished:
            by_attempts.setdefault(specs[state.resource_id].policy.max_attempts, []).append(state.id)
    for max_attempts, ids in by_attempts.items():
        transitions.arm(ids, now=now, correlation_id=correlation.current(), max_attempts=max_attempts)
    return follow_edits(changed, specs=specs, actor=actor, now=now)


def create(resource: Resource, data: Json, *, actor: Actor, owner_id: int | None) -> Saved:
    """Make a new record that will be created at the remote; raises InvalidEdit."""
    return create_many(resource, [data], actor=actor, owner_id=owner_id)[0]


def create_many(resource: Resource, items: Sequence[Json], *, actor: Actor, owner_id: int | None) -> list[Saved]:
    """Make new records of one resource, all or none; ring once. Raises InvalidEdit."""
    return atomic_retry(lambda: _create_many(resource, items, actor=actor, owner_id=owner_id, now=db_now()))


def _create_many(
    resource: Resource, items: Sequence[Json], *, actor: Actor, owner_id: int | None, now: datetime
) -> list[Saved]:
    spec = spec_for(resource)
    wanted = [_new_state(resource, data, spec=spec, owner_id=owner_id) for data in items]
    revived = _revivable(resource, [state.external_id for state in wanted if state.external_id])
    fresh = [state for state in wanted if state.external_id not in revived]
    again = [
        replace(state, id=old.id, revision=old.revision + 1)
        for state in wanted
        if (old := revived.get(state.external_id or "")) is not None
    ]
    ids = records.insert(fresh, now=now)
    jobs = [
        transitions.NewJob(pk, resource.remote_id, True, spec.policy.max_attempts, correlation.current()) for pk in ids
    ]
    transitions.insert(jobs, now=now)
    records.write(again, now=now)
    transitions.arm((state.id for state in again), now=now, max_attempts=spec.policy.max_attempts)
    made = [replace(state, id=pk) for state, pk in zip(fresh, ids, strict=True)] + again
    events.write(
        (
            Fact(
                Kind.RECORD_CREATED,
                state.id,
                resource.pk,
                actor=actor,
                data={"revision": state.revision, "after": state.data},
            )
            for state in made
        ),
        now=now,
    )
    doorbell.ring(DRAIN)
    return [Saved(state.id, state.revision, True) for state in made]


def _new_state(resource: Resource, data: Json, *, spec: ResourceSpec, owner_id: int | None) -> RecordState:
    problems = edit_problems(data, spec=spec)
    external_id = spec.external_id_of(data) if spec.create_id == "client" else None
    if spec.create_id == "client" and external_id is None:
        detail = f"The id of a new object is chosen here, in at most {LONGEST_ID} characters."
        problems += [Problem(at, "required", detail) for at in spec.id_pointers]
    for name in data:
        at = pointer.build((name,))
        if spec.is_remote_only(at) or (spec.is_read_only(at) and spec.unmapped(data, name) is not None):
            problems.append(Problem(at, "read_only", "Only the remote sets this field."))
    if problems:
        raise InvalidEdit(problems)
    return RecordState(
        id=0, resource_id=resource.pk, external_id=external_id, data=data, base=None, version=None, revision=1,
        intent=Intent.CREATE, owner_id=owner_id, deleted_at=None,
    )  # fmt: skip


def _revivable(resource: Resource, external_ids: Iterable[str]) -> dict[str, RecordState]:
    """Return deleted records whose ids are wanted again; raise InvalidEdit for ids that are taken."""
    rows = Record.objects.filter(resource=resource, external_id__in=list(external_ids))
    known = records.lock(rows.values_list("pk", flat=True))
    busy = SyncJob.objects.filter(pk__in=known).exclude(status__in=[Status.SYNCED, Status.SKIPPED])
    taken = {pk for pk, state in known.items() if state.deleted_at is None} | set(busy.values_list("pk", flat=True))
    if taken:
        at = spec_for(resource).id_pointers[0]
        names = ", ".join(sorted(str(known[pk].external_id) for pk in taken))
        raise InvalidEdit([Problem(at, "duplicate", f"There already is a record with the id {names}.")])
    return {str(state.external_id): state for state in known.values()}
