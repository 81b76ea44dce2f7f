"""What can be done to many compensating tasks at once: try them again, with a reason. Registered when Django starts.

Guarantees: each task is judged anew when its turn comes, as on its own page; records are locked in the order of their
ids, as everywhere. Does not: force or close, which need a look at each object.
"""

from collections.abc import Collection, Mapping, Sequence

from django import forms
from django.urls import reverse

from rollback import operate, visibility
from rollback.models import CompensatingTask
from rollback.states import TaskStatus
from syncportal.bulk.acts import Act, Batch, Parameters, Person, Result, Target, Verdict
from syncportal.bulk.states import RowState
from syncportal.sync.bulk_acts import actor_of

LIST = "admin:rollback_compensatingtask_changelist"
NOUNS = ("compensating task", "compensating tasks")
_ICONS = {TaskStatus.FAILED_PERMANENT: "alert", TaskStatus.SUCCEEDED: "check"}


class RetryForm(forms.Form):
    """Why they are tried again."""

    reason = forms.CharField(max_length=operate.LONGEST_WHY, help_text="Kept with each of them, in the history.")

    @property
    def parameters(self) -> dict[str, str]:
        """Return what is stored with the operation."""
        return {"reason": self.cleaned_data["reason"]}


def _own(user: Person, ids: Sequence[int]) -> Collection[int]:
    return set(visibility.tasks_of(user).filter(pk__in=list(ids)).values_list("pk", flat=True))


def _rows(ids: Sequence[int]) -> list[CompensatingTask]:
    rows = CompensatingTask.objects.filter(pk__in=list(ids)).defer("snapshot", "applied", "looked_at")
    return list(rows.order_by("record_id", "pk"))


def _targets(ids: Sequence[int]) -> dict[int, Target]:
    page = "admin:rollback_compensatingtask_change"
    return {row.pk: Target(f"Undo of {row.occurrence_id}", reverse(page, args=[row.pk])) for row in _rows(ids)}


def _preview(ids: Sequence[int], parameters: Parameters) -> Mapping[int, Verdict]:
    return {
        row.pk: Verdict(
            str(TaskStatus(row.status).label), _ICONS.get(TaskStatus(row.status), "clock"), operate.why_no_retry(row)
        )
        for row in _rows(ids)
    }


def _retry(batch: Batch) -> dict[int, Result]:
    actor, found = actor_of(batch), dict.fromkeys(batch.ids, Result(RowState.SKIPPED, "gone"))
    for row in _rows(batch.ids):
        try:
            operate.retry_now(row.pk, actor=actor, why=batch.parameters["reason"])
            found[row.pk] = Result(RowState.DONE, "due now, with all its attempts")
        except operate.NotPossible as refused:
            found[row.pk] = Result(RowState.SKIPPED, str(refused))
    return found


RETRY = Act(
    name="tasks.retry", label="Try again now", done="made due now", nouns=NOUNS, home=LIST,
    promise="Each is due at once, with all its attempts; a worker takes it in a moment. Conflicts are left out.",
    may=visibility.may_operate, scope=_own, targets=_targets, preview=_preview, run=_retry, form=RetryForm,
)  # fmt: skip
