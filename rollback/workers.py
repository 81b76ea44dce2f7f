"""What a rung doorbell runs for compensations; catches everything and never raises."""

import structlog
from django.conf import settings
from django.db import close_old_connections

from rollback import compensate as compensating
from rollback.compensate import COMPENSATE
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry

log = structlog.get_logger(__name__)


def compensate() -> None:
    """Take over groups of dead requests and run due compensating tasks, within one task's budget."""
    close_old_connections()
    try:
        work(seconds=settings.TASK_BUDGET_S)
    except Exception:
        log.exception("task.failed", task="compensate")


def work(*, seconds: float) -> int:
    """Do everything that waits here once; return how many tasks ran."""
    compensating.recover()
    atomic_retry(lambda: compensating.close_resolved(now=db_now()))
    ran = compensating.run_due(seconds=seconds)
    if ran:
        doorbell.ring(COMPENSATE)
    return ran
