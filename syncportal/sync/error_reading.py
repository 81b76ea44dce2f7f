"""Reads error groups: who sees which, how many records each affects, where each stands, its trend and a sample.

Owns: what the states mean. Guarantees: an owner sees only groups that affect own records, and only those counts; state
and numbers are read from the rows, never kept. Does not: write; `error_groups.py` does.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    F,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce

from syncportal.sync.error_models import ErrorGroup, ErrorHour
from syncportal.sync.error_states import GroupState
from syncportal.sync.models import SyncJob, SyncLog
from syncportal.sync.querysets import Person, sees_everything
from syncportal.sync.rollups import HOUR_S, begin_of

Trend = list[tuple[datetime, int]]


def failing(user: Person | None = None) -> QuerySet[SyncJob]:
    """Return the jobs whose last attempt failed and that have not agreed since; of those the user sees."""
    rows = SyncJob.objects.filter(error_group__isnull=False)
    return rows if user is None else rows.visible_to(user)


def groups_of(user: Person, *, now: datetime) -> QuerySet[Any]:
    """Return the groups in the user's scope, with `affected` (records in scope), `failing` (all) and `state`."""
    if sees_everything(user):
        own = failing()
        rows = ErrorGroup.objects.annotate(failing=_count(own)).annotate(affected=F("failing"))
    else:
        own = failing(user)
        touched = ErrorGroup.objects.filter(pk__in=own.order_by().values("error_group_id"))
        rows = touched.annotate(failing=_count(failing()), affected=_count(own))
    return rows.annotate(
        state=Case(
            When(~Exists(own.filter(error_group=OuterRef("pk"))), then=Value(GroupState.OVER.value)),
            When(snoozed_until__gt=now, then=Value(GroupState.SNOOZED.value)),
            When(ignored_at__isnull=False, failing__lte=F("ignored_at_most"), then=Value(GroupState.IGNORED.value)),
            default=Value(GroupState.OPEN.value),
            output_field=CharField(),
        )
    )


def by_state(rows: QuerySet[Any]) -> dict[str, int]:
    """Return how many of `groups_of` stand where: one query."""
    tally = {state.value: Count("pk", filter=Q(state=state.value)) for state in GroupState}
    return dict(rows.order_by().aggregate(**tally))


def open_count(user: Person, *, now: datetime) -> int:
    """Return how many groups ask for the user's attention."""
    awake = Q(snoozed_until__isnull=True) | Q(snoozed_until__lte=now)
    grown = Q(ignored_at__isnull=True) | Q(failing__gt=F("ignored_at_most"))
    return live(user).annotate(failing=_count(failing())).filter(awake, grown).count()


def trends(user: Person, group_ids: Iterable[int], *, since: datetime) -> dict[int, dict[datetime, int]]:
    """Return how many attempts failed an hour, whoever owns the record, by group and by when the hour began."""
    if not sees_everything(user):
        raise ValueError("hours count the records of every owner")
    found: dict[int, dict[datetime, int]] = {}
    rows = ErrorHour.objects.filter(group__in=list(group_ids), begins_at__gte=since)
    for group_id, begins_at, attempts in rows.values_list("group_id", "begins_at", "attempts"):
        found.setdefault(group_id, {})[begins_at] = attempts
    return found


def own_trends(user: Person, group_ids: Iterable[int], *, since: datetime) -> dict[int, dict[datetime, int]]:
    """Return the same for attempts on records that the user sees, from the sync log."""
    found: dict[int, dict[datetime, int]] = {}
    rows = SyncLog.objects.visible_to(user).filter(error_group__in=list(group_ids), at__gte=since)
    for group_id, at in rows.order_by().values_list("error_group_id", "at").iterator(chunk_size=5_000):
        hours = found.setdefault(group_id or 0, {})
        begin = begin_of(at, HOUR_S)
        hours[begin] = hours.get(begin, 0) + 1
    return found


def hours_of(user: Person, group_ids: Collection[int], *, since: datetime) -> dict[int, dict[datetime, int]]:
    """Return the failed attempts of each hour by group, on records that the user sees: one query."""
    reads = trends if sees_everything(user) else own_trends
    return reads(user, group_ids, since=since)


def slots(hours: dict[datetime, int], *, since: datetime, now: datetime, slot_s: int) -> Trend:
    """Sum hours up to slots of a chart, the oldest first, empty ones too."""
    begin, step = begin_of(since, slot_s), timedelta(seconds=slot_s)
    number = int((now - begin) / step) + 1
    sums = [0] * number
    for at, attempts in hours.items():
        position = int((at - begin) / step)
        if 0 <= position < number:
            sums[position] += attempts
    return [(begin + i * step, attempts) for i, attempts in enumerate(sums)]


def own_span(user: Person, group_ids: Collection[int]) -> dict[int, tuple[datetime, datetime, int]]:
    """Return when attempts on records that the user sees failed first and last, and how many, by group."""
    rows = SyncLog.objects.visible_to(user).filter(error_group__in=list(group_ids)).order_by()
    seen = rows.values_list("error_group_id").annotate(first=Min("at"), last=Max("at"), number=Count("pk"))
    return {pk: (first, last, number) for pk, first, last, number in seen}


def sample(user: Person, group_id: int) -> SyncLog | None:
    """Return the newest exchange of the group on a record that the user sees."""
    rows = SyncLog.objects.visible_to(user).filter(error_group=group_id)
    return rows.select_related("record", "resource").order_by("-id").first()


def live(user: Person) -> QuerySet[ErrorGroup]:
    """Return the groups that affect records of the user's scope now, without numbers."""
    return ErrorGroup.objects.filter(pk__in=failing(user).order_by().values("error_group_id")).order_by()


def of_code(user: Person, codes: Collection[str], *, remote_id: int | None = None) -> dict[str, list[int]]:
    """Return the ids of groups that affect something now, by error code (or kind where there is none)."""
    rows = live(user).filter(Q(code__in=codes) | Q(code="", kind__in=codes))
    rows = rows if remote_id is None else rows.filter(remote=remote_id)
    found: dict[str, list[int]] = {}
    for pk, code, kind in rows.order_by("-last_seen_at").values_list("pk", "code", "kind"):
        found.setdefault(code or kind, []).append(pk)
    return found


def _count(jobs: QuerySet[SyncJob]) -> Coalesce:
    named = jobs.filter(error_group=OuterRef("pk")).order_by().values("error_group")
    counted = named.annotate(number=Count("error_group"))  # what the index holds; the rows are not read
    return Coalesce(Subquery(counted.values("number"), output_field=IntegerField()), 0)
