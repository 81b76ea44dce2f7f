"""Roll-ups: what the attempts came to, counted and timed per span of time. The only writer of Rollup.

Owns: the spans and the bounds of the duration histogram. Guarantees: written in the transaction of the outcomes they
count, one statement a batch; together they say what the final exchanges of the sync log say, whose time and error they
go by. Does not: read them; `traffic.py` does.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from syncportal.kernel.bulk import add_rows
from syncportal.sync.events import AttemptLog
from syncportal.sync.models import Rollup
from syncportal.sync.states import COMPLETE, FAIL, GIVE_UP, MARK_CONFLICT, POSTPONE, REBASE, REJECT, RETRY_LATER, SKIP

SUCCEEDED: Final = (COMPLETE.name, SKIP.name)
FAILED: Final = (RETRY_LATER.name, GIVE_UP.name, FAIL.name, REJECT.name)
COUNTED: Final = frozenset({*SUCCEEDED, *FAILED, REBASE.name, MARK_CONFLICT.name, POSTPONE.name})
"""The outcomes that are rolled up; a discarded attempt, a refresh or an undo is none."""

FINE_S: Final = 300
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
EVER_S: Final = 0
SPANS_S: Final = (EVER_S, FINE_S, HOUR_S, DAY_S)
"""Every attempt is counted once in each span; the one that never ends feeds counters that may only grow."""
KEPT: Final = {FINE_S: timedelta(days=2), HOUR_S: timedelta(days=90), DAY_S: timedelta(days=90)}
BOUNDS_MS: Final = (5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2500, 5000, 10000)
BUCKETS: Final = (*(f"took_{bound}" for bound in BOUNDS_MS), "took_more")
KEY: Final = ("span_s", "begins_at", "resource_id", "outcome", "error")
_SUMS: Final = ("attempts", "total_ms", *BUCKETS)
_Key = tuple[int, int, int, str, str]


def begin_of(moment: datetime, span_s: int) -> datetime:
    """Return when the span that holds a moment began (UTC)."""
    return datetime.fromtimestamp(math.floor(moment.timestamp()) // span_s * span_s if span_s else 0, UTC)


def add(attempts: Iterable[AttemptLog]) -> None:
    """Count attempts in every span they fall into; call it last in a transaction, for others count in the same rows."""
    sums: dict[_Key, list[int]] = {}
    for attempt in attempts:
        if attempt.outcome not in COUNTED or not attempt.exchanges:
            continue
        last = attempt.exchanges[-1].exchange
        second, took = math.floor(last.started_at.timestamp()), last.duration_ms
        error = attempt.error_code or last.error
        bucket = 2 + bisect_left(BOUNDS_MS, took)
        for span_s in SPANS_S:
            key = (span_s, second // span_s if span_s else 0, attempt.resource_id, attempt.outcome, error)
            numbers = sums.get(key)
            if numbers is None:
                numbers = sums[key] = [0] * len(_SUMS)
            numbers[0] += 1
            numbers[1] += took
            numbers[bucket] += 1
    add_rows(Rollup, [_row(key, sums[key]) for key in sorted(sums)], key=KEY)


def _row(key: _Key, numbers: list[int]) -> dict[str, Any]:
    span_s, number, *rest = key
    begins_at = datetime.fromtimestamp(number * span_s, UTC)
    return dict(zip((*KEY, *_SUMS), (span_s, begins_at, *rest, *numbers), strict=True))


def prune(now: datetime) -> int:
    """Forget roll-ups that are old enough; return how many."""
    return sum(
        Rollup.objects.filter(span_s=span_s, begins_at__lt=now - kept).delete()[0] for span_s, kept in KEPT.items()
    )
