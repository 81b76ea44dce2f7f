"""The buttons of the record page: requeue, refresh, assign, link, send again, what rooms above offer. Each one POST.

Owns: authorizing, calling one verb, saying what came of it. Guarantees: no transaction is open while the remote is
asked; a button that came too late says so and changes nothing.
"""

from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from syncportal.remote.errors import Misconfiguration
from syncportal.sync import operate, refresh, rights
from syncportal.sync.models import Record
from syncportal.sync.operate import LinkRefused
from syncportal.sync.refresh import Refreshed
from syncportal.sync.screens.page import actor_of, list_query, with_back
from syncportal.sync.screens.record_parts import offered, visible_record

_GOOD = {Refreshed.UPDATED, Refreshed.UNCHANGED}


@require_POST
def do(request: HttpRequest, record_id: int, verb: str) -> HttpResponse:
    """Carry out one button and go back to the record."""
    record = visible_record(request, record_id)
    above = offered(verb, request.user)
    if above is not None:
        return above.act(request, record)
    act = _VERBS.get(verb)
    if act is None:
        raise Http404("There is no such act.")
    if verb == "assign" and not rights.operates(request.user):
        raise PermissionDenied
    if not rights.may_operate(request.user, record):
        raise PermissionDenied
    act(request, record)
    address = reverse("admin:sync_record_change", args=[record.pk])
    return HttpResponseRedirect(with_back(address, list_query(request)))


def _requeue(request: HttpRequest, record: Record) -> None:
    done = operate.requeue([record.pk], actor=actor_of(request.user))
    if done.moved:
        messages.success(request, "Requeued with all attempts. Syncing…")
    else:
        messages.warning(request, f"Not requeued: it is {', '.join(done.left_out.values()) or 'gone'} by now.")


def _send_again(request: HttpRequest, record: Record) -> None:
    if record.job.reason != "create_unknown" or record.external_id:
        messages.warning(request, "Nothing was done: the creation is not unknown any more.")
        return
    done = operate.requeue([record.pk], actor=actor_of(request.user), forget_sends=True)
    if done.moved:
        messages.success(request, "It is sent again as a new object. Syncing…")
    else:
        messages.warning(request, f"Not sent again: it is {', '.join(done.left_out.values()) or 'gone'} by now.")


def _refresh(request: HttpRequest, record: Record) -> None:
    try:
        result = refresh.refresh(record.pk, resource=record.resource, actor=actor_of(request.user))
    except Misconfiguration as problem:
        messages.error(request, f"The remote cannot be asked: {problem}")
        return
    level = messages.SUCCESS if result.outcome in _GOOD else messages.WARNING
    if result.outcome in {Refreshed.FAILED, Refreshed.INVALID}:
        level = messages.ERROR
    messages.add_message(request, level, f"{_WORDS[result.outcome]} {result.detail}".strip())


_WORDS = {
    Refreshed.UPDATED: "Refreshed.",
    Refreshed.UNCHANGED: "Refreshed.",
    Refreshed.CONFLICT: "Refreshed, and both sides changed: a person must decide.",
    Refreshed.BUSY: "Not refreshed.",
    Refreshed.MOVED: "Not refreshed.",
    Refreshed.INVALID: "The remote's answer was not usable; nothing was changed.",
    Refreshed.FAILED: "The remote could not be read; nothing was changed.",
    Refreshed.NOT_SENT_YET: "Not refreshed.",
}


def _assign(request: HttpRequest, record: Record) -> None:
    chosen = request.POST.get("owner", "")
    owner = None
    if chosen:
        owner = get_user_model().objects.filter(pk=chosen if chosen.isdecimal() else 0, is_active=True).first()
        if owner is None:
            messages.error(request, "There is no such person, or they are not active; nothing was changed.")
            return
    done = operate.assign([record.pk], owner_id=owner.pk if owner else None, actor=actor_of(request.user))
    name = owner.get_username() if owner else "nobody"
    said = f"Assigned to {name}." if done.moved else f"It already belongs to {name}."
    messages.add_message(request, messages.SUCCESS if done.moved else messages.INFO, said)


def _link(request: HttpRequest, record: Record) -> None:
    external_id = request.POST.get("external_id", "").strip()[:500]
    try:
        operate.link(record.pk, external_id, actor=actor_of(request.user))
    except LinkRefused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, f"Linked to {external_id}. The remote is asked what it holds.")


_VERBS: dict[str, Callable[[HttpRequest, Record], None]] = {
    "requeue": _requeue,
    "refresh": _refresh,
    "assign": _assign,
    "link": _link,
    "send_again": _send_again,
}
