"""Asking a person outside of a push, and what an edit does to a conflict that waits: its local side follows.

`ask` opens the conflict (or renews the open one), stops the job and tells the history. Deleting the record turns the
question into one about the deletion; where the object is gone at the remote as well, it answers it. Called with the
records locked, in the transaction of the edit or the read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync import conflict_store, events, records, transitions
from syncportal.sync.claims import Json
from syncportal.sync.conflict_store import Opening
from syncportal.sync.conflicts import three_way
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status


def ask(
    state: RecordState,
    shown: RemoteObject | None,
    reason: str,
    *,
    base: Json | None,
    fields: Sequence[str],
    detail: str = "",
    now: datetime,
) -> int:
    """Open the conflict of a locked record that is not being sent, or renew its open one; return the conflict's id.

    shown None: the object is gone at the remote.
    """
    opening = Opening(
        record_id=state.id, resource_id=state.resource_id, reason=str(reason), base=base, local=state.data,
        remote=shown.data if shown else None, fields=tuple(fields), revision=state.revision,
        remote_version=shown.version if shown else None,
    )  # fmt: skip
    conflict_id = conflict_store.open_or_renew([opening], now=now)[state.id]
    words = detail or str(Conflict.Reason(reason).label)
    if transitions.mark_conflict([state.id], reason=str(reason), detail=words, now=now):
        data = {"reason": str(reason), "detail": words, "conflict": conflict_id}
        events.write([Fact(Kind.SYNC_CONFLICT, state.id, state.resource_id, data=data)], now=now)
    else:
        transitions.restate_conflict(state.id, reason=str(reason), detail=words, now=now)
    return conflict_id


def follow_edits(
    changed: Sequence[RecordState], *, specs: Mapping[int, ResourceSpec], actor: Actor, now: datetime
) -> dict[int, int]:
    """Bring the open conflicts of edited records up to date; return the ids of those still open, by record."""
    found = conflict_store.open_of([state.id for state in changed])
    still_open = {}
    for state in changed:
        row = found.get(state.id)
        if row is None:
            continue
        if state.intent == Intent.DELETE and row.reason == Conflict.Reason.DELETED_REMOTE:
            _accept_deletion(state, row, spec=specs[state.resource_id], actor=actor, now=now)
            continue
        still_open[state.id] = row.pk
        _follow(state, row, spec=specs[state.resource_id], now=now)
    return still_open


def _follow(state: RecordState, row: Conflict, *, spec: ResourceSpec, now: datetime) -> None:
    fields: Sequence[str] = row.fields
    if row.remote is not None:
        fields = three_way(row.base, state.data, row.remote, comparator=spec.comparator).conflicts
    reason = row.reason
    if reason not in {Conflict.Reason.UNDO_CONFLICT, Conflict.Reason.DELETED_REMOTE}:
        if state.intent == Intent.DELETE:
            reason = Conflict.Reason.DELETED_LOCAL
        elif reason == Conflict.Reason.DELETED_LOCAL:
            reason = Conflict.Reason.CONCURRENT_EDIT
    conflict_store.refresh_local(
        state.id, local=state.data, revision=state.revision, fields=fields, reason=reason, now=now
    )
    if reason != row.reason:
        transitions.restate_conflict(state.id, reason=str(reason), detail=Conflict.Reason(reason).label, now=now)


def _accept_deletion(state: RecordState, row: Conflict, *, spec: ResourceSpec, actor: Actor, now: datetime) -> None:
    """Both sides want the object gone: nothing is left to decide. What is in doubt is settled by the worker first."""
    in_doubt = SyncJob.objects.filter(pk=state.id, in_doubt=True).exists()
    target = Status.PENDING if in_doubt else Status.SYNCED
    records.write([replace(state, base=None, version=None, deleted_at=None if in_doubt else now)], now=now)
    transitions.resolve(state.id, target=target.value, now=now, max_attempts=spec.policy.max_attempts)
    conflict_store.close(row.pk, resolution="use_remote", choices={}, user_id=actor.user_id, now=now)
    data = {"conflict": row.pk, "action": "use_remote", "choices": {}, "revision": state.revision}
    events.write([Fact(Kind.CONFLICT_RESOLVED, state.id, state.resource_id, actor=actor, data=data)], now=now)
