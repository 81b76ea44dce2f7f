"""A person's decision about a conflict: use remote, push local, or merge field by field.

Guards against stale views: whoever decides names the revision and the remote version looked at; if
either moved, nothing is written and the fresh values are shown. One of two people wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from syncportal.kernel import doorbell, pointer
from syncportal.kernel.clock import db_now
from syncportal.kernel.pointer import PointerError
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import bypassed, conflict_store, events, holders, records, transitions
from syncportal.sync.claims import Json
from syncportal.sync.conflicts import carry, three_way
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status
from syncportal.sync.tasks import DRAIN
from syncportal.sync.validation import Problem, edit_problems


class Action(StrEnum):
    """The three ways out."""

    USE_REMOTE = "use_remote"
    PUSH_LOCAL = "push_local"
    MERGE = "merge"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided. fields: by pointer "local", "remote" or {"value": …}; only for merge.

    revision and remote_version: what the person looked at.
    """

    action: Action
    revision: int
    remote_version: str | None
    fields: Mapping[str, Any] = field(default_factory=dict)


class AlreadyResolved(Exception):
    """Somebody else has settled this conflict meanwhile; nothing was written."""


class StaleView(Exception):
    """One side changed since you opened the page; nothing was written. Look at the fresh values and decide again."""


class ImpossibleDecision(Exception):
    """The decision does not fit the conflict; nothing was written."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.detail for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class FieldView:
    """One field of a conflict as people and programs see it; MISSING values are shown as None."""

    pointer: str
    base: Any
    local: Any
    remote: Any
    in_conflict: bool
    differs: bool


def field_views(conflict: Conflict, spec: ResourceSpec) -> list[FieldView]:
    """Return every field of the conflict, those that differ first."""
    sides = [conflict.base or {}, conflict.local or {}, conflict.remote or {}]
    views = []
    for at in spec.comparator.fields(*sides):
        base, local, remote = (pointer.get(side, at, None) for side in sides)
        differs = not (spec.comparator.same(at, local, remote) and spec.comparator.same(at, base, local))
        views.append(FieldView(at, base, local, remote, at in conflict.fields, differs))
    return sorted(views, key=lambda view: (not view.in_conflict, not view.differs, view.pointer))


def resolve(conflict_id: int, decision: Decision, *, actor: Actor) -> str:
    """Carry out a decision and return the record's new status.

    Raises AlreadyResolved, StaleView or ImpossibleDecision, in each case with nothing written.
    """
    atomic_retry(lambda: _take_in(conflict_id))
    return atomic_retry(lambda: _resolve(conflict_id, decision, actor=actor, now=db_now()))


def _take_in(conflict_id: int) -> None:
    """Count a change that was made past us as a revision first: nobody decides about content that they did not see.

    In a transaction of its own, so that a refused decision does not take the count back with it.
    """
    record_id = Conflict.objects.values_list("record_id", flat=True).get(pk=conflict_id)
    bypassed.take_in([record_id], now=db_now())


def _resolve(conflict_id: int, decision: Decision, *, actor: Actor, now: datetime) -> str:
    record_id = Conflict.objects.values_list("record_id", flat=True).get(pk=conflict_id)
    state = records.lock([record_id])[record_id]
    conflict = Conflict.objects.select_related("resource__remote").get(pk=conflict_id)
    job = SyncJob.objects.select_for_update().get(pk=record_id)
    if job.status != Status.VERSION_CONFLICT:
        raise AlreadyResolved
    spec = spec_for(conflict.resource)
    wanted = _wanted(state, conflict, decision, spec=spec)
    agreed = decision.action is Action.USE_REMOTE and not job.in_doubt
    if wanted.intent == Intent.DELETE and agreed and conflict.remote is None:
        wanted = replace(wanted, deleted_at=now)
    target = Status.SYNCED if agreed else Status.PENDING
    records.write([replace(wanted, synced_at=now) if agreed else wanted], now=now)
    transitions.resolve(record_id, target=target.value, now=now, max_attempts=spec.policy.max_attempts)
    if job.held_by and holders.ended_by_decision(record_id, holder=job.held_by, actor=actor, now=now):
        transitions.release([record_id], holder=job.held_by, now=now)
    choices = dict(decision.fields)
    conflict_store.close(
        conflict_id,
        resolution=decision.action.value,
        choices=choices,
        user_id=actor.user_id,
        now=now,
        local=state.data,
    )
    data = {"conflict": conflict_id, "action": decision.action.value, "choices": choices, "revision": wanted.revision,
            "before": state.data, "after": wanted.data}  # fmt: skip
    events.write([Fact(Kind.CONFLICT_RESOLVED, record_id, state.resource_id, actor=actor, data=data)], now=now)
    if not agreed:
        doorbell.ring(DRAIN)
    return target.value


def rehearse(conflict_id: int, decision: Decision) -> Json:
    """Return the content that a decision would lead to, and write nothing; raises what `resolve` raises."""
    conflict = Conflict.objects.select_related("resource__remote").get(pk=conflict_id)
    state = records.states_of([conflict.record_id])[conflict.record_id]
    return _wanted(state, conflict, decision, spec=spec_for(conflict.resource)).data


def _wanted(state: RecordState, conflict: Conflict, decision: Decision, *, spec: ResourceSpec) -> RecordState:
    """Return the state that a decision leads to; raises when it is late, stale or does not fit."""
    if conflict.state != Conflict.State.OPEN:
        raise AlreadyResolved
    if (decision.revision, decision.remote_version) != (state.revision, conflict.remote_version):
        raise StaleView
    wanted = decided(state, conflict, decision, spec=spec)
    if decision.action is Action.MERGE:
        problems = edit_problems(wanted.data, spec=spec, before=conflict.remote or {})
        if problems:
            raise ImpossibleDecision(problems)
    return wanted


def decided(state: RecordState, conflict: Conflict, decision: Decision, *, spec: ResourceSpec) -> RecordState:
    """Return the state that a decision leads to; pure. Raises ImpossibleDecision."""
    if conflict.remote is None:
        return _decide_deleted_remote(state, decision.action, spec=spec)
    seen = replace(state, base=conflict.remote, version=conflict.remote_version)
    deleting = state.intent == Intent.DELETE
    match decision.action:
        case Action.USE_REMOTE:
            return replace(
                seen, data=conflict.remote, revision=state.revision + 1, intent=Intent.UPDATE, deleted_at=None
            )
        case Action.PUSH_LOCAL:
            if deleting:
                return seen
            ours = three_way(conflict.remote, state.data, conflict.remote, comparator=spec.comparator).data
            return replace(seen.with_data(ours), intent=Intent.UPDATE)
    merged = _merged(state.data, conflict, decision, spec=spec)
    return replace(seen.with_data(merged), intent=Intent.UPDATE)


def _decide_deleted_remote(state: RecordState, action: Action, *, spec: ResourceSpec) -> RecordState:
    """The object is gone there: accept that, or make it anew."""
    if action is Action.MERGE:
        detail = "The object is gone at the remote: accept the deletion, or push the local values as a new object."
        raise ImpossibleDecision([Problem("", "deleted_remote", detail)])
    if action is Action.USE_REMOTE:
        return replace(state, base=None, version=None, intent=Intent.DELETE, revision=state.revision + 1)
    return records.reborn(state, spec=spec)


def _merged(local: Json, conflict: Conflict, decision: Decision, *, spec: ResourceSpec) -> Json:
    """Return the auto-merge with each chosen field put over it; every field in conflict needs a choice."""
    comparator = spec.comparator
    remote = conflict.remote or {}
    merge = three_way(conflict.base, local, remote, comparator=comparator)
    known = set(comparator.fields(conflict.base or {}, local, remote))
    problems = [
        Problem(at, "choice_missing", "Choose the local value, the remote value, or type one.")
        for at in sorted(set(merge.conflicts) - decision.fields.keys())
    ]
    data = merge.data
    for at, choice in decision.fields.items():
        if at not in known:
            problems.append(Problem(at, "unknown_field", "The conflict has no such field."))
        elif choice in ("local", "remote"):
            data = carry(data, at, local if choice == "local" else remote)
        elif any(pointer.matches(at, own) for own in spec.id_pointers):
            problems.append(Problem(at, "immutable", "The id of an object cannot be changed."))
        elif isinstance(choice, Mapping) and choice.keys() == {"value"}:
            try:
                data = pointer.put(data, at, choice["value"])
            except PointerError:
                problems.append(Problem(at, "invalid_choice", "A list stands here; choose one of the two sides."))
        else:
            problems.append(Problem(at, "invalid_choice", 'Use "local", "remote" or {"value": …}.'))
    if problems:
        raise ImpossibleDecision(problems)
    return data
