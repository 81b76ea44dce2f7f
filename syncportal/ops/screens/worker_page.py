"""Workers and the timetable on one page: who works where, how its pool does, and whether the duties ran.

Owns: this page. Guarantees: judged by the database's time, so it also tells when no worker runs. Does not: start or
stop workers; whoever runs the machines does.
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

from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.ops import duties, heartbeat
from syncportal.ops.duties import DUTIES, DutySpec
from syncportal.ops.models import Duty, Heartbeat, WorkerState
from syncportal.ops.screens.connection_badges import badge
from syncportal.sync.querysets import sees_everything
from syncportal.sync.screens.page import render

OPERATE = "sync.operate_records"
_LOOKS = {
    WorkerState.STARTING: ("info", "clock"), WorkerState.RUNNING: ("success", "check"),
    WorkerState.RESTARTING: ("warning", "retry"), WorkerState.STOPPING: ("warning", "pause"),
    WorkerState.STOPPED: ("neutral", "stop"),
}  # fmt: skip


class WorkerAdmin(ModelAdmin):
    """Workers: the address of their page."""

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(show), name="ops_heartbeat_changelist"),
            path("run/<slug:name>/", wrap(run), name="ops_duty_run"),
        ]


@dataclass(frozen=True, slots=True)
class Line:
    """One duty of the timetable. next_at: None when it never ran."""

    spec: DutySpec
    state: SafeString
    row: Duty | None
    next_at: datetime | None


def show(request: HttpRequest) -> HttpResponse:
    """Show workers and timetable."""
    if not sees_everything(request.user):
        raise PermissionDenied
    now = db_now()
    rows = Heartbeat.objects.filter(beat_at__gt=now - heartbeat.KEPT).order_by("host", "pid")
    workers = [{"row": row, "state": _state(row, now), "members": row.info.get("workers")} for row in rows]
    workers.sort(key=lambda worker: not heartbeat.beats(worker["row"], now))
    context: dict[str, Any] = {
        "workers": workers, "alive": heartbeat.alive(now), "now": now, "timetable": _timetable(now),
        "can_run": request.user.has_perm(OPERATE), "last": max((row.beat_at for row in rows), default=None),
    }  # fmt: skip
    return render(request, "ops/worker_page.html", title="Workers", context=context)


def _state(row: Heartbeat, now: datetime) -> SafeString:
    if row.state != WorkerState.STOPPED and not heartbeat.beats(row, now):
        return badge("error", "cross", "Silent")
    tone, icon = _LOOKS[WorkerState(row.state)]
    return badge(tone, icon, str(row.get_state_display()))


def _timetable(now: datetime) -> list[Line]:
    rows, late = Duty.objects.in_bulk(), duties.overdue(now)
    return [_line(spec, rows.get(spec.name), late=spec.name in late, now=now) for spec in DUTIES]


def _line(spec: DutySpec, row: Duty | None, *, late: bool, now: datetime) -> Line:
    if row is None or row.last_started_at is None:
        return Line(spec, badge("neutral", "clock", "Never ran"), None, None)
    next_at = row.last_started_at + timedelta(seconds=spec.every_s)
    if row.lease_until is not None and row.lease_until > now:
        return Line(spec, badge("info", "sync", "Running"), row, next_at)
    if not row.last_ok:
        return Line(spec, badge("error", "cross", "Failed"), row, next_at)
    if late:
        return Line(spec, badge("warning", "alert", "Late"), row, next_at)
    return Line(spec, badge("success", "check", "Done"), row, next_at)


@require_POST
def run(request: HttpRequest, name: str) -> HttpResponse:
    """Ask a worker to run one duty now."""
    if not request.user.has_perm(OPERATE):
        raise PermissionDenied
    if name not in {spec.name for spec in DUTIES}:
        raise Http404("There is no such duty.")
    if doorbell.ring(duties.RUN, name):
        messages.success(request, f"A worker was asked to run “{name}” now.")
    else:
        messages.info(request, "Enough work waits for a worker already; try again when one is free.")
    return HttpResponseRedirect(reverse("admin:ops_heartbeat_changelist"))
