"""What a rung doorbell runs for reconciliation. Each task takes nothing, catches everything and never raises.

Owns: which runs and wishes wait, and when to ring again. Does not: hold work; the rows do.
"""

import time
from datetime import datetime

import structlog
from django.conf import settings
from django.db import close_old_connections
from django.db.models import Q, QuerySet

from reconciliation import engine, fixing
from reconciliation.models import Discrepancy, Run
from reconciliation.tasks import RECONCILE, REPAIR
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now

log = structlog.get_logger(__name__)

SPARE_S = 1.0


def slice_s() -> float:
    """Return how long a slice may start calls: the last one must end within the task's time."""
    return float(settings.TASK_BUDGET_S - settings.CALL_TOTAL_S) - SPARE_S


def reconcile() -> None:
    """Go on with runs that nobody works on, for one task's time."""
    close_old_connections()
    try:
        if run_waiting(seconds=slice_s()) and waiting(db_now()).exists():
            doorbell.ring(RECONCILE)
    except Exception:
        log.exception("task.failed", task="reconcile")


def repair() -> None:
    """Carry out repairs that people asked for, for one task's time."""
    close_old_connections()
    try:
        if fixing.work_off(seconds=slice_s()):
            doorbell.ring(REPAIR)
    except Exception:
        log.exception("task.failed", task="repair")


def waiting(now: datetime) -> QuerySet[Run]:
    """Return the runs that nobody works on and that need not pause."""
    return Run.objects.running().filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now)).order_by("progress_at")


def run_waiting(*, seconds: float) -> int:
    """Give each waiting run a turn, for `seconds` in all, and return how many slices ran."""
    give_up, slices = time.monotonic() + seconds, 0
    for run_id in list(waiting(db_now()).values_list("pk", flat=True)):
        left = give_up - time.monotonic()
        if left <= 0:
            break
        slices += engine.run_slice(run_id, seconds=left).worked
    return slices


def ring_for_due(now: datetime) -> list[str]:
    """Ring for runs and wishes that wait; return what was rung for."""
    rang = []
    if waiting(now).exists() and doorbell.ring(RECONCILE):
        rang.append("runs")
    if Discrepancy.objects.wanted().filter(wanted_at__lte=now).exists() and doorbell.ring(REPAIR):
        rang.append("repairs")
    return rang
