"""Whether content read from the remote may be taken into a record, or a person must decide. One rule for all.

Pure. Push, refresh, pull, groups, undo and release advance a record by a merge; this says when that merge is not taken.
Does not: look at versions (whoever reads does, because an older one is read again first).
"""

from dataclasses import dataclass

from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.conflicts import Merge, needs_person
from syncportal.sync.models import Conflict
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from syncportal.sync.validation import edit_problems

UNFIT = "The merged values do not fit the resource's schema; a person must choose."


@dataclass(frozen=True, slots=True)
class Dispute:
    """Why a person is asked. fields: what to look at first."""

    reason: str
    fields: tuple[str, ...]
    detail: str


def dispute(
    state: RecordState,
    moved: RecordState,
    merge: Merge,
    *,
    shown: RemoteObject,
    spec: ResourceSpec,
    own_answer: bool = False,
) -> Dispute | None:
    """Return why `merge` of `state` with what was read may not be taken; None when it may.

    moved: the state that taking it would make. own_answer: the remote's answer to a write of ours, whose other fields
    are always taken.
    """
    if state.intent == Intent.DELETE:
        unread = merge.conflicts or (() if own_answer else merge.remote_changes)
        return because(Conflict.Reason.DELETED_LOCAL, merge.conflicts or merge.remote_changes) if unread else None
    clash = needs_person(
        merge, local=state.data, remote=shown.data, comparator=spec.comparator, policy=spec.policy
    )  # fmt: skip
    if merge.conflicts or (clash and not own_answer):
        return because(Conflict.Reason.CONCURRENT_EDIT, merge.conflicts or merge.remote_changes)
    mixed = merge.local_changes and merge.remote_changes
    if mixed and edit_problems(moved.data, spec=spec, before=shown.data):
        return because(Conflict.Reason.CONCURRENT_EDIT, merge.remote_changes, detail=UNFIT)
    return None


def because(reason: str, fields: tuple[str, ...] = (), *, detail: str = "") -> Dispute:
    """Return a dispute in the words of its reason."""
    return Dispute(str(reason), fields, detail or str(Conflict.Reason(reason).label))
