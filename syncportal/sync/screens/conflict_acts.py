"""What people do at a conflict besides deciding it: read the remote again, hand over, assign, look for news.

Guarantees: no transaction is open while the remote is asked; an act that came too late says so and changes nothing.
"""

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from syncportal.remote.errors import Misconfiguration
from syncportal.sync import operate, refresh, rights
from syncportal.sync.models import Conflict
from syncportal.sync.refresh import Refreshed
from syncportal.sync.screens.conflict_page import page, visible_conflict
from syncportal.sync.screens.conflict_settled import use_again
from syncportal.sync.screens.conflict_state import conflict_state
from syncportal.sync.screens.page import actor_of, fragment, list_query, to_list, with_back
from syncportal.sync.screens.record_page import zone_of


def state(request: HttpRequest, conflict_id: int) -> HttpResponse:
    """Answer with the part of the page that moved; 204 while nothing did."""
    conflict = visible_conflict(request, conflict_id)
    context = conflict_state(request, conflict, seen=request.GET.get("seen", "")[:80])
    if not context["moved"]:
        return HttpResponse(status=204)
    return fragment(request, "sync/_conflict_state.html", context)


@require_POST
def do(request: HttpRequest, conflict_id: int, verb: str) -> HttpResponse:
    """Carry out one act on a conflict."""
    conflict = visible_conflict(request, conflict_id)
    if not rights.may_operate(request.user, conflict.record):
        raise PermissionDenied
    match verb:
        case "reread":
            with timezone.override(zone_of(request)):
                return _reread(request, conflict)
        case "hand-over":
            return _hand_over(request, conflict)
        case "assign":
            return _assign(request, conflict)
        case "use-again":
            return use_again(request, conflict)
    raise Http404("There is no such act.")


def _reread(request: HttpRequest, conflict: Conflict) -> HttpResponse:
    """Read the remote's side again; what the person chose and typed so far is kept."""
    try:
        result = refresh.refresh(conflict.record_id, resource=conflict.resource, actor=actor_of(request.user))
    except Misconfiguration as problem:
        messages.error(request, f"The remote cannot be asked: {problem}")
    else:
        if result.outcome is Refreshed.CONFLICT:
            messages.success(request, "The remote was read again; these are its values now.")
        else:
            messages.warning(request, f"The remote could not be read again. {result.detail}")
    return page(request, visible_conflict(request, conflict.pk), posted=request.POST)


def _hand_over(request: HttpRequest, conflict: Conflict) -> HttpResponse:
    handed = operate.escalate([conflict.pk], actor=actor_of(request.user))
    if handed:
        messages.success(request, "Handed to operations. You can still decide it yourself.")
    else:
        messages.info(request, "Nothing was changed: it is resolved, or with operations already.")
    return HttpResponseRedirect(_here(request, conflict))


def _assign(request: HttpRequest, conflict: Conflict) -> HttpResponse:
    if not rights.operates(request.user):
        raise PermissionDenied
    chosen = request.POST.get("owner", "")
    owner = get_user_model().objects.filter(pk=chosen if chosen.isdecimal() else 0, is_active=True).first()
    if owner is None and chosen:
        messages.error(request, "There is no such person, or they are not active; nothing was changed.")
        return HttpResponseRedirect(_here(request, conflict))
    done = operate.assign([conflict.record_id], owner_id=owner.pk if owner else None, actor=actor_of(request.user))
    name = owner.get_username() if owner else "nobody"
    told = " They are told by mail." if owner and owner.email else ""
    if done.moved:
        messages.success(request, f"Assigned to {name}.{told}")
    else:
        messages.info(request, f"It already belongs to {name}.")
    if not Conflict.objects.visible_to(request.user).filter(pk=conflict.pk).exists():
        return to_list("admin:sync_conflict_changelist", list_query(request))
    return HttpResponseRedirect(_here(request, conflict))


def _here(request: HttpRequest, conflict: Conflict) -> str:
    return with_back(reverse("admin:sync_conflict_change", args=[conflict.pk]), list_query(request))
