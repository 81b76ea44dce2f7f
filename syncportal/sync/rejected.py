"""The values that lost in a resolved conflict, and how to use them after all: as a new edit.

Guarantees: the conflict stays resolved as it was; the edit goes through saving like any other, against the revision
that was looked at. Does not: open or change conflicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from syncportal.kernel import correlation, doorbell, pointer
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.models import Resource
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import events, local, records, transitions
from syncportal.sync.claims import Json
from syncportal.sync.conflicts import three_way
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.forms import patch_of
from syncportal.sync.local import Edit, Saved
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.resolve import Action
from syncportal.sync.states import AGREED
from syncportal.sync.tasks import DRAIN

LOCAL, REMOTE = "local", "remote"


@dataclass(frozen=True, slots=True)
class Rejected:
    """One value that lost; side: whose it was, local or remote."""

    pointer: str
    side: str
    value: Any

    @property
    def key(self) -> str:
        """Return what a form calls it."""
        return f"{self.side}:{self.pointer}"


def rejected_values(conflict: Conflict, spec: ResourceSpec) -> list[Rejected]:
    """Return the changed values that the resolution did not use; none while open or where an object was deleted."""
    if conflict.state != Conflict.State.RESOLVED or conflict.remote is None:
        return []
    if conflict.reason == Conflict.Reason.DELETED_LOCAL:
        return []
    remote: Json = conflict.remote
    merge = three_way(conflict.base, conflict.local, remote, comparator=spec.comparator)
    found = []
    for at in spec.comparator.differing(conflict.local, remote):
        kept = _kept(conflict, at, merged=LOCAL if at in merge.local_changes else REMOTE)
        if kept != LOCAL and at in merge.local_changes:
            found.append(Rejected(at, LOCAL, pointer.get(conflict.local, at, None)))
        if kept != REMOTE and at in merge.remote_changes:
            found.append(Rejected(at, REMOTE, pointer.get(remote, at, None)))
    return found


def _kept(conflict: Conflict, at: str, *, merged: str) -> str:
    """Return whose value a field got: local, remote, or "" for a typed one."""
    match conflict.resolution:
        case Action.PUSH_LOCAL | "forced":
            return LOCAL
        case Action.MERGE:
            choice = conflict.choices.get(at, merged)
            return choice if isinstance(choice, str) else ""
    return REMOTE


def use_again(conflict: Conflict, picked: Mapping[str, Any], *, current: Json, revision: int, actor: Actor) -> Saved:
    """Save values by pointer as a new edit of the record; raises what saving raises, with nothing changed.

    current, revision: the record as the person saw it.
    """
    edit = Edit(conflict.record_id, patch_of(picked, current), revision=revision)
    return local.save(edit, actor=actor)


def can_remake(conflict: Conflict) -> bool:
    """Tell whether the conflict ended with a deletion whose record could be made again."""
    return conflict.state == Conflict.State.RESOLVED and conflict.record.deleted_at is not None


def remake(record_id: int, *, revision: int, actor: Actor) -> bool:
    """Bring a deleted record back as a new object with the values it had; False when it moved since it was seen."""
    return atomic_retry(lambda: _remake(record_id, revision=revision, actor=actor, now=db_now()))


def _remake(record_id: int, *, revision: int, actor: Actor, now: datetime) -> bool:
    state = records.lock([record_id])[record_id]
    job = SyncJob.objects.select_for_update().get(pk=record_id)
    if state.deleted_at is None or state.revision != revision or job.status not in AGREED or job.held_by:
        return False
    resource = Resource.objects.select_related("remote").get(pk=state.resource_id)
    spec = spec_for(resource)
    again = records.reborn(replace(state.counted(), deleted_at=None), spec=spec)
    records.write([again], now=now)
    transitions.arm([record_id], now=now, correlation_id=correlation.current(), max_attempts=spec.policy.max_attempts)
    data = {"revision": again.revision, "after": again.data, "again": True}
    events.write([Fact(Kind.RECORD_CREATED, record_id, state.resource_id, actor=actor, data=data)], now=now)
    doorbell.ring(DRAIN)
    return True
