"""The timetable on one page: every duty and every scheduled comparison, its last run, its next, and the buttons.

Owns: this page. Guarantees: running, pausing and resuming need the right to operate and stand in the history with who
did it; a pause needs a reason. Judged by the database's time. Does not: keep time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from reconciliation import runs, timetable
from reconciliation.journal import AlreadyRunning
from reconciliation.states import RunState
from syncportal.kernel.clock import db_now
from syncportal.ops import duties, heartbeat
from syncportal.ops.duties import DUTIES, DutySpec
from syncportal.ops.models import Duty
from syncportal.ops.screens.connection_badges import badge
from syncportal.ops.screens.cron_words import in_words
from syncportal.sync.querysets import sees_everything
from syncportal.sync.screens.page import actor_of, render

OPERATE = "sync.operate_records"
_LIST = "admin:ops_duty_changelist"


class DutyAdmin(ModelAdmin):
    """The timetable: its addresses."""

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(show), name="ops_duty_changelist"),
            path("<slug:name>/run/", wrap(run), name="ops_duty_run"),
            path("<slug:name>/pause/", wrap(pause), name="ops_duty_pause"),
            path("<slug:name>/resume/", wrap(resume), name="ops_duty_resume"),
        ]


@dataclass(frozen=True, slots=True)
class Shown:
    """One line as it is shown. `row` carries the pause; next_at None: nothing by itself; cron: its schedule, if any."""

    name: str
    title: str
    says: str
    every: str
    state: SafeString
    row: Duty | None
    last_at: datetime | None = None
    took_ms: int | None = None
    result: str = ""
    failures: int = 0
    next_at: datetime | None = None
    more: str = ""
    cron: str = ""


def show(request: HttpRequest) -> HttpResponse:
    """Show the timetable."""
    if not sees_everything(request.user):
        raise PermissionDenied
    now = db_now()
    rows, late = Duty.objects.in_bulk(), duties.overdue(now)
    context: dict[str, Any] = {
        "now": now, "alive": heartbeat.alive(now), "can_act": request.user.has_perm(OPERATE),
        "sections": [
            ("Comparisons", [_comparison(line, rows.get(line.name), now=now) for line in timetable.lines(now)]),
            ("Duties", [_duty(spec, rows.get(spec.name), late=spec.name in late, now=now) for spec in DUTIES]),
        ],
    }  # fmt: skip
    return render(request, "ops/timetable_page.html", title="Timetable", context=context)


def _duty(spec: DutySpec, row: Duty | None, *, late: bool, now: datetime) -> Shown:
    state, next_at = _duty_state(row, late=late, now=now), None
    if row is None or row.last_started_at is None:
        return Shown(spec.name, spec.name, spec.says, _every(spec.every_s), state, row)
    if row.paused_at is None:
        next_at = row.last_started_at + timedelta(seconds=spec.every_s)
    return Shown(
        spec.name, spec.name, spec.says, _every(spec.every_s), state, row, last_at=row.last_started_at,
        took_ms=row.last_duration_ms, result=row.last_result, failures=row.failures, next_at=next_at,
    )  # fmt: skip


def _duty_state(row: Duty | None, *, late: bool, now: datetime) -> SafeString:
    if row is not None and row.paused_at is not None:
        return badge("warning", "pause", "Paused")
    if row is None or row.last_started_at is None:
        return badge("neutral", "clock", "Never ran")
    if row.lease_until is not None and row.lease_until > now:
        return badge("info", "sync", "Running")
    if not row.last_ok:
        return badge("error", "cross", "Failed")
    return badge("warning", "alert", "Late") if late else badge("success", "check", "Done")


_RUN_LOOKS = {
    RunState.RUNNING: ("info", "sync"), RunState.FINISHED: ("success", "check"), RunState.BRAKED: ("warning", "alert"),
    RunState.FAILED: ("error", "cross"),
}  # fmt: skip


def _comparison(line: timetable.Line, row: Duty | None, *, now: datetime) -> Shown:
    last, paused = line.last, row is not None and row.paused_at is not None
    if paused:
        state = badge("warning", "pause", "Paused")
    elif last is None:
        state = badge("neutral", "clock", "Never ran" if line.cron else "No schedule")
    else:
        state = badge(*_RUN_LOOKS[RunState(last.state)], str(last.get_state_display()))
    title = "Daily sample" if line.resource is None else str(line.resource)
    says = (
        "Reads some records reported synced, of every resource."
        if line.resource is None
        else "Compares both sides completely."
    )
    took = (last.finished_at - last.started_at) if last is not None and last.finished_at is not None else None
    return Shown(
        line.name, title, says, in_words(line.cron) if line.cron else "", state, row,
        last_at=last.started_at if last else None,
        took_ms=round(took.total_seconds() * 1000) if took is not None else None,
        result=f"{last.checked} compared, {last.checked - last.matched - last.busy} differ" if last else "",
        next_at=None if paused else line.next_at,
        more=reverse("admin:reconciliation_run_change", args=[last.pk]) if last else "", cron=line.cron,
    )  # fmt: skip


def _every(seconds: int) -> str:
    minutes = seconds // 60
    if minutes % 60 == 0:
        return "every hour" if minutes == 60 else f"every {minutes // 60} hours"
    return "every minute" if minutes == 1 else f"every {minutes} minutes"


@require_POST
def run(request: HttpRequest, name: str) -> HttpResponse:
    """Do one line now."""
    line = _asked(request, name)
    actor, now = actor_of(request.user), db_now()
    if name in duties.paused_names():
        messages.warning(request, f"“{_title(line)}” is paused; resume it first.")
    elif isinstance(line, DutySpec):
        if duties.ask_for(name, actor=actor, now=now):
            messages.success(request, f"A worker was asked to run “{name}” now.")
        else:
            messages.info(request, "Enough work waits for a worker already; try again when one is free.")
    elif line.resource is None:
        begun = timetable.start_samples(actor=actor)
        messages.success(request, f"{len(begun)} samples were begun; resources being compared are left out.")
    else:
        try:
            begun_run = runs.start(line.resource, actor=actor)
        except (AlreadyRunning, runs.NotPossible) as why:
            messages.info(request, str(why))
        else:
            return HttpResponseRedirect(reverse("admin:reconciliation_run_change", args=[begun_run.pk]))
    return HttpResponseRedirect(reverse(_LIST))


@require_POST
def pause(request: HttpRequest, name: str) -> HttpResponse:
    """Let one line rest; needs a reason."""
    line, reason = _asked(request, name), request.POST.get("reason", "").strip()
    if not reason:
        messages.error(request, "Nothing was paused: please say why, others will ask.")
    elif duties.pause(name, reason=reason, actor=actor_of(request.user), now=db_now()):
        messages.success(request, f"“{_title(line)}” is paused until somebody resumes it. No alert is raised for it.")
    else:
        messages.info(request, f"“{_title(line)}” was paused already.")
    return HttpResponseRedirect(reverse(_LIST))


@require_POST
def resume(request: HttpRequest, name: str) -> HttpResponse:
    """Let one line go on."""
    line = _asked(request, name)
    if duties.resume(name, actor=actor_of(request.user), now=db_now()):
        messages.success(request, f"“{_title(line)}” goes on; what it missed is made up for once.")
    else:
        messages.info(request, f"“{_title(line)}” was not paused.")
    return HttpResponseRedirect(reverse(_LIST))


def _asked(request: HttpRequest, name: str) -> DutySpec | timetable.Line:
    if not request.user.has_perm(OPERATE):
        raise PermissionDenied
    lines: dict[str, DutySpec | timetable.Line] = {spec.name: spec for spec in DUTIES}
    found = lines.get(name) or {line.name: line for line in timetable.lines(db_now())}.get(name)
    if found is None:
        raise Http404("There is no such line in the timetable.")
    return found


def _title(line: DutySpec | timetable.Line) -> str:
    if isinstance(line, DutySpec):
        return line.name
    return "Daily sample" if line.resource is None else str(line.resource)
