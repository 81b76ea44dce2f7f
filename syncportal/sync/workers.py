"""What a rung doorbell runs. Each task takes nothing, catches everything and never raises.

django-q2 only wakes these; what there is to do stands in the rows.
"""

from collections.abc import Callable

import structlog
from django.conf import settings
from django.db import close_old_connections

from syncportal.kernel import doorbell, turns
from syncportal.sync import pull as pulling
from syncportal.sync import refresh as refreshing
from syncportal.sync import sweep as sweeping
from syncportal.sync.drain import default_budget
from syncportal.sync.drain import drain as push_due
from syncportal.sync.tasks import DRAIN, REFRESH

log = structlog.get_logger(__name__)


def _guarded(name: str, work: Callable[[], object]) -> None:
    """Run a task's work; a failure is logged, the sweep comes again."""
    close_old_connections()
    try:
        work()
    except Exception:
        log.exception("task.failed", task=name)


def drain() -> None:
    """Push what is due, within one task's budget; ring again for what is left.

    One member of a pool always stays free: drains linger on slow remotes, and those running pick up what is new.
    """
    with turns.turn() as mine:
        if mine:
            _guarded("drain", _drain)


def _drain() -> None:
    report = push_due(budget=default_budget(task_s=settings.TASK_BUDGET_S))
    if report.left_over:
        doorbell.ring(DRAIN)


def refresh() -> None:
    """Work off a slice of the wishes to read objects again."""
    _guarded("refresh", _refresh)


def _refresh() -> None:
    if refreshing.refresh_requested():
        doorbell.ring(REFRESH)


def pull() -> None:
    """Go on with pulls for about half a task's budget."""
    _guarded("pull", lambda: pulling.run_waiting(seconds=settings.TASK_BUDGET_S / 2))


def sweep() -> None:
    """Rescue, scan for unannounced changes, ring for what is due."""
    _guarded("sweep", sweeping.sweep)
