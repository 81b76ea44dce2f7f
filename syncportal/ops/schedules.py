"""The timetable as django-q2 knows it, rewritten from the one list in code whenever it differs.

Guarantees: after `ensure` the Schedule table holds exactly one well-formed row for each duty; anything else is removed,
because one malformed row stops all schedules and a foreign one can call any function.
Does not: run duties (duties.py does), nor rely on the rows: the supervisor rings for a duty that is overdue.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django_q.models import Schedule

from syncportal.ops.duties import DUTIES, RUN, DutySpec

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ensured:
    """What `ensure` had to mend: rows written anew and rows removed, by name."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def ensure(*, now: datetime) -> Ensured:
    """Make the Schedule rows what the list of duties says; writes nothing when they are."""
    rows = list(Schedule.objects.order_by("pk"))
    kept: dict[str, Schedule] = {}
    wanted = {duty.name: duty for duty in DUTIES}
    for row in rows:
        if row.name in wanted and row.name not in kept and _fits(row, wanted[row.name], now=now):
            kept[row.name] = row
    foreign = [row for row in rows if kept.get(row.name or "") is not row]
    missing = [duty for name, duty in wanted.items() if name not in kept]
    if not foreign and not missing:
        return Ensured()
    with transaction.atomic():
        Schedule.objects.filter(pk__in=[row.pk for row in foreign]).delete()
        Schedule.objects.bulk_create([_row(duty, now=now) for duty in missing])
    done = Ensured(tuple(duty.name for duty in missing), tuple(str(row.name or row.pk) for row in foreign))
    log.warning("schedules.rewritten", written=done.written, removed=done.removed)
    return done


def _row(duty: DutySpec, *, now: datetime) -> Schedule:
    return Schedule(
        name=duty.name,
        func=RUN,
        args=repr((duty.name,)),
        schedule_type=Schedule.MINUTES,
        minutes=max(1, duty.every_s // 60),
        repeats=-1,
        next_run=now,
    )


def _fits(row: Schedule, duty: DutySpec, *, now: datetime) -> bool:
    """Tell whether a row is ours, untouched, and due within two of its intervals (a clock may have jumped)."""
    fresh = _row(duty, now=now)
    same = ("func", "args", "schedule_type", "minutes", "repeats")
    empty = ("hook", "kwargs", "cron", "cluster", "intended_date_kwarg")
    if any(getattr(row, name) != getattr(fresh, name) for name in same) or any(getattr(row, name) for name in empty):
        return False
    interval = timedelta(seconds=2 * duty.every_s)
    return row.next_run is not None and now - timedelta(days=1) < row.next_run < now + interval
