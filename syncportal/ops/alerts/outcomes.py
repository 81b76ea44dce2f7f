"""How attempts ended, by resource: for rates over a window and for hours of the past.

Owns: where these numbers come from. Guarantees: one query each, whatever the number of windows, resources or hours.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Q
from django.db.models.functions import TruncHour

from syncportal.ops.alerts.anomaly import HISTORY, Hour
from syncportal.ops.alerts.judging import Outcomes
from syncportal.sync.models import SyncLog
from syncportal.sync.rollups import FAILED, SUCCEEDED

_HOUR = timedelta(hours=1)


def in_windows(windows_min: Iterable[int], *, now: datetime) -> dict[int, dict[int, Outcomes]]:
    """Return the outcomes by window in minutes, then by resource."""
    windows = sorted(set(windows_min))
    if not windows:
        return {}
    counts = {}
    for window in windows:
        within = Q(at__gte=now - timedelta(minutes=window))
        counts[f"good_{window}"] = Count("pk", filter=within & Q(outcome__in=SUCCEEDED))
        counts[f"bad_{window}"] = Count("pk", filter=within & Q(outcome__in=FAILED))
    rows = SyncLog.objects.filter(final=True, at__gte=now - timedelta(minutes=windows[-1])).order_by()
    found: dict[int, dict[int, Outcomes]] = {window: {} for window in windows}
    for resource_id, *numbers in rows.values_list("resource_id").annotate(**counts):
        for place, window in enumerate(windows):
            found[window][resource_id] = Outcomes(numbers[2 * place], numbers[2 * place + 1])
    return found


def by_hour(resource_ids: Iterable[int], *, now: datetime) -> Mapping[int, list[Hour]]:
    """Return the hours of the last four weeks by resource; the last one of each is the 60 minutes before `now`."""
    last = now - _HOUR
    ended = Q(outcome__in=(*SUCCEEDED, *FAILED))
    rows = (
        SyncLog.objects.filter(ended, final=True, at__gte=now - HISTORY, at__lt=last)
        .order_by()
        .values("resource_id", start=TruncHour("at", tzinfo=UTC))
        .annotate(attempts=Count("pk"), failed=Count("pk", filter=Q(outcome__in=FAILED)))
    )
    series: dict[int, list[Hour]] = {resource_id: [] for resource_id in resource_ids}
    for row in sorted(rows, key=lambda row: row["start"]):
        series.setdefault(row["resource_id"], []).append(Hour(row["start"], row["attempts"], row["failed"]))
    latest = in_windows([60], now=now)[60]
    for resource_id, hours in series.items():
        outcome = latest.get(resource_id, Outcomes())
        hours.append(Hour(last, outcome.attempts, outcome.failed))
    return series
