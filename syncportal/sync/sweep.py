"""The safety net: picks up what fell through. Losing any of its runs costs time, never work.

Rescues jobs of dead workers and those that a clock set back left in the future, finds records changed past us, and
rings for whatever is due.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.sync import bypassed, error_groups, events, records, scan_positions, transitions
from syncportal.sync.causes import deadly
from syncportal.sync.drain import due_remotes
from syncportal.sync.events import Fact, Kind
from syncportal.sync.models import Pull, Record, SyncJob
from syncportal.sync.tasks import DRAIN, PULL, REFRESH

DIRTY_SLICE = 5_000
_DIRTY = "dirty_records"


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep found."""

    rescued: int
    dirty: int
    rang: tuple[str, ...]


def sweep() -> Swept:
    """Do everything once; safe to run anywhere, at any time, any number of times at once."""
    atomic_retry(lambda: transitions.set_back(now=db_now()))
    rescued = atomic_retry(lambda: rescue(db_now()))
    dirty = atomic_retry(lambda: _find_dirty(db_now()))
    return Swept(rescued, dirty, ring_for_due(db_now()))


def ring_for_due(now: datetime) -> tuple[str, ...]:
    """Ring for every kind of work that waits; return the tasks rung for."""
    waiting = []
    if due_remotes(now):
        waiting.append(DRAIN)
    if SyncJob.objects.filter(refresh_requested_at__isnull=False).exists():
        waiting.append(REFRESH)
    if Pull.objects.filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now), state="running").exists():
        waiting.append(PULL)
    return tuple(task for task in waiting if doorbell.ring(task))


def rescue(now: datetime) -> int:
    """Take back the jobs of dead workers, tell of each, and count what is given up; call in a transaction."""
    rescued = transitions.rescue(now=now)
    kinds = {False: Kind.JOB_RESCUED, True: Kind.SYNC_DEAD_LETTERED}
    resources = dict(Record.objects.filter(pk__in=[job.record_id for job in rescued]).values_list("pk", "resource_id"))
    facts = [
        Fact(kinds[job.dead], job.record_id, resources.get(job.record_id), data={"reason": transitions.WORKER_DIED})
        for job in rescued
    ]
    events.write(facts, now=now)
    error_groups.add([deadly(job.remote_id) for job in rescued if job.dead], now=now)
    return len(rescued)


def _find_dirty(now: datetime) -> int:
    """Look at the next slice of records for content that was changed without telling us, and arm it."""
    found, reached = records.dirty_ids(after=scan_positions.locked(_DIRTY), limit=DIRTY_SLICE)
    scan_positions.move(_DIRTY, to=reached or 0)
    return len(bypassed.take_in(found, now=now))
