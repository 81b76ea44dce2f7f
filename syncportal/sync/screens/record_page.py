"""The page of one record: its form, its state that moves by itself, its history.

Owns: showing and saving the form. Guarantees: a stale form merges with what others changed meanwhile and is refused
only where both changed the same field, with the person's input kept; nothing is written on GET.
"""

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from syncportal.kernel import pointer
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import local, rights
from syncportal.sync.forms import Clash, RecordForm, clashes, fields_of, patch_of, read_seen, write_seen
from syncportal.sync.local import Edit, InvalidEdit, RecordGone, Saved, StaleRevision
from syncportal.sync.models import Record
from syncportal.sync.screens.page import actor_of, fragment, list_query, render, to_list, with_back
from syncportal.sync.screens.record_parts import label_of, named_timeline, state_context, values_token, visible_record
from syncportal.sync.screens.values import shown

RACES = 3
LIST = "admin:sync_record_changelist"


def change(request: HttpRequest, record_id: int) -> HttpResponse:
    """Show a record, or save its form."""
    record = visible_record(request, record_id)
    if request.method == "POST":
        if not rights.may_edit(request.user, record):
            raise PermissionDenied
        with timezone.override(zone_of(request)):
            return _save(request, record)
    spec = spec_for(record.resource)
    form = RecordForm(shown=fields_of(spec, record.data, creating=False), before=record.data)
    return _page(request, record, spec, form)


def zone_of(request: HttpRequest) -> Any:
    """Return the zone in which the form was filled in; dates in it mean that zone."""
    try:
        return ZoneInfo(request.POST.get("zone", "")[:64])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return timezone.get_current_timezone()


def _save(request: HttpRequest, record: Record) -> HttpResponse:
    spec = spec_for(record.resource)
    seen = read_seen(request.POST.get("seen", ""))
    if seen is None:
        messages.error(request, "The form could not be read; nothing was saved. Please fill it in again.")
        return HttpResponseRedirect(_address(request, record))
    form = RecordForm(request.POST, shown=fields_of(spec, seen, creating=False), before=seen)
    if not form.is_valid():
        return _page(request, record, spec, form, status=422)
    wishes = form.wishes()
    for _ in range(RACES):
        found = clashes(wishes, seen=seen, current=record.data, labels=form.places)
        if found:
            return _page(request, record, spec, _rebased(request, record, spec, wishes), clashes=found, status=409)
        edit = Edit(record.pk, patch_of(wishes, record.data), revision=record.revision)
        try:
            saved = local.save(edit, actor=actor_of(request.user))
        except StaleRevision:
            record = visible_record(request, record.pk)
            continue
        except InvalidEdit as refusal:
            form.add_problems(refusal.problems)
            return _page(request, record, spec, form, status=422)
        except RecordGone:
            messages.error(request, "The record was deleted meanwhile; nothing was saved.")
            return to_list(LIST, list_query(request))
        shown_places = list(form.places.values())
        merged = values_token(seen, shown_places) != values_token(record.data, shown_places)
        _tell(request, saved, merged=merged)
        return HttpResponseRedirect(_address(request, record))
    messages.error(request, "The record changes too fast right now; nothing was saved. Please try again.")
    return _page(request, record, spec, form, status=409)


def _tell(request: HttpRequest, saved: Saved, *, merged: bool) -> None:
    if not saved.changed:
        messages.info(request, "Nothing to save: the record already says so.")
    elif saved.conflict_id:
        messages.warning(request, "Saved. The record still has an open conflict; decide it to send your values.")
    elif merged:
        messages.success(request, "Saved together with what others changed meanwhile. Syncing…")
    else:
        messages.success(request, "Saved. Syncing…")


def _rebased(request: HttpRequest, record: Record, spec: ResourceSpec, wishes: dict[str, Any]) -> RecordForm:
    """Return the form on the newest values with the person's own input on top; saving it again is deliberate."""
    form = RecordForm(shown=fields_of(spec, record.data, creating=False), before=record.data)
    for at in wishes:
        form.initial[at] = request.POST.get(at)
    return form


def _page(
    request: HttpRequest,
    record: Record,
    spec: ResourceSpec,
    form: RecordForm,
    *,
    clashes: list[Clash] | None = None,
    status: int = 200,
) -> HttpResponse:
    seen = form.before
    shown_places = list(form.places.values())
    context = {
        **state_context(request, record, form_values=values_token(seen, shown_places)),
        "form": form,
        "groups": form.groups(),
        "seen": write_seen(seen, shown_places),
        "zone": timezone.get_current_timezone_name(),
        "can_edit": rights.may_edit(request.user, record) and record.deleted_at is None,
        "can_delete": rights.may_delete(request.user, record) and record.deleted_at is None,
        "clashes": [(c.label, shown(c.seen), shown(c.current), shown(c.wanted)) for c in clashes or ()],
        "rest": _rest(record, spec, form),
        "back": list_query(request),
        "list_url": f"{reverse(LIST)}?{list_query(request)}",
    }
    return render(request, "sync/record_page.html", title=str(record), context=context, status=status)


def _rest(record: Record, spec: ResourceSpec, form: RecordForm) -> list[tuple[str, Any]]:
    """Return the values that are no field of the form: those only the remote sets, and the id."""
    tops = {at.split("/")[1] for at in form.places}
    places = {pointer.build([name]): value for name, value in record.data.items()}
    return [(label_of(spec, at), shown(value)) for at, value in places.items() if at[1:] not in tops]


def _address(request: HttpRequest, record: Record) -> str:
    return with_back(reverse("admin:sync_record_change", args=[record.pk]), list_query(request))


def state(request: HttpRequest, record_id: int) -> HttpResponse:
    """Answer with the parts of the page that moved; 204 while nothing did."""
    record = visible_record(request, record_id)
    context = state_context(request, record, form_values=request.GET.get("values", "")[:64])
    if request.GET.get("seen") == context["outlook"].token:
        return HttpResponse(status=204)
    return fragment(request, "sync/_state_update.html", {**context, "back": list_query(request)})


def history(request: HttpRequest, record_id: int) -> HttpResponse:
    """Show an older page of the history: a fragment for the page's own request, else a page."""
    record = visible_record(request, record_id)
    page = named_timeline(record, spec_for(record.resource), before=request.GET.get("before", "")[:40])
    context = {"record": record, "timeline": page}
    if request.headers.get("HX-Request"):
        return fragment(request, "sync/_timeline_items.html", context)
    return render(request, "sync/timeline_page.html", title=f"History of {record}", context=context)
