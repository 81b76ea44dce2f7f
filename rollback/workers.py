"""What a rung doorbell runs for compensations, and when to ring; the task catches everything and never raises."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import close_old_connections

from rollback import compensate as compensating
from rollback import journal
from rollback.compensate import COMPENSATE
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry

log = structlog.get_logger(__name__)

KEPT_FOR = timedelta(days=365)


def compensate() -> None:
    """Take over groups of dead requests and run due compensating tasks, within one task's budget."""
    close_old_connections()
    try:
        work(seconds=settings.TASK_BUDGET_S)
    except Exception:
        log.exception("task.failed", task="compensate")


def work(*, seconds: float, clock: Callable[[], datetime] = db_now) -> int:
    """Do everything that waits here once; return how many tasks ran."""
    look_after(clock=clock)
    ran = compensating.run_due(seconds=seconds, clock=clock)
    if ran:
        doorbell.ring(COMPENSATE)
    return ran


def look_after(*, clock: Callable[[], datetime] = db_now) -> str:
    """Do what needs no remote: take over dead requests, rescue tasks, and follow a clock that was set back."""
    recovered = compensating.recover(clock=clock)
    rescued, _ = atomic_retry(lambda: journal.rescue_tasks(now=clock()))
    atomic_retry(lambda: journal.set_back(now=clock()))
    return f"{recovered} groups taken over, {rescued} tasks rescued"


def ring_for_due(now: datetime) -> bool:
    """Ring when anything waits here that could go on now; False too when enough rings wait already."""
    return compensating.anything_waits(now) and doorbell.ring(COMPENSATE)


def prune(now: datetime) -> int:
    """Forget a slice of grouped updates that were over a year ago; return how many went."""
    return atomic_retry(lambda: journal.prune(before=now - KEPT_FOR))


def duty(now: datetime) -> str:
    """Do once a minute what a lost ring left undone, and say what it was."""
    done = look_after()
    return f"{done}; rang" if ring_for_due(now) else done
