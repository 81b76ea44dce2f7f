"""One compensating task: what it restores, what happened, and the acts of an operator.

Guarantees: forcing needs a second look, made right now, and overwrites nothing but what that look showed; forcing and
closing need a reason; an act that came too late says so and changes nothing. No transaction is open during a look.
"""

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from rollback import looking, operate, visibility
from rollback.looking import Look
from rollback.models import CompensatingTask
from rollback.screens.fields import last_known, of_task
from rollback.screens.looks import group_badge, next_step, pace, reason_words, task_badge
from syncportal.kernel.clock import db_now
from syncportal.remote.spec import spec_for
from syncportal.sync import rights
from syncportal.sync.models import Conflict, Event, Record
from syncportal.sync.screens.page import actor_of, list_query, render
from syncportal.sync.screens.timeline import describe
from syncportal.sync.screens.values import shown


@require_GET
def task_view(request: HttpRequest, task_id: int) -> HttpResponse:
    """Show a task with what was last read."""
    return _page(request, _visible(request, task_id))


@require_POST
def look_view(request: HttpRequest, task_id: int) -> HttpResponse:
    """Show a task with what the remote holds right now, and the form that forces the restore."""
    task = _visible(request, task_id)
    if not visibility.may_operate(request.user):
        raise PermissionDenied
    return _page(request, task, look=looking.look_at(task.resource, task.occurrence_id))


@require_POST
def do_view(request: HttpRequest, task_id: int, verb: str) -> HttpResponse:
    """Carry out one act and go back to the task."""
    task = _visible(request, task_id)
    act = _VERBS.get(verb)
    if act is None:
        raise Http404("There is no such act.")
    if not visibility.may_operate(request.user):
        raise PermissionDenied
    try:
        messages.success(request, act(request, task))
    except operate.NotPossible as refused:
        messages.warning(request, f"Nothing was changed. {refused}")
    except operate.StaleLook as stale:
        return _page(request, _visible(request, task_id), look=stale.look, stale=True, status=409)
    return HttpResponseRedirect(reverse("admin:rollback_compensatingtask_change", args=[task.pk]))


def _retry(request: HttpRequest, task: CompensatingTask) -> str:
    operate.retry_now(task.pk, actor=actor_of(request.user), why=request.POST.get("why", ""))
    return "It is due now, with all its attempts. A worker takes it in a moment."


def _force(request: HttpRequest, task: CompensatingTask) -> str:
    operate.force_restore(
        task.pk, seal=request.POST.get("seal", ""), why=request.POST.get("why", ""), actor=actor_of(request.user)
    )
    return "The restore is due now. If the object changes once more before that, you are asked again."


def _close(request: HttpRequest, task: CompensatingTask) -> str:
    look = operate.close(task.pk, why=request.POST.get("why", ""), actor=actor_of(request.user))
    if look.gone:
        return "Closed. The object no longer exists; the record finds that out by itself and asks its owner what to do."
    if look.shown is None:
        return "Closed. The object could not be read, so the record finds out by itself what the remote holds."
    return "Closed. The record was given back as the remote shows it now."


_VERBS: dict[str, Callable[[HttpRequest, CompensatingTask], str]] = {
    "retry": _retry, "force": _force, "close": _close,
}  # fmt: skip


def _visible(request: HttpRequest, task_id: int) -> CompensatingTask:
    if not rights.may_look(request.user):
        raise PermissionDenied
    rows = visibility.tasks_of(request.user).select_related("step__group__request", "record", "resource__remote")
    task = rows.filter(pk=task_id).first()
    if task is None:
        raise Http404("There is no such task, or it is not yours.")
    return task


def _page(
    request: HttpRequest, task: CompensatingTask, *, look: Look | None = None, stale: bool = False, status: int = 200
) -> HttpResponse:
    spec = spec_for(task.resource)
    error = task.last_error if isinstance(task.last_error, dict) else {}
    operator = visibility.may_operate(request.user)
    conflict = Conflict.objects.open().filter(record_id=task.record_id, reason=Conflict.Reason.UNDO_CONFLICT).first()
    current = last_known(task.step, task=task, undo_conflict=conflict)
    sentence, who_acts = next_step(task)
    told = Event.objects.filter(record_id=task.record_id, data__task=str(task.task_id)).select_related("actor")
    context = {
        "task": task,
        "group": task.step.group,
        "badge": task_badge(task),
        "group_badge": group_badge(task.step.group.status),
        "reason": reason_words(task),
        "next_step": sentence,
        "who_acts": who_acts,
        "poll_s": pace([task], now=db_now()) if look is None else 0,
        "here": reverse("admin:rollback_compensatingtask_change", args=[task.pk]),
        "fields": of_task(task, spec=spec, look=look, current=current),
        "look": look,
        "looked_at": db_now() if look is not None else None,
        "stale": stale,
        "why": request.POST.get("why", "") if stale else "",
        "error": error,
        "error_detail": shown(str(error.get("detail") or "")),
        "sees_record": Record.objects.visible_to(request.user).filter(pk=task.record_id).exists(),
        "conflict": conflict if conflict and conflict in Conflict.objects.visible_to(request.user) else None,
        "history": [describe(row) for row in told.order_by("-id")[:20]],
        "operator": operator,
        "why_no_retry": operate.why_no_retry(task),
        "why_no_act": operate.why_no_act(task),
        "now": db_now(),
        "back": list_query(request),
    }
    title = f"Undo of {task.occurrence_id}"
    return render(request, "rollback/task_page.html", title=title, context=context, status=status)
