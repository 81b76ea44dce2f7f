"""Three-way merge: the one place that decides what two changed copies of an object come to.

Pure. Used by push, rebase, refresh, pull, undo and repair. A field is in conflict when local and
remote both differ from base and from each other; equal edits are no conflict. null and absent are
equal in every comparison. What is never compared (read-only fields, the version) is the remote's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from syncportal.kernel import pointer
from syncportal.remote.equality import Comparator
from syncportal.remote.knobs import PolicySpec

Json = dict[str, Any]
MANUAL, REMOTE_WINS, LOCAL_WINS = "manual", "remote_wins", "local_wins"


@dataclass(frozen=True, slots=True)
class Merge:
    """The merged object, and which fields changed on which side.

    `data` holds the local value of a field in conflict, so that nothing local is lost by taking it.
    """

    data: Json
    conflicts: tuple[str, ...] = ()
    local_changes: tuple[str, ...] = ()
    remote_changes: tuple[str, ...] = ()


def three_way(
    base: Json | None,
    local: Json,
    remote: Json,
    *,
    comparator: Comparator,
    policy: Callable[[str], str] | None = None,
) -> Merge:
    """Merge `local` and `remote`, both descended from `base` (None: there was no common object).

    `policy` maps a field's pointer to manual, remote_wins or local_wins; without one, all are manual.
    """
    origin = base or {}
    merged = dict(remote)
    conflicts, ours, theirs = [], [], []
    for field in comparator.fields(origin, local, remote):
        before, here, there = (pointer.get(side, field) for side in (origin, local, remote))
        changed_here, changed_there = (not comparator.same(field, before, side) for side in (here, there))
        if changed_there:
            theirs.append(field)
        if not changed_here or comparator.same(field, here, there):
            continue
        ours.append(field)
        parent = _array_between(merged, local, field)
        reshaped = parent is not None and _array_between(origin, remote, field) is not None
        rule = policy(field) if policy and (changed_there or reshaped) else MANUAL
        if rule == REMOTE_WINS:
            continue
        merged = carry(merged, field, local)
        if (changed_there or reshaped) and rule != LOCAL_WINS:
            conflicts.append(field)
    for field in comparator.uncompared(origin, local, remote):
        before, here, there = (pointer.get(side, field) for side in (origin, local, remote))
        if here != before and there == before:
            ours.append(field)
            merged = carry(merged, field, local)
    return Merge(merged, tuple(conflicts), tuple(ours), tuple(theirs))


def carry(document: Json, at: str, source: Json) -> Json:
    """Return `document` with what `source` holds at a place.

    Where one of them has an array on the way there and the other has not, the value cannot stand in it: the whole of
    `source` at that array's place is taken.
    """
    parent = _array_between(document, source, at)
    where = at if parent is None else parent
    changed: Json = pointer.put(document, where, pointer.get(source, where))
    return changed


def _array_between(a: Json, b: Json, at: str) -> str | None:
    """Return the first place above `at` where exactly one of two objects has an array."""
    tokens = pointer.parse(at)
    for depth in range(1, len(tokens)):
        parent = pointer.build(tokens[:depth])
        if isinstance(pointer.get(a, parent), list) != isinstance(pointer.get(b, parent), list):
            return parent
    return None


def rules_of(policy: PolicySpec) -> Callable[[str], str] | None:
    """Return the per-field rule of a resource's policy, None when a person decides everything."""
    if policy.conflict == MANUAL and not policy.fields:
        return None
    return lambda field: policy.fields.get(field, policy.conflict)


def needs_person(merge: Merge, *, local: Json, remote: Json, comparator: Comparator, policy: PolicySpec) -> bool:
    """Tell whether a merge may not be taken without a person: fields clash, or it mixes both sides and may not."""
    if merge.conflicts:
        return True
    if policy.merge_disjoint or not (merge.local_changes and merge.remote_changes):
        return False
    return bool(comparator.differing(merge.data, local) and comparator.differing(merge.data, remote))


def unsent_changes(base: Json | None, data: Json, *, comparator: Comparator) -> tuple[str, ...]:
    """Return the fields in which `data` asks something of the remote that `base` does not hold."""
    origin = base or {}
    rest = (
        field for field in comparator.uncompared(origin, data) if pointer.get(origin, field) != pointer.get(data, field)
    )
    return (*comparator.differing(origin, data), *rest)


def own_traces(base: Json | None, sends: Iterable[Json | None], remote: Json, *, comparator: Comparator) -> Json:
    """Return `base` with every field that the remote holds from one of our own unsettled sends.

    Such a value is ours and counts as base, field by field: a late delivery of our own write is not
    somebody else's change.
    """
    effective = dict(base or {})
    contents = [content for content in sends if content is not None]
    for field in comparator.fields(effective, remote, *contents):
        there = pointer.get(remote, field)
        if comparator.same(field, pointer.get(effective, field), there):
            continue
        if any(comparator.same(field, pointer.get(content, field), there) for content in contents):
            effective = carry(effective, field, remote)
    return effective
