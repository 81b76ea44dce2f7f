"""Where records stand, counted without reading them. The only writer of RecordCount.

Owns: `where_they_stand` (how many records of each resource have which status, and what is due) and `recount`.
Guarantees: a few statements over narrow indexes, whose cost grows with what is not agreed: a million agreed records are
the difference to the number of all. Small installations are counted afresh each time; large ones go by a count of a few
minutes ago plus what came since, so that only a record removed meanwhile shows late. Does not: know owners.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import BooleanField, Count, F, Func, Max, Min, Q, QuerySet

from syncportal.remote.models import Resource
from syncportal.sync.models import UNREMARKABLE, Record, RecordCount, SyncJob
from syncportal.sync.states import CLAIMABLE, Status

LARGE = 20_000
"""Up to this many ids nothing is stored."""


class _Remarkable(Func):
    """The condition of the index, in literals: SQLite takes a partial index only for a condition it can read."""

    template = "NOT (\"status\" IN ('{}', '{}'))".format(*UNREMARKABLE)
    output_field = BooleanField()


@dataclass(slots=True)
class Standing:
    """The records of one resource. due: how many wait for a worker whose time has come; oldest_due_at: since when."""

    counts: dict[str, int] = field(default_factory=dict)
    due: int = 0
    oldest_due_at: datetime | None = None

    def add(self, status: str, count: int) -> None:
        """Count some more."""
        self.counts[status] = self.counts.get(status, 0) + count


def where_they_stand(*, now: datetime) -> dict[int, Standing]:
    """Return by resource id where its records stand at `now`, those deleted on both sides left out: six statements."""
    stored = list(RecordCount.objects.all())
    standing: dict[int, Standing] = defaultdict(Standing)  # a resource may be made while this reads
    for pk in Resource.objects.order_by().values_list("pk", flat=True):
        standing[pk] = Standing()
    for resource_id, status, number, due, oldest in _remarkable(now):
        one = standing[resource_id]
        one.add(status, number)
        one.due += due
        if oldest is not None and oldest <= now and (one.oldest_due_at is None or oldest < one.oldest_due_at):
            one.oldest_due_at = oldest
    running = SyncJob.objects.filter(status=Status.PROCESSING).order_by().values_list("resource_id")
    for resource_id, number in running.annotate(number=Count("pk")):
        standing[resource_id].add(Status.PROCESSING, number)
    for resource_id, status, number in _stored_gone(stored) if stored else _gone():
        standing[resource_id].add(status, -number)
    for resource_id, number in _present(stored).items():
        one = standing[resource_id]
        one.add(Status.SYNCED, max(0, number - sum(one.counts.values())))
    return dict(standing)


def _remarkable(now: datetime) -> QuerySet:
    """Return (resource, status, number, due, oldest due) of what is neither agreed nor under way."""
    rows = SyncJob.objects.filter(_Remarkable()).order_by().values_list("resource_id", "status")
    waits = Q(status__in=sorted(CLAIMABLE), held_by="")
    return rows.annotate(
        number=Count("*"), due=Count("due_at", filter=waits & Q(due_at__lte=now)), oldest=Min("due_at", filter=waits)
    )


def _gone() -> Iterable[tuple[int, str, int]]:
    """Return (resource, status, number) of deleted records whose job is not SYNCED, as nearly all are."""
    rows = SyncJob.objects.filter(record__deleted_at__isnull=False).exclude(status=Status.SYNCED).order_by()
    return rows.values_list("resource_id", "status").annotate(number=Count("pk"))


def _stored_gone(stored: Iterable[RecordCount]) -> Iterable[tuple[int, str, int]]:
    return [(row.resource_id, status, number) for row in stored for status, number in row.gone.items()]


def _present(stored: Iterable[RecordCount]) -> dict[int, int]:
    """Return by resource id how many records there are, without those deleted."""
    numbers = {row.resource_id: row.number for row in stored}
    upto = max((row.upto_id for row in stored), default=0)
    # The sum keeps SQLite from walking the whole index of resources instead of the few newest rows.
    newer = Record.objects.filter(pk__gt=upto).order_by().annotate(whose=F("resource_id") + 0).values_list("whose")
    for resource_id, number in newer.annotate(number=Count("*")):
        numbers[resource_id] = numbers.get(resource_id, 0) + number
    deleted = Record.objects.filter(deleted_at__isnull=False).order_by().values_list("resource_id")
    for resource_id, number in deleted.annotate(number=Count("*")):
        numbers[resource_id] = numbers.get(resource_id, 0) - number
    return numbers


def recount(now: datetime) -> int:
    """Count the records of a large installation and store the numbers; return how many records there are."""
    upto = Record.objects.aggregate(upto=Max("pk"))["upto"] or 0
    if upto <= LARGE:
        return 0
    found = dict(Record.objects.filter(pk__lte=upto).order_by().values_list("resource_id").annotate(number=Count("*")))
    gone: dict[int, dict[str, int]] = {}
    for resource_id, status, number in _gone():
        gone.setdefault(resource_id, {})[status] = number
    rows = [
        RecordCount(resource_id=pk, number=found.get(pk, 0), gone=gone.get(pk, {}), upto_id=upto, counted_at=now)
        for pk in Resource.objects.values_list("pk", flat=True)
    ]
    RecordCount.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["resource"],
        update_fields=["number", "gone", "upto_id", "counted_at"],
    )  # fmt: skip
    return sum(found.values())
