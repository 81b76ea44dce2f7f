"""What a rung doorbell runs for bulk operations, and when to ring; the task catches everything and never raises."""

import time
from datetime import datetime

import structlog
from django.conf import settings
from django.db import close_old_connections

from syncportal.bulk import journal, work
from syncportal.bulk.work import BULK
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now

log = structlog.get_logger(__name__)


def bulk() -> None:
    """Go on with operations for about half a task's budget; ring again for what is left."""
    close_old_connections()
    try:
        if run_waiting(seconds=settings.TASK_BUDGET_S / 2):
            doorbell.ring(BULK)
    except Exception:
        log.exception("task.failed", task="bulk")


def run_waiting(*, seconds: float) -> int:
    """Work at every operation in turn, each its share of about `seconds`; return how many could go on at once."""
    until, more = time.monotonic() + seconds, 0
    waiting = list(journal.waiting_for_a_worker(db_now()).values_list("pk", flat=True))
    for position, operation_id in enumerate(waiting):
        left = until - time.monotonic()
        more += work.run(operation_id, seconds=left / (len(waiting) - position)) if left > 0 else 1
    return more


def ring_for_due(now: datetime) -> bool:
    """Ring when an operation could go on now; False too when enough rings wait already."""
    return journal.waiting_for_a_worker(now).exists() and doorbell.ring(BULK)
