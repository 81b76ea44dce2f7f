"""Workers: who works where, and how its pool does.

Owns: this page. Guarantees: judged by the database's time, so it also tells when no worker runs. Does not: start or
stop workers; whoever runs the machines does.
"""

from datetime import datetime
from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from syncportal.kernel.clock import db_now
from syncportal.ops import heartbeat
from syncportal.ops.models import Heartbeat, WorkerState
from syncportal.ops.screens.connection_badges import badge
from syncportal.sync.querysets import sees_everything
from syncportal.sync.screens.page import render

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
        return [path("", wrap(show), name="ops_heartbeat_changelist")]


def show(request: HttpRequest) -> HttpResponse:
    """Show the workers."""
    if not sees_everything(request.user):
        raise PermissionDenied
    now = db_now()
    rows = Heartbeat.objects.filter(beat_at__gt=now - heartbeat.KEPT).order_by("host", "pid")
    workers = [{"row": row, "state": _state(row, now), "members": row.info.get("workers")} for row in rows]
    workers.sort(key=lambda worker: not heartbeat.beats(worker["row"], now))
    context: dict[str, Any] = {
        "workers": workers, "alive": heartbeat.alive(now), "now": now,
        "last": max((row.beat_at for row in rows), default=None),
    }  # fmt: skip
    return render(request, "ops/worker_page.html", title="Workers", context=context)


def _state(row: Heartbeat, now: datetime) -> SafeString:
    if row.state != WorkerState.STOPPED and not heartbeat.beats(row, now):
        return badge("error", "cross", "Silent")
    tone, icon = _LOOKS[WorkerState(row.state)]
    return badge(tone, icon, str(row.get_state_display()))
