"""A resolved conflict: what was decided field by field, the values that lost, and what waits next.

Owns: using rejected values again as a new edit. Guarantees: a second click finds nothing new to save; a record that
moved since the page was opened is not changed.
"""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from syncportal.kernel import pointer
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import my_work, rejected, rights
from syncportal.sync.local import InvalidEdit, RecordGone, StaleRevision
from syncportal.sync.models import Conflict
from syncportal.sync.rejected import rejected_values
from syncportal.sync.screens import conflict_words
from syncportal.sync.screens.page import actor_of, with_back
from syncportal.sync.screens.record_parts import label_of
from syncportal.sync.screens.values import Shown, shown


@dataclass(frozen=True, slots=True)
class Loser:
    """One rejected value beside what the record holds now."""

    key: str
    label: str
    side: str
    value: Shown
    current: Shown
    same: bool


def settled_context(request: HttpRequest, conflict: Conflict, spec: ResourceSpec) -> dict[str, Any]:
    """Return what the page of a resolved conflict shows besides its state."""
    record = conflict.record
    waiting = my_work.conflicts_of(request.user)
    return {
        "resolution": conflict_words.resolution_words(conflict),
        "losers": losers_of(conflict, spec),
        "can_use_again": rights.may_edit(request.user, record) and record.deleted_at is None,
        "can_remake": rights.may_edit(request.user, record) and rejected.can_remake(conflict),
        "revision": record.revision,
        "next_conflict": waiting.order_by("created_at", "pk").values_list("pk", flat=True).first(),
        "waiting": waiting.count(),
    }


def losers_of(conflict: Conflict, spec: ResourceSpec) -> list[Loser]:
    """Return the rejected values of a resolved conflict."""
    sides, data = conflict_words.sides_of(conflict), conflict.record.data
    found = []
    for one in rejected_values(conflict, spec):
        current = pointer.get(data, one.pointer, None)
        side = sides.local if one.side == rejected.LOCAL else sides.remote
        same = spec.comparator.same(one.pointer, current, one.value)
        found.append(Loser(one.key, label_of(spec, one.pointer), side, shown(one.value), shown(current), same))
    return found


@require_POST
def use_again(request: HttpRequest, conflict: Conflict) -> HttpResponse:
    """Save the chosen rejected values as a new edit, or make the deleted record again; go to the record."""
    record = conflict.record
    if not rights.may_edit(request.user, record):
        raise PermissionDenied
    here = HttpResponseRedirect(reverse("admin:sync_conflict_change", args=[conflict.pk]))
    there = HttpResponseRedirect(with_back(reverse("admin:sync_record_change", args=[record.pk]), ""))
    given = request.POST.get("revision", "")
    revision = int(given) if given.isdecimal() and len(given) < 18 else -1
    if "remake" in request.POST:
        if rejected.remake(record.pk, revision=revision, actor=actor_of(request.user)):
            messages.success(request, "Made again with the values it had. Syncing…")
        else:
            messages.warning(request, "Not made again: the record is back or was changed meanwhile.")
        return there
    spec = spec_for(conflict.resource)
    wanted = set(request.POST.getlist("again"))
    picked = [one for one in rejected_values(conflict, spec) if one.key in wanted]
    values = {one.pointer: one.value for one in picked}
    if not picked or len(values) != len(picked):
        messages.error(request, "Choose at least one value, and one value a field; nothing was changed.")
        return here
    try:
        saved = rejected.use_again(
            conflict, values, current=record.data, revision=revision, actor=actor_of(request.user)
        )
    except StaleRevision:
        messages.warning(request, "The record was changed meanwhile, so nothing was saved. Look again and decide.")
        return here
    except (InvalidEdit, RecordGone) as refusal:
        messages.error(request, f"Nothing was saved. {refusal.detail}")
        return here
    said = "The rejected values are saved as a new edit. Syncing…"
    messages.success(request, said if saved.changed else "The record already holds these values.")
    return there
