"""How attempts ended, by resource: for rates over a window and for hours of the past. Read from the roll-ups.

Guarantees: one query for all windows and two for all hours, whatever the number of resources and attempts. A window
holds the spans of five minutes that began in it, so it may be up to five minutes shorter than its name.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db.models import Q, Sum

from syncportal.ops.alerts.anomaly import HISTORY, Hour
from syncportal.ops.alerts.judging import Outcomes
from syncportal.sync.models import Rollup
from syncportal.sync.rollups import FAILED, FINE_S, HOUR_S, SUCCEEDED

_HOUR = timedelta(hours=1)


def in_windows(windows_min: Iterable[int], *, now: datetime) -> dict[int, dict[int, Outcomes]]:
    """Return the outcomes by window in minutes, then by resource."""
    windows = sorted(set(windows_min))
    found: dict[int, dict[int, Outcomes]] = {window: {} for window in windows}
    if not windows:
        return found
    sums = {}
    for window in windows:
        within = Q(begins_at__gte=now - timedelta(minutes=window))
        sums[f"good_{window}"] = Sum("attempts", filter=within & Q(outcome__in=SUCCEEDED), default=0)
        sums[f"bad_{window}"] = Sum("attempts", filter=within & Q(outcome__in=FAILED), default=0)
    rows = Rollup.objects.filter(span_s=FINE_S, begins_at__gte=now - timedelta(minutes=windows[-1])).order_by()
    for resource_id, *numbers in rows.values_list("resource_id").annotate(**sums):
        for place, window in enumerate(windows):
            found[window][resource_id] = Outcomes(numbers[2 * place], numbers[2 * place + 1])
    return found


def by_hour(resource_ids: Iterable[int], *, now: datetime) -> Mapping[int, list[Hour]]:
    """Return the hours of the last four weeks by resource; the last one of each is the 60 minutes before `now`."""
    last = now - _HOUR
    rows = (
        Rollup.objects.filter(span_s=HOUR_S, begins_at__gte=now - HISTORY, begins_at__lte=last - _HOUR)
        .filter(outcome__in=(*SUCCEEDED, *FAILED))
        .order_by("begins_at")
        .values_list("resource_id", "begins_at")
        .annotate(attempts_made=Sum("attempts"), failed=Sum("attempts", filter=Q(outcome__in=FAILED), default=0))
    )
    series: dict[int, list[Hour]] = {resource_id: [] for resource_id in resource_ids}
    for resource_id, start, attempts, failed in rows:
        series.setdefault(resource_id, []).append(Hour(start, attempts, failed))
    latest = in_windows([60], now=now)[60]
    for resource_id, hours in series.items():
        outcome = latest.get(resource_id, Outcomes())
        hours.append(Hour(last, outcome.attempts, outcome.failed))
    return series
