"""What the pages of one record share: finding it, its buttons, its differences, its state.

Owns: `visible_record`, `state_context` (everything that moves by itself) and the buttons with their reasons.
Guarantees: a record outside of the person's scope is a 404, like one that does not exist.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse

from syncportal.kernel import pointer
from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import holders, rights, states
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.forms import Json, fields_of, write_seen
from syncportal.sync.models import Conflict, Record, SyncJob
from syncportal.sync.querysets import Person, sees_everything
from syncportal.sync.schema_fields import Place, place_at
from syncportal.sync.screens.outlook import outlook
from syncportal.sync.screens.timeline import Timeline, timeline
from syncportal.sync.screens.values import Shown, shown
from syncportal.sync.states import Intent, Status


def visible_record(request: HttpRequest, record_id: int) -> Record:
    """Return the record with job, resource and owner, or raise: 403 without the permission, 404 out of scope."""
    if not rights.may_look(request.user):
        raise PermissionDenied
    rows = Record.objects.visible_to(request.user).select_related("job", "resource__remote", "owner")
    record = rows.filter(pk=record_id).first()
    if record is None:
        raise Http404("There is no such record, or it is not yours.")
    return record


@dataclass(frozen=True, slots=True)
class Button:
    """A button of the record page; `why_not` says why it is grey, "" when it works."""

    verb: str
    label: str
    icon: str
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class OfferedAct:
    """An act of a room above on one record, for operations only. act: carries it out and says where to go."""

    verb: str
    label: str
    icon: str
    why_not: Callable[[Record], str]
    act: Callable[[HttpRequest, Record], HttpResponse]


_OF_ROOMS_ABOVE: dict[str, OfferedAct] = {}


def offer_to_operations(act: OfferedAct) -> None:
    """Show operations an act of a room above on the page of each record; called when its pages are registered."""
    _OF_ROOMS_ABOVE[act.verb] = act


def offered(verb: str, user: Person) -> OfferedAct | None:
    """Return the act of a room above that the person may use under this name."""
    return _OF_ROOMS_ABOVE.get(verb) if rights.operates(user) else None


def buttons(record: Record, user: Person) -> list[Button]:
    """Return the buttons the person may know of; those that cannot be used now say why."""
    if not rights.may_operate(user, record):
        return []
    job = record.job
    shown_buttons = [
        Button("requeue", "Requeue", "retry", _why_no_requeue(job)),
        Button("refresh", "Refresh from remote", "sync", _why_no_refresh(record, job)),
    ]
    if job.reason == "create_unknown" and job.status == Status.ERROR and not record.external_id:
        shown_buttons.append(Button("send_again", "Send again", "alert"))
    if rights.operates(user):
        above = _OF_ROOMS_ABOVE.values()
        shown_buttons += [Button(one.verb, one.label, one.icon, one.why_not(record)) for one in above]
    return shown_buttons


def _why_no_requeue(job: SyncJob) -> str:
    if job.status in states.REQUEUE.sources:
        return ""
    return {
        Status.PENDING: "It waits for a worker already.",
        Status.PROCESSING: "It is being sent right now.",
        Status.VERSION_CONFLICT: "Decide the conflict first.",
    }.get(Status(job.status), "Both sides agree; there is nothing to send.")


def _why_no_refresh(record: Record, job: SyncJob) -> str:
    if record.deleted_at is not None:
        return "It is deleted on both sides."
    if not record.external_id:
        return "The remote does not know it yet."
    if job.held_by:
        return f"It is held by {holders.label_of(job.held_by)}."
    return "It is being sent right now." if job.status == Status.PROCESSING else ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field whose local value the remote has not confirmed."""

    name: str
    agreed: Shown
    here: Shown


def differences(record: Record, spec: ResourceSpec) -> list[Difference]:
    """Return what stands here and not in what both sides last agreed on."""
    changed = unsent_changes(record.base, record.data, comparator=spec.comparator)
    base = record.base or {}
    return [
        Difference(label_of(spec, at), shown(pointer.get(base, at, None)), shown(pointer.get(record.data, at, None)))
        for at in changed
    ]


def label_of(spec: ResourceSpec, at: str) -> str:
    """Return what people call the field at a pointer, as its form does: the schema's title, else its name in words."""
    tokens = pointer.parse(at)
    return place_at(spec.schema, at, None).label if len(tokens) == 1 else " › ".join(tokens) or at


def named_timeline(record: Record, spec: ResourceSpec, *, before: str = "") -> Timeline:
    """Return a page of the record's history, its fields called as the form calls them."""
    return timeline(record, before=before, name_of=lambda name: label_of(spec, pointer.build([name])))


def values_token(data: Json, places: Sequence[Place]) -> str:
    """Return what stands for the values of a form's places, so that a page can tell whether they changed since."""
    return hashlib.sha256(write_seen(data, places).encode()).hexdigest()[:16]


def state_context(request: HttpRequest, record: Record, *, form_values: str = "") -> dict[str, Any]:
    """Return everything on the record page that moves by itself; form_values: the token of the values in its form."""
    now = db_now()
    spec = spec_for(record.resource)
    blocked = limits.blocked(now).get(record.resource.remote_id)
    ahead = outlook(record.job, now=now, blocked=blocked)
    conflict = Conflict.objects.open().filter(record_id=record.pk).values_list("pk", flat=True).first()
    places = fields_of(spec, record.data, creating=False)
    values = values_token(record.data, places)
    form_values = form_values or values
    path = reverse("admin:sync_record_state", args=[record.pk])
    return {
        "record": record,
        "job": record.job,
        "now": now,
        "outlook": ahead,
        "state_url": f"{path}?{urlencode({'values': form_values, 'seen': ahead.token})}",
        "conflict_id": conflict,
        "holder_page": holders.page_of(record.job.held_by) if sees_everything(request.user) else "",
        "moved_on": values != form_values,
        "buttons": buttons(record, request.user),
        "can_link": any(button.verb == "send_again" for button in buttons(record, request.user)),
        "can_assign": rights.operates(request.user),
        "people": people_to_assign(request.user),
        "deleting": record.intent == Intent.DELETE,
        "differences": differences(record, spec),
        "timeline": named_timeline(record, spec),
    }


def people_to_assign(user: Person) -> Any:
    """Return the people a record can be given to; none for those who may not assign."""
    if not rights.operates(user):
        return ()
    return get_user_model().objects.filter(is_active=True).order_by("username").only("pk", "username")[:500]
