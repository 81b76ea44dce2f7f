"""One group: its steps in order with before, applied and current values, its tasks, and sending it again.

Guarantees: a fresh look is asked for by a button and never stored; a second click on "send again" has no second effect.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from rollback import accept, answers, holding, looking, operate, plan, visibility
from rollback.looking import Look
from rollback.models import CompensatingTask, Group, Step
from rollback.screens.fields import FieldRow, last_known, of_step
from rollback.screens.looks import SENTENCES, group_badge, next_step, pace, step_badge, task_badge
from rollback.states import GroupStatus, StepStatus
from syncportal.kernel.clock import db_now
from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.spec import spec_for
from syncportal.sync import rights
from syncportal.sync.models import Conflict, Record
from syncportal.sync.screens.page import actor_of, list_query, render
from syncportal.sync.screens.values import Shown, shown

MOST_LOOKS = 50
_NOT_APPLIED = frozenset({StepStatus.PLANNED, StepStatus.UNTOUCHED, StepStatus.FAILED})


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A compensating task in one line."""

    row: CompensatingTask
    badge: SafeString
    next_step: str
    error: Shown
    conflict_id: int | None


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step as the page shows it. current: where the third column comes from."""

    number: int
    row: Step
    badge: SafeString
    fields: list[FieldRow]
    current: str
    problem: str
    error: Shown
    not_applied: bool
    record_id: int | None
    task: TaskLine | None


@require_GET
def group_view(request: HttpRequest, group_id: int) -> HttpResponse:
    """Show a group with what was last read; a page that watched an older status is told to load itself anew."""
    group = _visible(request, group_id)
    answer = _page(request, group)
    if request.GET.get("seen", group.status) != group.status and request.headers.get("HX-Request"):
        answer["HX-Refresh"] = "true"
    return answer


@require_POST
def look_view(request: HttpRequest, group_id: int) -> HttpResponse:
    """Show a group with what the remote holds right now."""
    group = _visible(request, group_id)
    if not visibility.may_send(request.user):
        raise PermissionDenied
    steps = list(group.steps.select_related("resource__remote").order_by("position")[:MOST_LOOKS])
    looks = looking.look_at_many({step.pk: (step.resource, step.occurrence_id) for step in steps})
    return _page(request, group, looks=looks)


@require_POST
def again_view(request: HttpRequest, group_id: int) -> HttpResponse:
    """Send the group's changes again as a new group."""
    group = _visible(request, group_id)
    if not visibility.may_operate(request.user):
        raise PermissionDenied
    here = HttpResponseRedirect(reverse("admin:rollback_group_change", args=[group.pk]))
    token = request.POST.get("request_id", "")
    try:
        request_id = f"again-{uuid.UUID(token)}"
    except ValueError:
        messages.error(request, "Nothing was sent: open the page again.")
        return here
    why, actor = request.POST.get("why", ""), actor_of(request.user)
    try:
        performed = operate.send_again(group.pk, request_id=request_id, why=why, actor=actor)
    except (operate.NotPossible, accept.RemoteUnavailable, holding.RecordBusy) as refused:
        messages.warning(request, f"Nothing was sent. {refused}")
        return here
    except accept.StillRunning:
        messages.info(request, "It is being sent right now; look again in a moment.")
        return here
    except plan.InvalidPlan as refused:
        messages.error(request, "Nothing was sent. " + " ".join(found.detail for found in refused.problems[:5]))
        return here
    except (Misconfiguration, RemoteError) as refused:
        messages.error(request, f"Nothing was sent: a remote cannot be called. {refused.detail}")
        return here
    made = performed.request
    if made is None:
        return here
    new = made.groups.get()
    outcome = answers.top_status([new.status])
    messages.add_message(
        request, messages.SUCCESS if outcome == "applied" else messages.WARNING, f"Sent again. {SENTENCES[new.status]}"
    )
    return HttpResponseRedirect(reverse("admin:rollback_group_change", args=[new.pk]))


def _visible(request: HttpRequest, group_id: int) -> Group:
    if not rights.may_look(request.user):
        raise PermissionDenied
    rows = Group.objects.filter(request__in=visibility.requests_of(request.user)).select_related("request__user")
    group = rows.filter(pk=group_id).first()
    if group is None:
        raise Http404("There is no such group, or it is not yours.")
    return group


