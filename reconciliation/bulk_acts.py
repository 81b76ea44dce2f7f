"""What can be done to many discrepancies at once: repair in one direction, or ignore until they change.

A repair is asked for here and carried out by the worker after reading the object once more; the operation follows each
row to its end, so its page tells what became of every single one.
"""

from collections.abc import Collection, Mapping, Sequence

from django import forms
from django.urls import reverse

from reconciliation import repairs
from reconciliation.models import Discrepancy
from reconciliation.states import Direction, Kind, State
from syncportal.bulk.acts import Act, Batch, Parameters, Person, Result, Target, Verdict
from syncportal.bulk.states import RowState
from syncportal.sync.bulk_acts import actor_of
from syncportal.sync.rights import operates

LIST = "admin:reconciliation_discrepancy_changelist"
NOUNS = ("discrepancy", "discrepancies")


class IgnoreForm(forms.Form):
    """Why a difference is accepted."""

    reason = forms.CharField(
        max_length=500, help_text="Kept with each of them. They come back by themselves when the difference changes."
    )

    @property
    def parameters(self) -> dict[str, str]:
        """Return what is stored with the operation."""
        return {"reason": self.cleaned_data["reason"]}


def may_act(user: Person) -> bool:
    """Tell whether the person may act on discrepancies: operations."""
    return operates(user)


def _own(user: Person, ids: Sequence[int]) -> Collection[int]:
    return set(Discrepancy.objects.visible_to(user).filter(pk__in=list(ids)).values_list("pk", flat=True))


def _targets(ids: Sequence[int]) -> dict[int, Target]:
    rows = Discrepancy.objects.filter(pk__in=list(ids)).only("pk", "external_id", "kind")
    page = "admin:reconciliation_discrepancy_change"
    return {row.pk: Target(str(row), reverse(page, args=[row.pk])) for row in rows}


def _verdicts(ids: Sequence[int], why_not: Mapping[int, str]) -> dict[int, Verdict]:
    kinds = Discrepancy.objects.filter(pk__in=list(ids)).values_list("pk", "kind")
    return {pk: Verdict(str(Kind(kind).label), "split", why_not.get(pk, "")) for pk, kind in kinds}


def _preview_take(ids: Sequence[int], parameters: Parameters) -> dict[int, Verdict]:
    return _verdicts(ids, repairs.preview(ids, direction=Direction.TAKE_REMOTE).left_out)


def _preview_push(ids: Sequence[int], parameters: Parameters) -> dict[int, Verdict]:
    return _verdicts(ids, repairs.preview(ids, direction=Direction.PUSH_LOCAL).left_out)


def _preview_ignore(ids: Sequence[int], parameters: Parameters) -> dict[int, Verdict]:
    states = Discrepancy.objects.filter(pk__in=list(ids)).exclude(state=State.OPEN).values_list("pk", "state")
    return _verdicts(ids, {pk: f"is {State(state).label.lower()}" for pk, state in states})


def _ask(batch: Batch, direction: Direction) -> dict[int, Result]:
    asked = repairs.request(batch.ids, direction=direction, actor=actor_of(batch))
    left_out = {pk: Result(RowState.SKIPPED, why) for pk, why in asked.left_out.items()}
    return left_out | {pk: Result(RowState.DONE, "asked for") for pk in asked.ids}


def _take(batch: Batch) -> dict[int, Result]:
    return _ask(batch, Direction.TAKE_REMOTE)


def _push(batch: Batch) -> dict[int, Result]:
    return _ask(batch, Direction.PUSH_LOCAL)


def _ignore(batch: Batch) -> dict[int, Result]:
    taken = repairs.ignore(batch.ids, reason=batch.parameters["reason"], actor=actor_of(batch))
    not_open = Result(RowState.SKIPPED, "not open any more")
    return {pk: Result(RowState.DONE, "ignored until it changes") if pk in taken else not_open for pk in batch.ids}


def how_it_went(ids: Sequence[int]) -> dict[int, Result]:
    """Tell what became of repairs that were asked for: done, not possible any more, or still to come."""
    found = dict.fromkeys(ids, Result(RowState.SKIPPED, "gone"))
    for row in Discrepancy.objects.filter(pk__in=list(ids)).only("pk", "state", "wanted_at", "outcome"):
        if row.wanted_at is not None:
            found[row.pk] = Result(RowState.WAITING)
        elif row.state == State.FIXED:
            found[row.pk] = Result(RowState.DONE, row.outcome or "repaired")
        elif row.state == State.CLOSED:
            found[row.pk] = Result(RowState.DONE, "both sides agree by now")
        else:
            found[row.pk] = Result(RowState.SKIPPED, row.outcome or "left as it was")
    return found


TAKE_REMOTE = Act(
    name="discrepancies.take_remote", label="Take the remote's values", done="repaired", nouns=NOUNS, home=LIST,
    promise="Each object is read once more. If both sides are still what was found, our record takes the remote's "
    "values; nothing is sent. What moved meanwhile is left as it is.",
    may=may_act, scope=_own, targets=_targets, preview=_preview_take, run=_take, watch=how_it_went, follow=True,
)  # fmt: skip
PUSH_LOCAL = Act(
    name="discrepancies.push_local", label="Push our values", done="repaired", nouns=NOUNS, home=LIST,
    promise="Each object is read once more. If both sides are still what was found, our values are sent to the remote "
    "like any edit. What moved meanwhile is left as it is.",
    may=may_act, scope=_own, targets=_targets, preview=_preview_push, run=_push, watch=how_it_went, follow=True,
)  # fmt: skip
IGNORE = Act(
    name="discrepancies.ignore", label="Ignore until it changes", done="ignored", nouns=NOUNS, home=LIST,
    promise="They leave the open list and are not counted, until a run finds another difference on the same object.",
    may=may_act, scope=_own, targets=_targets, preview=_preview_ignore, run=_ignore, form=IgnoreForm,
)  # fmt: skip
