"""Why two sides differ, as far as our own journal tells: what we did last, and what it looked like before.

Owns: reading the few events that matter, two queries for any number of records, and the pure verdict.
Does not: guess about what the journal does not hold; then the remote changed it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class LastActs:
    """The newest of our acts on a record, as ids that grow with time; 0: never. before: by field, ahead of an edit."""

    pushed: int = 0
    read: int = 0
    before: Mapping[str, Any] = field(default_factory=dict)


def last_acts(record_ids: Iterable[int]) -> dict[int, LastActs]:
    """Return what we did last to each of some records."""
    ids = list(record_ids)
    newest = (
        Event.objects.filter(record_id__in=ids, kind__in=[*_PUSHED, *_READ, Happened.RECORD_EDITED])
        .order_by()
        .values_list("record_id", "kind")
        .annotate(last=Max("pk"))
    )
    by_record: dict[int, dict[str, int]] = {}
    for record_id, kind, last in newest:
        by_record.setdefault(record_id, {})[kind] = last
    edits = {kinds[Happened.RECORD_EDITED] for kinds in by_record.values() if Happened.RECORD_EDITED in kinds}
    changes = dict(Event.objects.filter(pk__in=edits).values_list("pk", "data"))
    return {
        record_id: LastActs(
            pushed=max((kinds.get(kind, 0) for kind in _PUSHED), default=0),
            read=max((kinds.get(kind, 0) for kind in _READ), default=0),
            before=_before(changes.get(kinds.get(Happened.RECORD_EDITED, 0), {})),
        )
        for record_id, kinds in by_record.items()
    }


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
) -> Cause:
    """Say why a record and its object differ in this way."""
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
    if ours_was_last and _went_back(state, shown, acts=acts, spec=spec):
        return Cause.OUR_WRITE_LOST
    if ours_was_last and relation in ("equal", ""):
        return Cause.NORMALISED_BY_REMOTE if relation == "equal" else Cause.CHANGED_REMOTELY
    return Cause.CHANGED_REMOTELY


def _went_back(state: RecordState, shown: RemoteObject, *, acts: LastActs, spec: ResourceSpec) -> bool:
    """Tell whether every differing field holds at the remote what it held before our last edit."""
    names = {pointer.parse(at)[0] for at in spec.comparator.differing(state.data, shown.data)}
    return bool(names) and all(
        name in acts.before and spec.comparator.same(pointer.build((name,)), acts.before[name], shown.data.get(name))
        for name in names
    )
