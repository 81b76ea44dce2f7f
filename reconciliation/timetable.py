"""When runs start by themselves: each resource's own cron line, and a small daily sample of records reported SYNCED.

Guarantees: a time that passed while nothing ran is made up for once; several hosts start one run. Cron lines are read
in the portal's time zone. Does not: keep time; the duty that calls it does.
"""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter
from django.conf import settings
from django.db.models import Max, Min

from reconciliation import findings, journal, runs, workers
from reconciliation.journal import AlreadyRunning
from reconciliation.models import Run
from reconciliation.states import Origin, Scope
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync.events import WORKER
from syncportal.sync.models import Record
from syncportal.sync.states import Status

SAMPLE = 50
SAMPLE_CRON = "30 3 * * *"
KEPT = timedelta(days=365)


def duty(now: datetime) -> str:
    """Start what is due, ring for what waits, forget what is old; say in a few words what it was."""
    started = start_due(now)
    rang = workers.ring_for_due(now)
    pruned = findings.prune(before=now - KEPT) + journal.prune(before=now - KEPT)
    return f"{len(started)} runs started, rang for {len(rang)}, {pruned} old rows removed"


def start_due(now: datetime) -> list[Run]:
    """Begin the runs whose time has come, of every resource; one that is being reconciled waits for the next look."""
    begun = []
    for resource in Resource.objects.select_related("remote"):
        if _is_due(resource, spec_for(resource).policy.schedule, scope=Scope.ALL, now=now):
            begun += _begin(resource, record_ids=None)
        elif _is_due(resource, SAMPLE_CRON, scope=Scope.SAMPLE, now=now):
            ids = sample(resource)
            begun += _begin(resource, record_ids=ids) if ids else []
    return begun


def last_time(cron: str, now: datetime) -> datetime:
    """Return the last time up to `now` that a cron line names, in the portal's zone."""
    here = now.astimezone(ZoneInfo(settings.TIME_ZONE))
    found: datetime = croniter(cron, here + timedelta(seconds=1)).get_prev(datetime)
    return found


def next_time(resource: Resource, now: datetime) -> datetime | None:
    """Return when a resource is compared next by itself; None when it has no schedule."""
    cron = spec_for(resource).policy.schedule
    if not cron:
        return None
    found: datetime = croniter(cron, now.astimezone(ZoneInfo(settings.TIME_ZONE))).get_next(datetime)
    return found


def _is_due(resource: Resource, cron: str, *, scope: Scope, now: datetime) -> bool:
    """Tell whether the last time of the line came after the last such run began, and after the resource was made."""
    if not cron:
        return False
    scheduled = Run.objects.filter(resource=resource, scope=scope, origin=Origin.SCHEDULE)
    began = scheduled.order_by("-id").values_list("started_at", flat=True).first()
    return last_time(cron, now) > (began or resource.created_at)


def _begin(resource: Resource, *, record_ids: Sequence[int] | None) -> list[Run]:
    try:
        run = runs.start(resource, actor=WORKER, record_ids=record_ids, origin=Origin.SCHEDULE, scope=Scope.SAMPLE)
    except (AlreadyRunning, runs.NotPossible):
        return []
    return [run]


def sample(resource: Resource, *, size: int = SAMPLE) -> list[int]:
    """Return some records that are reported SYNCED, chosen at random over the whole resource."""
    rows = Record.objects.filter(
        resource=resource, external_id__isnull=False, deleted_at__isnull=True, job__status=Status.SYNCED
    )
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return []
    chosen: set[int] = set()
    for start in random.sample(range(ends["first"], ends["last"] + 1), k=min(size, ends["last"] + 1 - ends["first"])):
        found = rows.filter(pk__gte=start).order_by("pk").values_list("pk", flat=True).first()
        chosen |= {found} if found is not None else set()
    return sorted(chosen)
