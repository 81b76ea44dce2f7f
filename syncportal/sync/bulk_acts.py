"""What can be done to many records at once: requeue, refresh, assign. Registered with the bulk room at start.

Guarantees: what the preview names as left out is left out for the same reason when it runs, judged anew on each row.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from django import forms
from django.contrib.auth import get_user_model
from django.db.models import Count
from django.urls import reverse

from syncportal.bulk.acts import Act, Batch, Cause, Parameters, Person, Result, Target, Verdict, Wait
from syncportal.bulk.states import RowState
from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.limits import Blocked
from syncportal.remote.models import Remote
from syncportal.sync import operate, states, transitions
from syncportal.sync.error_models import ErrorGroup
from syncportal.sync.events import Actor
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.operate import Done
from syncportal.sync.rights import operates
from syncportal.sync.states import LOOKS, Status

LIST = "admin:sync_record_changelist"
NOUNS = ("record", "records")
_AGREED = {Status.SYNCED, Status.SKIPPED}
_ON_ITS_WAY = {Status.PENDING, Status.PROCESSING}
_WHY_NOT = {
    "requeue": {
        Status.PENDING: "waits for a worker already",
        Status.PROCESSING: "is being sent right now",
        Status.SYNCED: "both sides agree",
        Status.SKIPPED: "both sides agree",
        Status.VERSION_CONFLICT: "a person must decide first",
    },
    "refresh": {
        Status.PROCESSING: "is being sent right now",
        Status.VERSION_CONFLICT: "a person must decide first",
    },
}


class AssignForm(forms.Form):
    """Who gets the records."""

    owner = forms.ModelChoiceField(
        queryset=get_user_model().objects.none(), required=False, empty_label="Nobody (operations only)",
        help_text="Only active people are listed.",
    )  # fmt: skip

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        people = get_user_model().objects.filter(is_active=True).order_by("username")
        self.fields["owner"].queryset = people  # type: ignore[attr-defined]

    @property
    def parameters(self) -> dict[str, int | None]:
        """Return what is stored with the operation."""
        owner = self.cleaned_data.get("owner")
        return {"owner_id": owner.pk if owner else None}


def may_act(user: Person) -> bool:
    """Tell whether the person may act on records at all; which ones, `own_among` says."""
    return operates(user) or user.has_perm("sync.change_record")


def own_among(user: Person, record_ids: Sequence[int]) -> Collection[int]:
    """Return those records that the person may act on: all for operations, else their own."""
    rows = Record.objects.visible_to(user).filter(pk__in=list(record_ids))
    return set((rows if operates(user) else rows.filter(owner_id=user.pk)).values_list("pk", flat=True))


def targets(record_ids: Sequence[int]) -> dict[int, Target]:
    """Return how records are called, and where their pages are."""
    rows = Record.objects.filter(pk__in=list(record_ids)).only("pk", "title", "external_id")
    return {row.pk: Target(str(row), reverse("admin:sync_record_change", args=[row.pk])) for row in rows}


def actor_of(batch: Batch) -> Actor:
    """Return the person behind a batch as the history names them."""
    return Actor(batch.user_kind, batch.user_id, batch.user_label)


def _verdicts(record_ids: Sequence[int], judge: Callable[[str, str, str | None], str]) -> dict[int, Verdict]:
    rows = Record.objects.filter(pk__in=list(record_ids))
    found = {}
    for pk, status, held_by, external_id in rows.values_list("pk", "job__status", "job__held_by", "external_id"):
        found[pk] = Verdict(Status(status).label, LOOKS[status].icon, judge(status, held_by, external_id))
    return found


def _no_requeue(status: str, held_by: str, external_id: str | None) -> str:
    return "" if status in states.REQUEUE.sources else _WHY_NOT["requeue"].get(Status(status), "nothing to do")


def _no_refresh(status: str, held_by: str, external_id: str | None) -> str:
    if status not in states.REFRESH.sources:
        return _WHY_NOT["refresh"].get(Status(status), "nothing to do")
    if held_by:
        return "a group or task holds it; refresh it after the release"
    return "" if external_id else "the remote does not know it yet"


def results_of(done: Done, words: str) -> dict[int, Result]:
    """Return what became of each record as rows of a bulk operation show it."""
    left_out = {pk: Result(RowState.SKIPPED, why) for pk, why in done.left_out.items()}
    return left_out | {pk: Result(RowState.DONE, words) for pk in done.moved}


def _requeue(batch: Batch) -> dict[int, Result]:
    return results_of(operate.requeue(batch.ids, actor=actor_of(batch)), "requeued")


def _refresh(batch: Batch) -> dict[int, Result]:
    return results_of(operate.request_refresh(batch.ids, actor=actor_of(batch)), "will be read again")


def _assign(batch: Batch) -> dict[int, Result]:
    owner_id = batch.parameters.get("owner_id")
    if owner_id is not None and not get_user_model().objects.filter(pk=owner_id, is_active=True).exists():
        return dict.fromkeys(batch.ids, Result(RowState.FAILED, "the new owner is not active any more"))
    return results_of(operate.assign(batch.ids, owner_id=owner_id, actor=actor_of(batch)), "assigned")


def _all(record_ids: Sequence[int], parameters: Parameters) -> Mapping[int, Verdict]:
    return _verdicts(record_ids, lambda *seen: "")


def how_it_went(record_ids: Sequence[int]) -> dict[int, Result]:
    """Tell how requeued records fared: agreed, failed again (with the reason), or still on their way."""
    found = {}
    rows = SyncJob.objects.filter(pk__in=list(record_ids))
    for pk, status, attempts, reason, detail, held_by in rows.values_list(
        "pk", "status", "attempts", "reason", "detail", "held_by"
    ):
        postponed = status == Status.RETRY_PENDING and (not attempts or reason == transitions.WORKER_DIED)
        if status in _AGREED or held_by:
            found[pk] = Result(RowState.DONE, Status(status).label.lower())
        elif status in _ON_ITS_WAY or postponed:
            found[pk] = Result(RowState.WAITING)
        else:
            found[pk] = Result(RowState.FAILED, f"{Status(status).label}: {detail}"[:300])
    gone = Result(RowState.SKIPPED, "gone")
    return dict.fromkeys(record_ids, gone) | found


def causes(record_ids: Sequence[int], parameters: Parameters) -> list[Cause]:
    """Return the error groups that requeued records ended in; new: another one than they were retried for."""
    meant = parameters.get("error_group")
    failed = SyncJob.objects.filter(pk__in=list(record_ids), error_group__isnull=False).order_by()
    counts = dict(failed.values_list("error_group").annotate(number=Count("pk")))
    found = []
    for group in ErrorGroup.objects.filter(pk__in=counts):
        page = reverse("admin:sync_errorgroup_change", args=[group.pk])
        found.append(Cause(str(group), page, counts[group.pk], new=meant is not None and meant != str(group.pk)))
    return sorted(found, key=lambda cause: (-cause.count, cause.title))


def waits(record_ids: Sequence[int]) -> list[Wait]:
    """Return the remotes of these records to which no call goes now, and what will end that."""
    blocked = limits.blocked(db_now())
    if not blocked:
        return []
    jobs = SyncJob.objects.filter(pk__in=list(record_ids), remote_id__in=blocked).order_by()
    remotes = Remote.objects.filter(pk__in=jobs.values("remote_id")).only("pk", "slug", "name").order_by("slug")
    return [Wait(_why(remote, blocked[remote.pk]), _page(remote)) for remote in remotes]


def _why(remote: Remote, block: Blocked) -> str:
    if block.reason == limits.PAUSED:
        because = f" ({block.detail})" if block.detail else ""
        return f"{remote} is paused{because}: its records wait until somebody resumes it."
    return f"{remote} does not answer: its records wait; it is asked again by itself until it does."


def _page(remote: Remote) -> str:
    return reverse("admin:remote_remote_change", args=[remote.pk])


REQUEUE = Act(
    name="records.requeue", label="Requeue", done="requeued", nouns=NOUNS, home=LIST,
    promise="Each gets all its attempts again and goes out at once; history stays.",
    may=may_act, scope=own_among, targets=targets, run=_requeue, watch=how_it_went, causes=causes, waits=waits,
    preview=lambda ids, parameters: _verdicts(ids, _no_requeue),
)  # fmt: skip
REFRESH = Act(
    name="records.refresh", label="Refresh from remote", done="will be refreshed", nouns=NOUNS, home=LIST,
    promise="Each is read again in the background; nothing is sent. A change on both sides becomes a conflict.",
    may=may_act, scope=own_among, targets=targets, run=_refresh,
    preview=lambda ids, parameters: _verdicts(ids, _no_refresh),
)  # fmt: skip
ASSIGN = Act(
    name="records.assign", label="Assign to an owner", done="assigned", nouns=NOUNS, home=LIST,
    promise="The new owner sees and edits them, and decides conflicts.",
    may=operates, scope=own_among, targets=targets, run=_assign, preview=_all, form=AssignForm,
)  # fmt: skip
