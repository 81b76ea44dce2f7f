"""When runs start by themselves: each resource's own cron line, and a small daily sample of records reported SYNCED.

Guarantees: a time that passed while nothing ran is made up for once; several hosts start one run. Cron lines are read
in the portal's time zone. Does not: keep time; the duty that calls it does.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter
from django.conf import settings
from django.db.models import Max, Min
from django.utils.translation import ngettext

from reconciliation import findings, journal, runs, workers
from reconciliation.journal import AlreadyRunning
from reconciliation.models import Run
from reconciliation.states import Origin, Scope
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync.events import WORKER, Actor
from syncportal.sync.models import Record
from syncportal.sync.states import Status

SAMPLE = 50
SAMPLES = "samples"
SAMPLE_CRON = "30 3 * * *"
KEPT = timedelta(days=365)


def line_of(resource_id: int) -> str:
    """Return what the timetable calls the comparisons of a resource."""
    return f"compare-{resource_id}"


def duty(now: datetime, *, paused: Collection[str] = ()) -> str:
    """Start what is due, ring for what waits, forget what is old; say in a few words what it was.

    paused: names of lines that start nothing now.
    """
    started = start_due(now, paused=paused)
    rang = workers.ring_for_due(now)
    pruned = findings.prune(before=now - KEPT) + journal.prune(before=now - KEPT)
    began = f"{len(started)} {ngettext('run', 'runs', len(started))} started"
    return f"{began}, rang for {len(rang)}, {pruned} old {ngettext('row', 'rows', pruned)} removed"


def start_due(now: datetime, *, paused: Collection[str] = ()) -> list[Run]:
    """Begin the runs whose time has come, of every resource; one that is being reconciled waits for the next look."""
    begun = []
    for resource in Resource.objects.select_related("remote"):
        schedule = "" if line_of(resource.pk) in paused else spec_for(resource).policy.schedule
        if _is_due(resource, schedule, scope=Scope.ALL, now=now):
            begun += _begin(resource, record_ids=None)
        elif SAMPLES not in paused and _is_due(resource, SAMPLE_CRON, scope=Scope.SAMPLE, now=now):
            begun += _begin_sample(resource, actor=WORKER)
    return begun


def start_samples(*, actor: Actor) -> list[Run]:
    """Begin the daily sample of every resource now, because a person wants it."""
    resources = Resource.objects.select_related("remote")
    return [run for resource in resources for run in _begin_sample(resource, actor=actor)]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the timetable. resource None: the daily sample of all; next_at None: nothing by itself."""

    name: str
    cron: str
    resource: Resource | None
    last: Run | None
    next_at: datetime | None


def lines(now: datetime) -> list[Line]:
    """Return the comparisons that start by themselves, or could, and how the last of each went."""
    scheduled = Run.objects.filter(origin=Origin.SCHEDULE).order_by("-id")
    found = []
    for resource in Resource.objects.select_related("remote").order_by("remote__name", "name"):
        cron, runs_of = spec_for(resource).policy.schedule, scheduled.filter(resource=resource, scope=Scope.ALL)
        found.append(Line(line_of(resource.pk), cron, resource, runs_of.first(), next_time(resource, now)))
    samples = scheduled.filter(scope=Scope.SAMPLE).first()
    return [*found, Line(SAMPLES, SAMPLE_CRON, None, samples, _next(SAMPLE_CRON, now))] if found else []


def last_time(cron: str, now: datetime) -> datetime:
    """Return the last time up to `now` that a cron line names, in the portal's zone."""
    here = now.astimezone(ZoneInfo(settings.TIME_ZONE))
    found: datetime = croniter(cron, here + timedelta(seconds=1)).get_prev(datetime)
    return found


def next_time(resource: Resource, now: datetime) -> datetime | None:
    """Return when a resource is compared next by itself; None when it has no schedule."""
    cron = spec_for(resource).policy.schedule
    return _next(cron, now) if cron else None


def _next(cron: str, now: datetime) -> datetime:
    found: datetime = croniter(cron, now.astimezone(ZoneInfo(settings.TIME_ZONE))).get_next(datetime)
    return found


def _is_due(resource: Resource, cron: str, *, scope: Scope, now: datetime) -> bool:
    """Tell whether the last time of the line came after the last such run began, and after the resource was made."""
    if not cron:
        return False
    scheduled = Run.objects.filter(resource=resource, scope=scope, origin=Origin.SCHEDULE)
    began = scheduled.order_by("-id").values_list("started_at", flat=True).first()
    return last_time(cron, now) > (began or resource.created_at)


def _begin_sample(resource: Resource, *, actor: Actor) -> list[Run]:
    ids = sample(resource)
    return _begin(resource, record_ids=ids, actor=actor) if ids else []


def _begin(resource: Resource, *, record_ids: Sequence[int] | None, actor: Actor = WORKER) -> list[Run]:
    origin = Origin.SCHEDULE if actor is WORKER else Origin.PERSON
    try:
        run = runs.start(resource, actor=actor, record_ids=record_ids, origin=origin, scope=Scope.SAMPLE)
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
