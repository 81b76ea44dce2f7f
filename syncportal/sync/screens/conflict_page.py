"""One conflict: what happened, the differing fields, three ways out; afterwards its outcome and the rejected values.

Owns: reading a person's decision from the form and showing it again when it cannot be carried out. Guarantees: what
was decided on a stale view is not written, the fresh values are shown and the choices kept; a second click finds the
conflict resolved and does no harm; works without a script.
"""

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import holders, resolve, rights
from syncportal.sync.models import Conflict, Event
from syncportal.sync.querysets import sees_everything
from syncportal.sync.resolve import Action, AlreadyResolved, Decision, ImpossibleDecision, StaleView
from syncportal.sync.screens import conflict_words
from syncportal.sync.screens.conflict_rows import Row, choices_of, rows_of, same_fields
from syncportal.sync.screens.conflict_settled import settled_context
from syncportal.sync.screens.conflict_state import conflict_state, version_of
from syncportal.sync.screens.page import actor_of, list_query, render, with_back
from syncportal.sync.screens.record_page import zone_of
from syncportal.sync.screens.record_parts import people_to_assign
from syncportal.sync.states import Intent

PREVIEW = "preview"
_EDITS = ("record.edited", "record.created", "record.deleted")


def conflict_view(request: HttpRequest, conflict_id: int) -> HttpResponse:
    """Show a conflict, or carry out the decision on it."""
    conflict = visible_conflict(request, conflict_id)
    if request.method == "POST":
        if not rights.may_operate(request.user, conflict.record):
            raise PermissionDenied
        with timezone.override(zone_of(request)):
            return _decide(request, conflict)
    return page(request, conflict)


def visible_conflict(request: HttpRequest, conflict_id: int) -> Conflict:
    """Return a conflict with its record, or raise: 403 without the permission, 404 out of scope.

    The local side of an open one is what the record holds now.
    """
    if not (request.user.has_perm("sync.view_conflict") or rights.may_look(request.user)):
        raise PermissionDenied
    rows = Conflict.objects.visible_to(request.user)
    rows = rows.select_related("record__job", "record__owner", "resource__remote", "resolved_by")
    conflict = rows.filter(pk=conflict_id).first()
    if conflict is None:
        raise Http404("There is no such conflict, or it is not yours.")
    if conflict.state == Conflict.State.OPEN:
        conflict.local = conflict.record.data
    return conflict


def _decide(request: HttpRequest, conflict: Conflict) -> HttpResponse:
    spec, action = spec_for(conflict.resource), request.POST.get("action", "")
    if conflict.state != Conflict.State.OPEN:
        return _late(request, conflict, action)
    if action not in {*Action, PREVIEW}:
        messages.error(request, "Choose one of the three ways; nothing was changed.")
        return page(request, conflict, posted=request.POST, status=422)
    rows = rows_of(conflict, spec, local=conflict.local, posted=request.POST)
    chosen = choices_of(rows) if action in (Action.MERGE, PREVIEW) else {}
    if any(row.errors for row in rows):
        return page(request, conflict, rows=rows, posted=request.POST, previewed=action == PREVIEW, status=422)
    decision = _decision(request, Action.MERGE if action == PREVIEW else Action(action), chosen)
    try:
        if action == PREVIEW:
            resolve.rehearse(conflict.pk, decision)
            return page(request, conflict, rows=rows, posted=request.POST, previewed=True)
        status = resolve.resolve(conflict.pk, decision, actor=actor_of(request.user))
    except AlreadyResolved:
        return _late(request, visible_conflict(request, conflict.pk), action)
    except StaleView:
        fresh = visible_conflict(request, conflict.pk)
        return page(request, fresh, posted=request.POST, stale=True, status=409)
    except ImpossibleDecision as refusal:
        _note(request, refusal, rows)
        return page(request, conflict, rows=rows, posted=request.POST, status=422)
    done = conflict_words.done(conflict, conflict.record.intent, decision.action)
    messages.success(request, f"Resolved: {done}" + (" Syncing…" if status == "PENDING" else ""))
    return HttpResponseRedirect(_address(request, conflict))


