"""One run: live progress, what it counted, what it repaired or plans, and its differences as a file."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import reverse
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from reconciliation import reports, runs, summary
from reconciliation.models import Discrepancy, Run
from reconciliation.runs import NotPossible
from reconciliation.screens.looks import KIND_SENTENCES, run_badge
from reconciliation.states import Direction, Kind, RunState, Scope
from syncportal.sync import rights
from syncportal.sync.models import Record
from syncportal.sync.screens.page import actor_of, fragment, render


@require_GET
def run_view(request: HttpRequest, run_id: int) -> HttpResponse:
    """Show a run."""
    run = _visible(request, run_id)
    title = f"{run.resource}: {'dry run' if run.dry_run else 'run'} #{run.pk}"
    return render(request, "reconciliation/run_page.html", title=title, context=_context(request, run))


@require_GET
def progress_view(request: HttpRequest, run_id: int) -> HttpResponse:
    """Answer with how far a run is."""
    return fragment(request, "reconciliation/_run.html", _context(request, _visible(request, run_id)))


@require_POST
def apply_view(request: HttpRequest, run_id: int) -> HttpResponse:
    """Have exactly the repairs that a dry run planned carried out."""
    run = _visible(request, run_id)
    if not rights.operates(request.user):
        raise PermissionDenied
    try:
        asked = runs.apply_plan(run.pk, actor=actor_of(request.user))
    except NotPossible as refused:
        messages.error(request, f"Nothing was changed. {refused}")
    else:
        repairs = ngettext("repair was", "repairs were", asked)
        messages.success(request, f"{asked:,} {repairs} asked for. Each is made only if both sides have not moved.")
    return HttpResponseRedirect(reverse("admin:reconciliation_run_change", args=[run.pk]))


@require_POST
def cancel_view(request: HttpRequest, run_id: int) -> HttpResponse:
    """End a running run early."""
    run = _visible(request, run_id)
    if not rights.operates(request.user):
        raise PermissionDenied
    try:
        runs.cancel(run.pk, actor=actor_of(request.user))
    except NotPossible as refused:
        messages.info(request, f"Nothing was changed. {refused}")
    else:
        messages.success(request, "Cancelled. What the run found and repaired until now stays.")
    return HttpResponseRedirect(reverse("admin:reconciliation_run_change", args=[run.pk]))


@require_GET
def csv_view(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """Answer with the run's differences as a CSV file."""
    run = _visible(request, run_id)
    rows = Discrepancy.objects.filter(run=run).select_related("resource").order_by("pk").iterator(chunk_size=500)
    response = StreamingHttpResponse(summary.csv_lines(rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="discrepancies-run-{run.pk}.csv"'
    return response


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _visible(request: HttpRequest, run_id: int) -> Run:
    if not rights.may_look(request.user):
        raise PermissionDenied
    rows = Run.objects.visible_to(request.user).select_related("resource__remote", "started_by", "applied_by")
    run = rows.defer("cursor", "record_ids").filter(pk=run_id).first()
    if run is None:
        raise Http404("There is no such run, or you may not see it.")
    return run


def _only(run: Run) -> Record | None:
    """Return the record of a run that compares no other."""
    if run.scope != Scope.SELECTION or run.expected != 1:
        return None
    return Record.objects.filter(pk__in=run.record_ids).defer("data", "base").first()


def _context(request: HttpRequest, run: Run) -> dict[str, Any]:
    refusal = runs.refusal_to_apply(run)
    plan = runs.plan_of(run) if run.dry_run and run.state == RunState.FINISHED else {}
    running = run.state == RunState.RUNNING
    return {
        "run": run,
        "badge": run_badge(run),
        "only": _only(run),
        "running": running,
        "percent": reports.percent_done(run),
        "kinds": [
            (kind, Kind(kind).label, KIND_SENTENCES[kind], number) for kind, number in reports.counts(run).items()
        ],
        "differing": reports.differing(run),
        "listed": Discrepancy.objects.filter(run=run).count(),
        "duration": duration(reports.duration_s(run)),
        "rows_per_s": reports.rows_per_s(run),
        "plan": [(Direction(direction).label, number) for direction, number in sorted(plan.items())],
        "planned": sum(plan.values()),
        "no_longer_planned": max(0, run.planned - sum(plan.values())) if refusal is None else 0,
        "why_not_apply": str(refusal) if refusal is not None and run.dry_run else "",
        "operator": rights.operates(request.user),
        "may_repeat": run.state in (RunState.FAILED, RunState.BRAKED, RunState.CANCELLED)
        and run.scope == Scope.ALL
        and rights.operates(request.user),
        "address": reverse("admin:reconciliation_run_progress", args=[run.pk]),
    }
