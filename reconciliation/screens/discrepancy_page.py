"""One discrepancy: both sides field by field, why they differ as far as we know, and what can be done about it."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from reconciliation import repairs
from reconciliation.models import Discrepancy
from reconciliation.screens.looks import CAUSE_SENTENCES, KIND_SENTENCES, state_badge, what_a_fix_does
from reconciliation.screens.selection import compare_one
from reconciliation.states import UNSETTLED, Direction, State
from syncportal.remote.spec import spec_for
from syncportal.sync import rights
from syncportal.sync.screens.page import actor_of, list_query, render, with_back
from syncportal.sync.screens.record_parts import label_of
from syncportal.sync.screens.values import Shown, shown


@dataclass(frozen=True, slots=True)
class Field:
    """One field on both sides."""

    label: str
    local: Shown
    remote: Shown


@dataclass(frozen=True, slots=True)
class Repair:
    """One way to repair it: what it does, or why it cannot be done now."""

    direction: Direction
    does: str
    why_not: str


@require_GET
def discrepancy_view(request: HttpRequest, discrepancy_id: int) -> HttpResponse:
    """Show a discrepancy."""
    row = _visible(request, discrepancy_id)
    spec = spec_for(row.resource)
    context = {
        "row": row,
        "badge": state_badge(row),
        "kind_sentence": KIND_SENTENCES[row.kind],
        "cause_sentence": CAUSE_SENTENCES[row.cause],
        "fields": [
            Field(label_of(spec, one["pointer"]), shown(one.get("local")), shown(one.get("remote")))
            for one in row.differences
        ],
        "repairs": _repairs(row) if row.state in UNSETTLED else [],
        "no_repair": row.state in UNSETTLED and not repairs.directions_of(row),
        "operator": rights.operates(request.user),
        "open": row.state == State.OPEN,
        "back": list_query(request),
        "here": request.get_full_path(),
    }
    title = str(row.record) if row.record is not None else row.external_id
    return render(request, "reconciliation/discrepancy_page.html", title=title, context=context)


@require_POST
def do_view(request: HttpRequest, discrepancy_id: int, verb: str) -> HttpResponse:
    """Ask for a repair, ignore, or compare this one record again."""
    row = _visible(request, discrepancy_id)
    if not rights.operates(request.user):
        raise PermissionDenied
    if verb in Direction.values:
        _repair(request, row, Direction(verb))
    elif verb == "ignore":
        _ignore(request, row)
    elif verb == "compare":
        return _compare(request, row)
    else:
        raise Http404("There is no such act.")
    address = reverse("admin:reconciliation_discrepancy_change", args=[row.pk])
    return HttpResponseRedirect(with_back(address, list_query(request)))


def _repair(request: HttpRequest, row: Discrepancy, direction: Direction) -> None:
    asked = repairs.request([row.pk], direction=direction, actor=actor_of(request.user))
    if asked.ids:
        messages.success(request, "Asked for. The object is read once more, and repaired if neither side has moved.")
    else:
        messages.warning(request, f"Nothing was changed: {asked.left_out.get(row.pk, 'somebody else was faster')}.")


def _ignore(request: HttpRequest, row: Discrepancy) -> None:
    reason = request.POST.get("reason", "").replace("\x00", "").strip()[:500]
    if not reason:
        messages.error(request, "Nothing was changed: say why it is accepted.")
    elif repairs.ignore([row.pk], reason=reason, actor=actor_of(request.user)):
        messages.success(request, "Ignored until the difference changes.")
    else:
        messages.warning(request, "Nothing was changed: it is not open any more.")


def _compare(request: HttpRequest, row: Discrepancy) -> HttpResponse:
    here = reverse("admin:reconciliation_discrepancy_change", args=[row.pk])
    if row.record is not None:
        return compare_one(request, row.record, here=here)
    messages.warning(request, "There is no record to compare; start a run of the resource.")
    return HttpResponseRedirect(here)


def _visible(request: HttpRequest, discrepancy_id: int) -> Discrepancy:
    if not rights.may_look(request.user):
        raise PermissionDenied
    rows = Discrepancy.objects.visible_to(request.user)
    related = rows.select_related("resource__remote", "record__job", "run", "settled_by", "wanted_by")
    row = related.filter(pk=discrepancy_id).first()
    if row is None:
        raise Http404("There is no such discrepancy, or it is not yours.")
    return row


def _repairs(row: Discrepancy) -> list[Repair]:
    possible: dict[str, Any] = {one: repairs.obstacle(row, direction=one) for one in repairs.directions_of(row)}
    return [Repair(Direction(one), what_a_fix_does(row.kind, one), why) for one, why in possible.items()]