def _page(request: HttpRequest, group: Group, *, looks: dict[int, Look] | None = None) -> HttpResponse:
    steps = list(group.steps.select_related("resource__remote", "record", "task").order_by("position"))
    seen = set(
        Record.objects.visible_to(request.user)
        .filter(pk__in=[step.record_id for step in steps if step.record_id])
        .values_list("pk", flat=True)
    )
    conflicts = {
        row.record_id: row
        for row in Conflict.objects.open().filter(
            record_id__in=[step.record_id for step in steps if step.record_id], reason=Conflict.Reason.UNDO_CONFLICT
        )
    }
    rows = [
        _row(step, looks=looks, linked=step.record_id in seen, conflict=conflicts.get(step.record_id or 0))
        for step in steps
    ]
    tasks = [row.task.row for row in rows if row.task is not None]
    operator = visibility.may_operate(request.user)
    error = group.error if isinstance(group.error, dict) else {}
    rolled_back = answers.rolled_back(group.status)
    context = {
        "group": group,
        "sent": group.request,
        "who": group.request.actor_label or group.request.user.get_username(),
        "badge": group_badge(group.status),
        "sentence": SENTENCES[group.status],
        "rolled_back": {None: "–", True: "yes", False: "no, not everything"}[rolled_back],
        "steps": rows,
        "tasks": [row for row in rows if row.task is not None],
        "error": error,
        "error_detail": shown(str(error.get("detail") or "")),
        "others": list(group.request.groups.exclude(pk=group.pk).order_by("position")[:50]),
        "looked_at": db_now() if looks is not None else None,
        "looked_at_all": len(steps) <= MOST_LOOKS,
        "most_looks": MOST_LOOKS,
        "can_look": visibility.may_send(request.user),
        "who_acts": _who_acts(group, tasks),
        "poll_s": 0 if looks is not None else 2 if group.status == GroupStatus.RUNNING else pace(tasks, now=db_now()),
        "here": reverse("admin:rollback_group_change", args=[group.pk]),
        "operator": operator,
        "why_not_again": operate.why_not_again(group),
        "token": uuid.uuid4(),
        "back": list_query(request),
    }
    return render(request, "rollback/group_page.html", title=f"Group {group.group_id}", context=context)


def _who_acts(group: Group, tasks: list[CompensatingTask]) -> str:
    if group.status in {GroupStatus.RUNNING, GroupStatus.COMPENSATING}:
        return "Nobody; it goes on by itself"
    people = {next_step(task)[1] for task in tasks} - {"Nobody"}
    return " · ".join(sorted(people)) or "Nobody"


def _row(step: Step, *, looks: dict[int, Look] | None, linked: bool, conflict: Conflict | None) -> StepRow:
    spec = spec_for(step.resource)
    look = (looks or {}).get(step.pk)
    task: CompensatingTask | None = getattr(step, "task", None)
    current, source, problem = None, "", ""
    if look is not None and look.shown is not None:
        current, source = look.shown.data, "Remote now"
    else:
        current, source = last_known(step, task=task, undo_conflict=conflict), "Last read"
    if look is not None and look.shown is None:
        problem = f"It could not be read now. {look.problem}"
    error = step.error if isinstance(step.error, dict) else {}
    return StepRow(
        number=step.position + 1,
        row=step,
        badge=step_badge(step.status, task=task),
        fields=of_step(step, spec=spec, current=current),
        current=source,
        problem=problem,
        error=shown(str(error.get("detail") or "")),
        not_applied=step.status in _NOT_APPLIED,
        record_id=step.record_id if linked else None,
        task=_task_line(task, conflict if linked else None) if task is not None else None,
    )


def _task_line(task: CompensatingTask, conflict: Conflict | None) -> TaskLine:
    error: dict[str, Any] = task.last_error if isinstance(task.last_error, dict) else {}
    words = shown(str(error.get("detail") or ""))
    return TaskLine(task, task_badge(task), next_step(task)[0], words, conflict.pk if conflict is not None else None)