def _decision(request: HttpRequest, action: Action, chosen: dict[str, Any]) -> Decision:
    revision, version = request.POST.get("revision", ""), request.POST.get("remote_version", "")
    return Decision(
        action=action,
        revision=int(revision) if revision.isdecimal() and len(revision) < 18 else -1,
        remote_version=version.removeprefix("=") if version.startswith("=") else None,
        fields=chosen,
    )


def _note(request: HttpRequest, refusal: ImpossibleDecision, rows: list[Row]) -> None:
    """Put what is wrong with a decision where it belongs: at its field, else above the page."""
    for problem in refusal.problems:
        at = problem.pointer
        row = next((row for row in rows if at == row.view.pointer or at.startswith(row.view.pointer + "/")), None)
        if row is not None:
            row.errors.append(problem.detail[:1].upper() + problem.detail[1:])
        else:
            messages.error(request, f"{at + ': ' if at else ''}{problem.detail} Nothing was changed.")


def _late(request: HttpRequest, conflict: Conflict, action: str) -> HttpResponse:
    """Answer a decision on a resolved conflict: one's own second click is no error, somebody else's is told."""
    if conflict.resolved_by_id == request.user.pk and conflict.resolution == action:
        return HttpResponseRedirect(_address(request, conflict))
    return page(request, conflict, already=True, status=409)


def _address(request: HttpRequest, conflict: Conflict) -> str:
    return with_back(reverse("admin:sync_conflict_change", args=[conflict.pk]), list_query(request))


def page(
    request: HttpRequest,
    conflict: Conflict,
    *,
    rows: list[Row] | None = None,
    posted: Mapping[str, Any] | None = None,
    stale: bool = False,
    already: bool = False,
    previewed: bool = False,
    status: int = 200,
) -> HttpResponse:
    """Answer with the page of a conflict as it stands."""
    spec, record = spec_for(conflict.resource), conflict.record
    rows = rows if rows is not None else rows_of(conflict, spec, local=conflict.local, posted=posted)
    is_open = conflict.state == Conflict.State.OPEN
    context = {
        **conflict_state(request, conflict),
        "rows": rows,
        "happened": conflict_words.what_happened(conflict, rows),
        "same": same_fields(conflict, spec),
        "sides": conflict_words.sides_of(conflict),
        "already": already,
        "back": list_query(request),
    }
    if is_open:
        context |= _open_context(request, conflict, rows, spec)
        context |= {"stale": stale, "previewed": previewed, "has_errors": any(row.errors for row in rows)}
    else:
        context |= settled_context(request, conflict, spec)
    title = f"Conflict: {record}"
    return render(request, "sync/conflict_page.html", title=title, context=context, status=status)


def _open_context(request: HttpRequest, conflict: Conflict, rows: list[Row], spec: ResourceSpec) -> dict[str, Any]:
    record = conflict.record
    can_decide = rights.may_operate(request.user, record)
    changed_at, changed_by = conflict_words.changed_there(conflict.remote)
    return {
        "use_remote": conflict_words.use_remote(conflict, record.intent, rows),
        "push_local": conflict_words.push_local(conflict, record.intent, rows),
        "can_decide": can_decide,
        "can_merge": conflict.remote is not None and record.intent != Intent.DELETE,
        "gone_remote": conflict.remote is None,
        "to_choose": sum(row.must_choose for row in rows),
        "revision": record.revision,
        "remote_version": version_of(conflict),
        "zone": timezone.get_current_timezone_name(),
        "last_edit": _last_edit(conflict),
        "changed_at": changed_at,
        "changed_by": changed_by,
        "held_by": holders.label_of(record.job.held_by),
        "holder_page": holders.page_of(record.job.held_by) if sees_everything(request.user) else "",
        "remote_seen_at": conflict.remote_seen_at or conflict.created_at,
        "can_hand_over": can_decide and conflict.escalated_at is None and not rights.operates(request.user),
        "can_assign": rights.operates(request.user),
        "people": people_to_assign(request.user),
    }


def _last_edit(conflict: Conflict) -> Event | None:
    edits = Event.objects.filter(record_id=conflict.record_id, kind__in=_EDITS)
    return edits.select_related("actor").order_by("-id").first()
