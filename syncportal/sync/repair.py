"""Repairs after a reconciliation: taking the remote's content, or pushing ours again. No second write path.

A repair is a verb of `records` and `transitions`, and then the normal flow runs. Called with the records and jobs
locked, in the transaction that also writes what was found. `untouchable` names the records that no repair may touch.
Does not: decide whether a repair is right; reconciliation's policy or a person does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from syncportal.kernel import doorbell
from syncportal.remote.models import Resource
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync import events, records, states, transitions
from syncportal.sync.conflicts import three_way
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from syncportal.sync.tasks import DRAIN
from syncportal.sync.transitions import NewJob

TAKE_REMOTE, PUSH_LOCAL = "take_remote", "push_local"


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair. state None: there is no record yet; shown None: the object is gone at the remote."""

    direction: str
    state: RecordState | None
    shown: RemoteObject | None
    about: str = ""


def untouchable(job: SyncJob | None) -> str:
    """Say in a few words why a record may not be repaired now, "" when it may."""
    if job is None:
        return ""
    if job.held_by:
        return "held by a group or an undo"
    if job.in_doubt:
        return "a write of ours is in doubt"
    return "" if job.status in states.AGREED else states.Status(job.status).label.lower()


def carry_out(
    repairs: Sequence[Repair], *, resource: Resource, spec: ResourceSpec, actor: Actor, now: datetime
) -> None:
    """Carry out repairs of different objects in a handful of statements, and ring if something is to be pushed."""
    known = [(repair, repair.state, _repaired(repair, repair.state, spec=spec, now=now))
             for repair in repairs if repair.state is not None]  # fmt: skip
    pushed = [moved for repair, _, moved in known if repair.direction == PUSH_LOCAL]
    records.write([moved for _, _, moved in known], now=now)
    transitions.reopen_agreed([state.id for _, state, _ in known if state.deleted_at is not None], now=now)
    transitions.arm([moved.id for moved in pushed], now=now, max_attempts=spec.policy.max_attempts)
    facts = [_fact(repair, before, after, actor=actor) for repair, before, after in known]
    facts += _adopt([repair for repair in repairs if repair.state is None], resource=resource, spec=spec,
                    actor=actor, now=now)  # fmt: skip
    events.write(facts, now=now)
    if pushed:
        doorbell.ring(DRAIN)


def _repaired(repair: Repair, state: RecordState, *, spec: ResourceSpec, now: datetime) -> RecordState:
    """Return what a record becomes."""
    shown = repair.shown
    if repair.direction == TAKE_REMOTE:
        if shown is None:  # accept that the object is gone
            return replace(state, base=None, version=None, intent=Intent.DELETE, revision=state.revision + 1,
                           deleted_at=now)  # fmt: skip
        return replace(state, data=shown.data, base=shown.data, version=shown.version, intent=Intent.UPDATE,
                       revision=state.revision + 1, deleted_at=None, synced_at=now)  # fmt: skip
    if shown is None:
        return replace(records.reborn(state, spec=spec), revision=state.revision + 1)
    seen = replace(state, base=shown.data, version=shown.version, revision=state.revision + 1, deleted_at=None)
    if state.deleted_at is not None:  # we deleted it, and it is there: the deletion is sent against this version
        return replace(seen, data=shown.data, intent=Intent.DELETE)
    ours = three_way(shown.data, state.data, shown.data, comparator=spec.comparator).data
    return replace(seen, data=ours, intent=Intent.UPDATE)


def _adopt(
    repairs: Iterable[Repair], *, resource: Resource, spec: ResourceSpec, actor: Actor, now: datetime
) -> list[Fact]:
    """Make records for objects that have none here; both sides agree, so nothing is pushed."""
    found = [(repair, repair.shown) for repair in repairs if repair.shown is not None]
    wanted = [
        RecordState(
            id=0, resource_id=resource.pk, external_id=shown.external_id, data=shown.data, base=shown.data,
            version=shown.version, revision=1, intent=Intent.UPDATE, owner_id=None, deleted_at=None, synced_at=now,
        )
        for _, shown in found
    ]  # fmt: skip
    ids = records.insert(wanted, now=now)
    transitions.insert([NewJob(pk, resource.remote_id, False, spec.policy.max_attempts) for pk in ids], now=now)
    return [
        _fact(repair, None, replace(state, id=pk), actor=actor)
        for (repair, _), state, pk in zip(found, wanted, ids, strict=True)
    ]


def _fact(repair: Repair, before: RecordState | None, after: RecordState, *, actor: Actor) -> Fact:
    told: dict[str, Any] = {
        "direction": repair.direction, "why": repair.about, "revision": after.revision, "version": after.version or "",
        "deleted": after.deleted_at is not None, "changes": {},
    }  # fmt: skip
    old = before.data if before else {}
    told["changes"] = {
        name: {"before": old.get(name), "after": after.data.get(name)}
        for name in sorted(old.keys() | after.data.keys())
        if old.get(name) != after.data.get(name)
    }
    return Fact(Kind.RECORD_REPAIRED, after.id, after.resource_id, actor=actor, data=told)
