"""What can be done to many conflicts at once: let one side win wherever both changed. Registered with the bulk room.

Guarantees: each conflict is decided as it stood in the preview (its revision and remote version are frozen with its
id); one that moved since is left out and says so. A deletion, or an undo, always needs a person and is left out.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse

from syncportal.bulk.acts import Act, Batch, Parameters, Part, Person, Result, Target, Verdict
from syncportal.bulk.states import RowState
from syncportal.kernel import pointer
from syncportal.remote.spec import spec_for
from syncportal.sync import resolve, rights
from syncportal.sync.bulk_acts import actor_of
from syncportal.sync.conflicts import Merge, three_way
from syncportal.sync.models import Conflict
from syncportal.sync.resolve import Action, AlreadyResolved, Decision, ImpossibleDecision, StaleView
from syncportal.sync.states import Intent

LIST = "admin:sync_conflict_changelist"
NOUNS = ("conflict", "conflicts")
SEEN = "seen"
MOVED = "skipped because it moved since the preview"
_RESOLVED = "resolved meanwhile"
_PERSON = {
    Conflict.Reason.DELETED_REMOTE: "deleted at the remote; a person must decide",
    Conflict.Reason.DELETED_LOCAL: "deleted here; a person must decide",
    Conflict.Reason.UNDO_CONFLICT: "an undo of a grouped update; a person must decide",
}


def frozen(conflicts: QuerySet[Conflict], *, most: int) -> dict[str, Any]:
    """Return the parameters that freeze what the person looks at: by id, the revision and the remote version."""
    rows = conflicts.order_by("pk").values_list("pk", "record__revision", "remote_version")[: most + 1]
    return {SEEN: {str(pk): [revision, version] for pk, revision, version in rows}}


def may_act(user: Person) -> bool:
    """Tell whether the person may decide conflicts at all; which ones, `own_among` says."""
    return rights.operates(user) or user.has_perm("sync.change_conflict")


def own_among(user: Person, conflict_ids: Sequence[int]) -> Collection[int]:
    """Return those conflicts that the person may decide: all for operations, else those of own records."""
    rows = Conflict.objects.filter(pk__in=list(conflict_ids)).values_list("pk", "record__owner_id")
    everybodys = rights.operates(user)
    # Compared here: a database without statistics would look up every id for every record of the owner's.
    return {pk for pk, owner_id in rows if everybodys or owner_id == user.pk}


def targets(conflict_ids: Sequence[int]) -> dict[int, Target]:
    """Return how conflicts are called, and where their pages are."""
    rows = Conflict.objects.filter(pk__in=list(conflict_ids)).select_related("record").only("pk", "record__title",
        "record__external_id")  # fmt: skip
    return {row.pk: Target(str(row.record), reverse("admin:sync_conflict_change", args=[row.pk])) for row in rows}


def _rows(conflict_ids: Sequence[int]) -> list[Conflict]:
    """Return the conflicts in the order in which their records are locked."""
    rows = Conflict.objects.filter(pk__in=list(conflict_ids)).select_related("record", "resource__remote")
    return list(rows.defer("local", "record__base").order_by("record_id"))


def _merge_of(row: Conflict) -> Merge:
    return three_way(row.base, row.record.data, row.remote or {}, comparator=spec_for(row.resource).comparator)


def _why_not(row: Conflict, parameters: Parameters) -> str:
    if row.state != Conflict.State.OPEN:
        return _RESOLVED
    if row.reason in _PERSON:
        return _PERSON[Conflict.Reason(row.reason)]
    if row.remote is None or row.record.intent == Intent.DELETE:
        return "a deletion; a person must decide"
    return "" if parameters.get(SEEN, {}).get(str(row.pk)) == [row.record.revision, row.remote_version] else MOVED


def _preview(conflict_ids: Sequence[int], parameters: Parameters) -> Mapping[int, Verdict]:
    return {row.pk: Verdict(row.happened, "split", _why_not(row, parameters)) for row in _rows(conflict_ids)}


def _by_field(conflict_ids: Sequence[int], parameters: Parameters) -> list[Part]:
    """Count in how many of the conflicts each field is decided."""
    counted: Counter[tuple[str, str]] = Counter()
    for row in _rows(conflict_ids):
        if not _why_not(row, parameters):
            counted.update((row.resource.slug, at) for at in _merge_of(row).conflicts)
    return [
        Part(f"{' › '.join(pointer.parse(at))} ({slug})", "edit", "", count)
        for (slug, at), count in counted.most_common(50)
    ]  # fmt: skip


def _decide(batch: Batch, side: str) -> dict[int, Result]:
    found: dict[int, Result] = {}
    for row in _rows(batch.ids):
        why_not = _why_not(row, batch.parameters)
        found[row.pk] = Result(RowState.SKIPPED, why_not) if why_not else _resolved(row, batch, side)
    return found


def _resolved(row: Conflict, batch: Batch, side: str) -> Result:
    revision, version = batch.parameters[SEEN][str(row.pk)]
    merge = _merge_of(row)
    only_theirs = side == "remote" and set(merge.local_changes) <= set(merge.conflicts)
    action = Action.USE_REMOTE if only_theirs else Action.MERGE
    fields = {} if only_theirs else dict.fromkeys(merge.conflicts, side)
    try:
        status = resolve.resolve(row.pk, Decision(action, revision, version, fields), actor=actor_of(batch))
    except StaleView:
        return Result(RowState.SKIPPED, MOVED)
    except AlreadyResolved:
        return Result(RowState.SKIPPED, _RESOLVED)
    except ImpossibleDecision as refusal:
        return Result(RowState.FAILED, str(refusal))
    return Result(RowState.DONE, "resolved; being sent" if status == "PENDING" else "resolved")


REMOTE_WINS = Act(
    name="conflicts.remote_wins", label="Let the remote win", done="resolved", nouns=NOUNS, home=LIST,
    promise="Fields changed on both sides get the remote's value. What was changed on one side only is kept and sent. "
            "The values that lose are kept with each conflict.",
    may=may_act, scope=own_among, targets=targets, preview=_preview, details=_by_field,
    run=lambda batch: _decide(batch, "remote"),
)  # fmt: skip
LOCAL_WINS = Act(
    name="conflicts.local_wins", label="Let the local values win", done="resolved", nouns=NOUNS, home=LIST,
    promise="Fields changed on both sides get the value from here and are sent to the remote. What was changed on one "
            "side only is kept. The values that lose are kept with each conflict.",
    may=may_act, scope=own_among, targets=targets, preview=_preview, details=_by_field,
    run=lambda batch: _decide(batch, "local"),
)  # fmt: skip
