"""What the attempts of a window came to: rates, durations, throughput, errors.

Owns: reading the roll-ups, or, for people who see their own records only, the final exchanges of those. Guarantees:
both ways give the same numbers. Rates count what succeeded and what failed; an attempt that was postponed, merged or
ended in a conflict is neither. Durations are those of the last exchange of attempts that succeeded.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from heapq import nlargest
from operator import add
from typing import Final

from django.db.models import Sum

from syncportal.ops.metrics.scope import Scope
from syncportal.sync.rollups import BOUNDS_MS, BUCKETS, COUNTED, FAILED, SUCCEEDED, begin_of
from syncportal.sync.windows import Window

TARGET_PERCENT: Final = 95.0
ALARM_PERCENT: Final = 90.0
TOP: Final = 5
RECENT: Final = 8
_SUMMED: Final = {"good": "attempts", "ms": "total_ms", **{f"sum_{name}": name for name in BUCKETS}}
_WIDEST_MS: Final = 30_000
"""What is taken for the end of the last bucket: no call lasts longer than its hard deadline."""


@dataclass(frozen=True)
class Slot:
    """One point of a chart: the attempts that began in its time. took: succeeded ones by duration, as in BUCKETS."""

    begins_at: datetime
    succeeded: int
    failed: int
    total_ms: int
    took: tuple[int, ...]

    @property
    def attempts(self) -> int:
        """Return how many succeeded or failed."""
        return self.succeeded + self.failed

    @cached_property
    def average_ms(self) -> int | None:
        """Return how long those that succeeded took on average."""
        return round(self.total_ms / self.succeeded) if self.succeeded else None

    @cached_property
    def p95_ms(self) -> int | None:
        """Return what 95 of 100 that succeeded stayed below, to the bucket, evenly spread inside of it."""
        return percentile(self.took, 0.95)


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How many attempts failed with one code."""

    code: str
    count: int
    percent: float


@dataclass(frozen=True)
class Traffic:
    """A window's attempts. outcomes: how many came to what, by the verb's name.

    last_failures: the ids of the last exchanges that failed, newest first; None where only sums were read.
    """

    window: Window
    since: datetime
    slots: tuple[Slot, ...]
    outcomes: dict[str, int]
    errors: tuple[ErrorCount, ...]
    last_failures: tuple[int, ...] | None = None

    @cached_property
    def whole(self) -> Slot:
        """Return the window as one slot."""
        return Slot(
            self.since,
            sum(slot.succeeded for slot in self.slots),
            sum(slot.failed for slot in self.slots),
            sum(slot.total_ms for slot in self.slots),
            tuple(sum(column) for column in zip(*(slot.took for slot in self.slots), strict=True)),
        )

    @property
    def success_percent(self) -> float | None:
        """Return the share that succeeded, never rounded up to 100 while something failed; None without attempts."""
        return percent(self.whole.succeeded, self.whole.attempts)


def percent(part: int, whole: int) -> float | None:
    """Return a share in percent with one decimal, never rounded up to 100; None of nothing."""
    if not whole:
        return None
    return 100.0 if part == whole else min(99.9, round(100 * part / whole, 1))


def percentile(took: Sequence[int], share: float) -> int | None:
    """Return the duration in ms that `share` of the counted ones stays below; None when there are none."""
    rank = share * sum(took)
    if not rank:
        return None
    below, passed = 0, 0
    for count, bound in zip(took, (*BOUNDS_MS, _WIDEST_MS), strict=True):
        if count and passed + count >= rank:
            return round(below + (bound - below) * (rank - passed) / count)
        below, passed = bound, passed + count
    return _WIDEST_MS


def read(scope: Scope, *, window: Window, now: datetime) -> Traffic:
    """Return the window's traffic in a scope: three queries, or one for own records only."""
    since = window.since(now)
    counts, failures = _Counts(window), None
    if scope.everything:
        _from_rollups(counts, scope, since)
    else:
        failures = _from_logs(counts, scope, since)
    return Traffic(window, since, counts.slots(now), counts.outcomes, counts.top(), failures)


class _Counts:
    """Adds up; a slot's numbers are [succeeded, failed, total ms, *buckets]."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.by_slot: dict[datetime, list[int]] = {}
        self.outcomes: dict[str, int] = {}
        self.errors: dict[str, int] = {}

    def slot(self, at: datetime) -> list[int]:
        """Return the numbers of the slot that holds a moment, to be added to."""
        return self.by_slot.setdefault(begin_of(at, self.window.slot_s), [0] * (3 + len(BUCKETS)))

    def outcome(self, outcome: str, error: str, count: int) -> None:
        """Add attempts that came to one outcome for one cause."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        if outcome in FAILED:
            self.errors[error] = self.errors.get(error, 0) + count

    def slots(self, now: datetime) -> tuple[Slot, ...]:
        """Return every slot of the window, empty ones too, and what a fast clock put into the future."""
        begins = sorted({*self.window.slots(now), *self.by_slot})
        nothing = [0] * (3 + len(BUCKETS))
        shown = [(begin, self.by_slot.get(begin, nothing)) for begin in begins]
        return tuple(Slot(begin, row[0], row[1], row[2], tuple(row[3:])) for begin, row in shown)

    def top(self) -> tuple[ErrorCount, ...]:
        """Return the most frequent causes of failure."""
        failed = sum(self.errors.values())
        ordered = sorted(self.errors.items(), key=lambda item: (-item[1], item[0]))[:TOP]
        return tuple(ErrorCount(code, count, percent(count, failed) or 0.0) for code, count in ordered)


def _from_rollups(counts: _Counts, scope: Scope, since: datetime) -> None:
    rows = scope.rollups().filter(span_s=counts.window.source_s, begins_at__gte=since).order_by()
    sums = {name: Sum(column) for name, column in _SUMMED.items()}
    for begin, *numbers in rows.filter(outcome__in=SUCCEEDED).values_list("begins_at").annotate(**sums):
        good, total_ms, *took = (int(number) for number in numbers)
        slot = counts.slot(begin)
        slot[:] = map(add, slot, (good, 0, total_ms, *took))
    bad = rows.filter(outcome__in=FAILED).values_list("begins_at").annotate(number=Sum("attempts"))
    for begin, number in bad:
        counts.slot(begin)[1] += int(number)
    for outcome, error, count in rows.values_list("outcome", "error").annotate(number=Sum("attempts")):
        counts.outcome(outcome, error, int(count))


def _from_logs(counts: _Counts, scope: Scope, since: datetime) -> tuple[int, ...]:
    """Count one's own exchanges and return those that failed last: a second search could read the whole log."""
    rows = scope.logs().filter(final=True, at__gte=since, outcome__in=COUNTED).order_by()
    found = rows.values_list("pk", "at", "outcome", "error_code", "error_kind", "duration_ms")
    failures: list[tuple[datetime, int]] = []
    for pk, at, outcome, code, kind, took in found.iterator(chunk_size=5_000):
        counts.outcome(outcome, code or kind, 1)
        if outcome in SUCCEEDED:
            slot = counts.slot(at)
            slot[0] += 1
            slot[2] += took
            slot[3 + bisect_left(BOUNDS_MS, took)] += 1
        elif outcome in FAILED:
            counts.slot(at)[1] += 1
            failures.append((at, pk))
    return tuple(pk for _, pk in nlargest(RECENT, failures))
