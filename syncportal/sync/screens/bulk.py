"""Bulk operations on screen: from the rows chosen in a list to a preview, then progress and what became of each row.

Owns: the pages of one operation. Guarantees: the ids are frozen when the preview is made, so a moving filter or another
tab never widens an act; a second click starts nothing twice; only the person who asked and operations see an operation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from syncportal.bulk import journal, work
from syncportal.bulk.acts import MOST, Act, Cause, Target, UnknownAct, Wait, act_of, preview_of
from syncportal.bulk.journal import NewOperation
from syncportal.bulk.models import BulkOperation, BulkRow
from syncportal.bulk.states import RowState, State
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.sync import rights
from syncportal.sync.screens.page import fragment, render, to_list

INLINE_S = 1.0
STILL = timedelta(minutes=1)
_PAGE = 100
_FILTERS = {
    "": ("All", ()), "done": ("Done", (RowState.DONE,)), "left-out": ("Left out", (RowState.SKIPPED,)),
    "failed": ("Failed", (RowState.FAILED,)), "open": ("Not yet", (RowState.WAITING, RowState.HANDED_OVER)),
}  # fmt: skip


def prepare(
    request: HttpRequest,
    act: Act,
    chosen: QuerySet[Any],
    *,
    back: str,
    ramp: bool = False,
    parameters: dict[str, Any] | None = None,
) -> HttpResponse:
    """Freeze the chosen rows, and what `parameters` say of them, and send the person to the preview."""
    if not act.may(request.user):
        raise PermissionDenied
    ids = list(chosen.order_by("pk").values_list("pk", flat=True)[: MOST + 1])
    if len(ids) > MOST:
        messages.error(
            request, f"More than {MOST:,} {act.nouns[1]} are chosen. Narrow the filter; nothing was changed."
        )
        return to_list(act.home, back)
    new = NewOperation(
        act=act.name, target_ids=ids, user_id=request.user.pk, user_label=request.user.get_username(), ramp=ramp,
        back=back, parameters=parameters or {},
    )  # fmt: skip
    operation = atomic_retry(lambda: journal.prepare(new, now=db_now()))
    return HttpResponseRedirect(_address(operation.pk))


@require_GET
def operation_view(request: HttpRequest, operation_id: int) -> HttpResponse:
    """Show an operation: its preview before it starts, then its progress and its rows."""
    operation, act = _operation(request, operation_id)
    if operation.state == State.DRAFT:
        return _preview_page(request, operation, act, _form(act, None))
    context = _progress(operation, act) | _rows(request, operation, act)
    return render(request, "bulk/operation.html", title=act.label, context=context)


@require_GET
def progress_view(request: HttpRequest, operation_id: int) -> HttpResponse:
    """Answer with how far an operation is, and with its rows once it has ended."""
    operation, act = _operation(request, operation_id)
    context = _progress(operation, act)
    if operation.state != State.RUNNING:
        context |= _rows(request, operation, act) | {"oob": True}
    return fragment(request, "bulk/_progress.html", context)


@require_POST
def start_view(request: HttpRequest, operation_id: int) -> HttpResponse:
    """Start a previewed operation; one that is done at once answers on the list that the person came from."""
    operation, act = _operation(request, operation_id, own=True)
    if not act.may(request.user):
        raise PermissionDenied
    form = _form(act, request.POST)
    if form is not None and not form.is_valid():
        return _preview_page(request, operation, act, form, status=422)
    parameters = form.parameters if form is not None else operation.parameters
    if not work.begin(operation.pk, parameters=parameters):
        messages.info(request, "This was started already; here is how it went.")
        return HttpResponseRedirect(_address(operation.pk))
    work.run(operation.pk, seconds=INLINE_S)
    operation.refresh_from_db()
    if operation.state != State.DONE:
        return HttpResponseRedirect(_address(operation.pk))
    level = messages.SUCCESS if operation.done else messages.WARNING
    messages.add_message(request, level, f"{sentence(operation, act)}.")
    return to_list(act.home, operation.back)


@require_POST
def act_view(request: HttpRequest, operation_id: int, verb: str) -> HttpResponse:
    """Cancel an operation, or let a stopped ramp go on."""
    operation, act = _operation(request, operation_id, own=verb == "go-on")
    if verb == "cancel":
        drafted = operation.state == State.DRAFT
        ended = work.cancel(operation.pk, by=request.user.get_username())
        if drafted:
            return to_list(act.home, operation.back)
        messages.info(request, "Cancelled. What was done stays done." if ended else "It had ended before.")
    elif verb == "go-on":
        if not act.may(request.user):
            raise PermissionDenied
        if not work.go_on(operation.pk):
            messages.info(request, "It is not stopped any more.")
    else:
        raise Http404("There is no such act.")
    return HttpResponseRedirect(_address(operation.pk))


def sentence(operation: BulkOperation, act: Act) -> str:
    """Return "180 requeued, 12 skipped: 9 processing, 3 synced"."""
    text = f"{operation.done:,} {act.done}"
    if operation.failed:
        text += f", {operation.failed:,} failed"
    if not operation.skipped:
        return text
    whys = reasons(operation)
    return f"{text}, {operation.skipped:,} skipped: " + ", ".join(f"{count:,} {why}" for why, count in whys)


def reasons(operation: BulkOperation) -> list[tuple[str, int]]:
    """Return why rows were left out or failed, with their numbers, the most frequent first."""
    return journal.outcomes(operation, states=[RowState.SKIPPED, RowState.FAILED])


def _address(operation_id: int) -> str:
    return reverse("admin:bulk_bulkoperation_change", args=[operation_id])


def _operation(request: HttpRequest, operation_id: int, *, own: bool = False) -> tuple[BulkOperation, Act]:
    operation = rights.visible_operations(request.user).filter(pk=operation_id).first()
    if operation is None:
        raise Http404("There is no such operation, or it is not yours.")
    if own and operation.user_id != request.user.pk:
        raise PermissionDenied
    try:
        return operation, act_of(operation.act)
    except UnknownAct:
        raise Http404("This version does not know that act any more.") from None


def _form(act: Act, given: Any) -> Any:
    return act.form(given) if act.form is not None else None


def _preview_page(
    request: HttpRequest, operation: BulkOperation, act: Act, form: forms.Form | None, *, status: int = 200
) -> HttpResponse:
    ids = list(operation.rows.values_list("target_id", flat=True))
    shown = preview_of(act, ids, user=request.user, parameters=operation.parameters)
    context = {
        "operation": operation, "act": act, "preview": shown, "form": form, "home": reverse(act.home),
        "noun": act.nouns[shown.taken != 1], "own": operation.user_id == request.user.pk,
        "waits": act.waits(ids) if act.waits is not None else (),
    }  # fmt: skip
    return render(request, "bulk/preview.html", title=act.label, context=context, status=status)


def _progress(operation: BulkOperation, act: Act) -> dict[str, Any]:
    total = max(1, operation.total)
    return {
        "operation": operation, "act": act, "home": reverse(act.home), "percent": 100 * operation.settled // total,
        "reasons": reasons(operation), "running": operation.state == State.RUNNING,
        "noun": act.nouns[operation.total != 1], "causes": _causes(operation, act),
        "step": operation.allowed if operation.ramp and operation.state == State.RUNNING else None,
        "waits": _waits(operation, act), "still_since": _still_since(operation),
    }  # fmt: skip


def _waits(operation: BulkOperation, act: Act) -> Sequence[Wait]:
    """Return what rows under way wait for, where the act can tell."""
    if act.waits is None or operation.state != State.RUNNING or not operation.handed_over:
        return ()
    return act.waits([row.target_id for row in journal.handed_over(operation, limit=work.WATCHED)])


def _still_since(operation: BulkOperation) -> datetime | None:
    """Return since when no worker has looked at an operation that runs; None while one does."""
    seen_at = operation.progress_at if operation.state == State.RUNNING else None
    return seen_at if seen_at is not None and seen_at < db_now() - STILL else None


def _causes(operation: BulkOperation, act: Act) -> Sequence[Cause]:
    """Return why rows failed, where the act can tell."""
    if act.causes is None or not operation.failed:
        return ()
    return act.causes(journal.failed_targets(operation), operation.parameters)


@dataclass(frozen=True, slots=True)
class Line:
    """One row of an operation as its page shows it."""

    row: BulkRow
    target: Target


def _rows(request: HttpRequest, operation: BulkOperation, act: Act) -> dict[str, Any]:
    """Return a page of rows with their names, and the filters over them."""
    chosen = request.GET.get("rows", "")
    chosen = chosen if chosen in _FILTERS else ""
    states, rows = _FILTERS[chosen][1], operation.rows.all()
    paginator = Paginator(rows.filter(state__in=states) if states else rows, _PAGE)
    page = paginator.get_page(request.GET.get("page"))
    listed = list(page.object_list)
    called = act.targets([row.target_id for row in listed])
    lines = [Line(row, called.get(row.target_id, Target(f"#{row.target_id}"))) for row in listed]
    filters = [(key, label) for key, (label, _) in _FILTERS.items()]
    return {"lines": lines, "page": page, "chosen": chosen, "filters": filters}
