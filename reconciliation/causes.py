"""Why two sides differ, as far as our own journal tells: what we did last, and what it looked like before.

Owns: reading the few events that matter, two queries for any number of records, and the pure verdict.
Does not: guess about what the journal does not hold; then the remote changed it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Max

from reconciliation.states import UNEXPLAINED, Cause, Kind
from syncportal.kernel import pointer
from syncportal.remote import versions
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.events import Kind as Happened
from syncportal.sync.models import Event
from syncportal.sync.records import RecordState
from syncportal.sync.states import AGREED

_PUSHED = (Happened.SYNC_SUCCEEDED, Happened.SYNC_MERGED, Happened.GROUP_APPLIED)
_READ = (Happened.RECORD_PULLED, Happened.RECORD_REFRESHED, Happened.SYNC_SKIPPED, Happened.RECORD_REPAIRED)
MOST_EDITS = 10_000


@dataclass(frozen=True, slots=True)
class LastActs:
    """The newest of our acts on a record, as ids that grow with time; 0: never.

    before: what fields held ahead of each edit since the remote was last read, by name, the newest edit first.
    """

    pushed: int = 0
    read: int = 0
    before: tuple[Mapping[str, Any], ...] = ()


def last_acts(record_ids: Iterable[int]) -> dict[int, LastActs]:
    """Return what we did last to each of some records."""
    ids = list(record_ids)
    newest = (
        Event.objects.filter(record_id__in=ids, kind__in=[*_PUSHED, *_READ])
        .order_by()
        .values_list("record_id", "kind")
        .annotate(last=Max("pk"))
    )
    by_record: dict[int, dict[str, int]] = {}
    for record_id, kind, last in newest:
        by_record.setdefault(record_id, {})[kind] = last
    acts = {
        record_id: LastActs(
            pushed=max((kinds.get(kind, 0) for kind in _PUSHED), default=0),
            read=max((kinds.get(kind, 0) for kind in _READ), default=0),
        )
        for record_id, kinds in by_record.items()
    }
    edits = Event.objects.filter(record_id__in=ids, kind=Happened.RECORD_EDITED).order_by("-pk")
    for record_id, pk, data in edits.values_list("record_id", "pk", "data")[:MOST_EDITS]:
        known = acts.get(record_id or 0, LastActs())
        if record_id is not None and pk > known.read:
            acts[record_id] = replace(known, before=(*known.before, _before(data)))
    return acts


def _before(data: Mapping[str, Any]) -> dict[str, Any]:
    changes = data.get("changes")
    if not isinstance(changes, Mapping):
        return {}
    return {name: change.get("before") for name, change in changes.items() if isinstance(change, Mapping)}


def cause_of(
    kind: Kind,
    *,
    state: RecordState | None,
    shown: RemoteObject | None,
    status: str,
    acts: LastActs,
    spec: ResourceSpec,
    forbidden: bool = False,
) -> Cause:
    """Say why a record and its object differ in this way. forbidden: the remote refuses to show this object."""
    if forbidden:
        return Cause.FORBIDDEN
    if kind in UNEXPLAINED:
        return Cause.UNKNOWN
    if state is None:
        return Cause.CHANGED_REMOTELY
    if state.deleted_at is not None:  # a deletion that was confirmed here, or accepted from there (no version then)
        still_there = shown is not None and state.version is not None and shown.version == state.version
        return Cause.OUR_WRITE_LOST if still_there else Cause.CHANGED_REMOTELY
    if state.base is None or status not in AGREED:
        return Cause.NEVER_PUSHED
    if unsent_changes(state.base, state.data, comparator=spec.comparator):
        return Cause.NEVER_PUSHED
    if shown is None:
        return Cause.CHANGED_REMOTELY
    ours_was_last = acts.pushed > acts.read
    relation = versions.compare(state.version, shown.version) if state.version and shown.version else ""
    if relation == "older":
        return Cause.OUR_WRITE_LOST if ours_was_last else Cause.CHANGED_REMOTELY
    if ours_was_last and _went_back(state, shown, edits=acts.before[:1], spec=spec):
        return Cause.OUR_WRITE_LOST
    if ours_was_last and relation == "equal":  # nobody else wrote since: several writes of ours may be lost
        several = _went_back(state, shown, edits=acts.before, spec=spec)
        return Cause.OUR_WRITE_LOST if several else Cause.NORMALISED_BY_REMOTE
    return Cause.CHANGED_REMOTELY


def _went_back(
    state: RecordState, shown: RemoteObject, *, edits: Sequence[Mapping[str, Any]], spec: ResourceSpec
) -> bool:
    """Tell whether every differing field holds at the remote what it held before one of these edits of ours."""
    names = {pointer.parse(at)[0] for at in spec.comparator.differing(state.data, shown.data)}
    same = spec.comparator.same
    return bool(names) and all(
        any(name in before and same(pointer.build((name,)), before[name], shown.data.get(name)) for before in edits)
        for name in names
    )
