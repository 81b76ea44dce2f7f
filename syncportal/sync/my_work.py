"""What waits for one person: conflicts and failed edits of own records, and records newly given to them.

Owns: `work_of` and `count_of`. Guarantees: a handful of indexed queries whatever the number of records; deleted records
never wait. For operations, conflicts handed over to them count as their work, too. Does not: change anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from syncportal.sync import rights
from syncportal.sync.events import Kind
from syncportal.sync.models import Conflict, Event, Record, SyncJob
from syncportal.sync.querysets import Person, sees_everything
from syncportal.sync.states import IN_FLIGHT, Status

FAILED = (Status.ERROR, Status.VALIDATION_FAILED, Status.DEAD_LETTER)
SHOWN = 50
NEWEST = 10
NEW_FOR = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Work:
    """Rows to show, oldest first, and the true numbers behind them."""

    taken_at: datetime
    conflicts: Sequence[Conflict]
    conflict_count: int
    failed: Sequence[Record]
    failed_count: int
    assigned: Sequence[Event]
    owned: int
    on_their_way: int

    @property
    def nothing(self) -> bool:
        """Tell whether the person has nothing to do."""
        return not (self.conflict_count or self.failed_count)


def starts_here(user: Person) -> bool:
    """Tell whether somebody's start page is their work: people who look after their own records only."""
    return rights.may_look(user) and not sees_everything(user)


def conflicts_of(user: Person) -> QuerySet[Conflict]:
    """Return the open conflicts that wait for this person."""
    mine = Q(record__owner_id=user.pk)
    if rights.operates(user):
        mine |= Q(escalated_at__isnull=False)
    return Conflict.objects.open().filter(mine, record__deleted_at__isnull=True)


def failed_of(user: Person) -> QuerySet[Record]:
    """Return the person's records whose last edit did not reach the remote and does not go on by itself."""
    return Record.objects.present().filter(owner_id=user.pk, job__status__in=FAILED)


def count_of(user: Person) -> int:
    """Return how many things wait for this person."""
    return conflicts_of(user).count() + failed_of(user).count()


def work_of(user: Person, *, now: datetime) -> Work:
    """Return what waits for this person."""
    conflicts, failed = conflicts_of(user), failed_of(user)
    own = SyncJob.objects.filter(record__owner_id=user.pk, record__deleted_at__isnull=True)
    shown = conflicts.select_related("record", "resource").defer("base", "local", "remote", "record__data")
    stopped = failed.select_related("job", "resource").defer("data", "base")
    return Work(
        taken_at=now,
        conflicts=list(shown.order_by("created_at", "pk")[:SHOWN]),
        conflict_count=conflicts.count(),
        failed=list(stopped.order_by("job__status_since", "pk")[:SHOWN]),
        failed_count=failed.count(),
        assigned=_assigned(user, now=now),
        owned=own.count(),
        on_their_way=own.filter(status__in=sorted(IN_FLIGHT)).count(),
    )


def _assigned(user: Person, *, now: datetime) -> list[Event]:
    """Return who gave the person which record lately, once a record; what is listed as work already is left out."""
    events = Event.objects.filter(
        kind=Kind.RECORD_ASSIGNED.value,
        at__gte=now - NEW_FOR,
        record__owner_id=user.pk,
        record__deleted_at__isnull=True,
        data__owner=user.pk,
    ).exclude(Q(actor_id=user.pk) | Q(record__job__status__in=(*FAILED, Status.VERSION_CONFLICT)))
    newest: dict[int, Event] = {}
    for event in events.select_related("record__resource", "record__job", "actor").order_by("-id")[: 4 * NEWEST]:
        newest.setdefault(event.record_id or 0, event)
    return list(newest.values())[:NEWEST]
