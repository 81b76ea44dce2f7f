"""The numbers of compensating tasks, read from the rows: for the start page, status and /metrics.

Owns: what they are called and how they are counted. Does not: keep anything.
"""

from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count, Min, Q, QuerySet

from rollback.models import CompensatingTask
from rollback.states import OPEN_TASKS, TaskReason, TaskStatus

WAITING_FOR_PERSON = Q(status=TaskStatus.FAILED_PERMANENT) & ~Q(reason__in=[TaskReason.CLOSED, TaskReason.RESOLVED])


@dataclass(frozen=True, slots=True)
class TaskNumbers:
    """Where the undos stand. open: pending or processing; waiting_for_person: failed and still holding a record.

    oldest_at: when the oldest open one was made; ended: ended tasks by outcome, a status
    and its reason, as far as they are kept: the number falls when old ones are forgotten.
    """

    open: int = 0
    oldest_at: datetime | None = None
    oldest_age_s: float = 0.0
    waiting_for_person: int = 0
    ended: dict[str, int] = field(default_factory=dict)


def read(*, now: datetime, rows: QuerySet[CompensatingTask] | None = None, past: bool = True) -> TaskNumbers:
    """Count tasks at `now`, the database's time; rows: only among these; past False leaves the ended ones out."""
    rows = (CompensatingTask.objects.all() if rows is None else rows).order_by()
    unfinished = rows.filter(status__in=[*sorted(OPEN_TASKS), TaskStatus.FAILED_PERMANENT])
    found = unfinished.aggregate(
        open=Count("pk", filter=Q(status__in=OPEN_TASKS)),
        oldest=Min("created_at", filter=Q(status__in=OPEN_TASKS)),
        waiting=Count("pk", filter=WAITING_FOR_PERSON),
    )
    ended: dict[str, int] = {}
    over = rows.exclude(status__in=OPEN_TASKS).values_list("status", "reason").annotate(number=Count("pk"))
    for status, reason, count in over if past else ():
        outcome = f"{status}:{reason}" if reason else str(status)
        ended[outcome] = ended.get(outcome, 0) + count
    oldest = found["oldest"]
    age = max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
    return TaskNumbers(found["open"], oldest, age, found["waiting"], ended)


def as_metrics(numbers: TaskNumbers) -> dict[str, float]:
    """Return the numbers under the names of /metrics, labels included."""
    flat = {
        "compensating_tasks_open": float(numbers.open),
        "compensating_tasks_oldest_age_seconds": numbers.oldest_age_s,
        "compensating_tasks_waiting_for_person": float(numbers.waiting_for_person),
    }
    return flat | {
        f'compensating_tasks_ended{{outcome="{outcome}"}}': float(count)
        for outcome, count in sorted(numbers.ended.items())
    }
