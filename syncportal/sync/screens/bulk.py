"""Acts on many records at once: preview with exact counts, then the act on exactly those ids.

Owns: the preview page and its execution. Guarantees: the ids are frozen at the preview and posted, so a moving filter
never widens an act; permission and scope are checked at both steps; what is left out is named with its reason.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from syncportal.sync import operate, states
from syncportal.sync.models import Record
from syncportal.sync.operate import Done
from syncportal.sync.rights import operates
from syncportal.sync.screens.page import actor_of, render, to_list
from syncportal.sync.states import LOOKS, Status

MOST = 20_000
LIST = "admin:sync_record_changelist"


@dataclass(frozen=True, slots=True)
class Act:
    """A bulk act: what it is called, what it does, and which statuses it takes."""

    name: str
    label: str
    done: str
    promise: str
    takes: frozenset[Status]
    operations_only: bool = False


ACTS = {
    act.name: act
    for act in (
        Act("requeue", "Requeue", "requeued", "Each gets all its attempts again and goes out at once; history stays.",
            frozenset(Status(one) for one in states.REQUEUE.sources)),
        Act("refresh", "Refresh from remote", "will be refreshed",
            "Each is read again in the background; nothing is sent. A change on both sides becomes a conflict.",
            frozenset(Status(source) for source in states.REFRESH.sources)),
        Act("assign", "Assign to an owner", "assigned", "The new owner sees and edits them, and decides conflicts.",
            frozenset(Status), operations_only=True),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the chosen records: `why` they are left out, "" when they are not."""

    label: str
    icon: str
    count: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an act would do now to the chosen records."""

    ids: tuple[int, ...]
    taken: int
    parts: tuple[Part, ...]
    left_out: tuple[Part, ...]

    @property
    def left_out_count(self) -> int:
        """Return how many records are left out."""
        return sum(part.count for part in self.left_out)


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


def preview_of(act: Act, chosen: QuerySet[Record]) -> Preview:
    """Count what the act takes and what it leaves out, and why."""
    rows = chosen.order_by("pk").values_list("pk", "job__status", "job__held_by", "external_id")[: MOST + 1]
    ids: list[int] = []
    taken: Counter[str] = Counter()
    refused: Counter[tuple[str, str, str]] = Counter()
    for pk, status, held_by, external_id in rows:
        ids.append(pk)
        reason = _refusal(act, status, held_by, external_id)
        if reason is None:
            taken[status] += 1
        else:
            refused[reason] += 1
    return Preview(
        ids=tuple(ids),
        taken=sum(taken.values()),
        parts=tuple(Part(Status(status).label, LOOKS[status].icon, count) for status, count in taken.most_common()),
        left_out=tuple(Part(label, icon, count, why) for (label, icon, why), count in refused.most_common()),
    )


def _refusal(act: Act, status: str, held_by: str, external_id: str | None) -> tuple[str, str, str] | None:
    if act.name == "assign":
        return None
    if status not in act.takes:
        return Status(status).label, LOOKS[status].icon, _WHY[act.name].get(status, "nothing to do")
    if act.name == "refresh" and held_by:
        return "Held", "lock", "a group or task holds it; refresh it after the release"
    if act.name == "refresh" and not external_id:
        return "Never sent", "clock", "the remote does not know it yet"
    return None


_WHY: dict[str, dict[str, str]] = {
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


def may_act(request: HttpRequest, act: Act) -> bool:
    """Tell whether the person may start the act at all."""
    if operates(request.user):
        return True
    return not act.operations_only and request.user.has_perm("sync.change_record")


def scope_of(request: HttpRequest, chosen: QuerySet[Record]) -> QuerySet[Record]:
    """Limit records to those the person may act on: all for operations, else their own."""
    return chosen if operates(request.user) else chosen.filter(owner_id=request.user.pk)


def show_preview(request: HttpRequest, act: Act, chosen: QuerySet[Record]) -> HttpResponse:
    """Answer with the preview of an act on the rows chosen in the list."""
    if not may_act(request, act):
        raise PermissionDenied
    shown = preview_of(act, scope_of(request, chosen))
    if len(shown.ids) > MOST:
        messages.error(request, f"More than {MOST} records are chosen. Narrow the filter; nothing was changed.")
        return to_list(LIST, request.GET.urlencode())
    return _preview_page(request, act, shown, AssignForm(), back=request.GET.urlencode())


def _preview_page(
    request: HttpRequest, act: Act, shown: Preview, form: AssignForm, *, back: str, status: int = 200
) -> HttpResponse:
    context = {
        "act": act,
        "preview": shown,
        "form": form if act.name == "assign" else None,
        "ids": ",".join(map(str, shown.ids)),
        "back": back,
    }
    return render(request, "sync/bulk_preview.html", title=act.label, context=context, status=status)


@require_POST
def execute(request: HttpRequest, name: str) -> HttpResponse:
    """Carry out an act on the posted ids and go back to the list with its filters."""
    act = ACTS.get(name)
    if act is None or not may_act(request, act):
        raise PermissionDenied
    back = request.POST.get("back", "")[:2000]
    wanted = _ids(request.POST.get("ids", ""))
    if wanted is None:
        messages.error(request, "The list of records could not be read; nothing was changed. Choose them again.")
        return to_list(LIST, back)
    own = scope_of(request, Record.objects.visible_to(request.user)).filter(pk__in=wanted)
    ids = list(own.order_by("pk").values_list("pk", flat=True))
    form = AssignForm(request.POST)
    if act.name == "assign" and not form.is_valid():
        return _preview_page(request, act, preview_of(act, own), form, back=back, status=422)
    owner = form.cleaned_data.get("owner") if act.name == "assign" else None
    done = _RUN[act.name](request, ids, owner)
    missing = len(wanted) - len(ids)
    sentence = done.sentence(act.done) + (f"; {missing} no longer yours or gone" if missing else "")
    messages.add_message(request, messages.SUCCESS if done.moved else messages.WARNING, f"{sentence}.")
    return to_list(LIST, back)


def _ids(text: str) -> list[int] | None:
    parts = [part for part in text.split(",") if part]
    if len(parts) > MOST or not all(part.isdecimal() and len(part) < 18 for part in parts):
        return None
    return sorted({int(part) for part in parts})


def _assign(request: HttpRequest, ids: list[int], owner: AbstractUser | None) -> Done:
    return operate.assign(ids, owner_id=owner.pk if owner else None, actor=actor_of(request.user))


_RUN: dict[str, Callable[[HttpRequest, list[int], AbstractUser | None], Done]] = {
    "requeue": lambda request, ids, owner: operate.requeue(ids, actor=actor_of(request.user)),
    "refresh": lambda request, ids, owner: operate.request_refresh(ids, actor=actor_of(request.user)),
    "assign": _assign,
}
