"""The hourly comparison with the usual: synthetic histories, and which of them may raise an alarm."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from syncportal.ops.alerts.anomaly import Compared, Hour, Level, compare

NOW = datetime(2026, 3, 23, 9, 30, tzinfo=UTC)  # a Monday
START = NOW - timedelta(hours=1)
Shape = Callable[[datetime, int], tuple[int, int]]


def history(shape: Shape, *, days: int = 28) -> list[Hour]:
    """Make the hours of the past; `shape` says attempts and failures of an hour that lies so many hours back."""
    first = START.replace(minute=0)
    starts = [(first - timedelta(hours=back), back) for back in range(1, 24 * days)]
    return [Hour(start, *shape(start, back)) for start, back in reversed(starts)]


def judged(
    attempts: int, failed: int, shape: Shape, *, days: int = 28, times: float = 3, minimum: int = 20
) -> Compared:
    return compare(Hour(START, attempts, failed), history(shape, days=days), times=times, minimum=minimum)


def quiet(start: datetime, back: int) -> tuple[int, int]:
    return (40, 0) if back % 11 else (40, 1)


def growing(start: datetime, back: int) -> tuple[int, int]:
    attempts = 4000 - 5 * back
    return attempts, attempts // 50  # always 2 %


def weekly(start: datetime, back: int) -> tuple[int, int]:
    """Every Monday morning an import fails for a third of its rows; else 1 %."""
    batch = start.weekday() == 0 and 8 <= start.hour <= 9
    return (600, 200) if batch else (100, 1)


def noisy(start: datetime, back: int) -> tuple[int, int]:
    return 200, 4 + (back * 7919) % 20  # 2 to 12 %


def outage_last_week(start: datetime, back: int) -> tuple[int, int]:
    """Two days of complete failure, a week ago, at this hour as well."""
    return (300, 290) if 6.5 * 24 <= back <= 8.5 * 24 else (300, 3)


@pytest.mark.parametrize(
    ("name", "shape", "attempts", "failed", "level"),
    [
        ("quiet stays quiet", quiet, 40, 1, Level.USUAL),
        ("a few failures on a quiet day are none", quiet, 40, 4, Level.USUAL),
        ("a quarter fails on a quiet day", quiet, 40, 10, Level.SPIKE),
        ("few of very many are none, however unusual", quiet, 4000, 60, Level.USUAL),
        ("traffic grows, its errors with it", growing, 8000, 165, Level.USUAL),
        ("traffic grows, its errors faster", growing, 8000, 700, Level.SPIKE),
        ("the batch of every Monday", weekly, 600, 205, Level.USUAL),
        ("the batch of every Monday, worse", weekly, 600, 580, Level.SPIKE),
        ("noise within its own width", noisy, 200, 24, Level.USUAL),
        ("far outside of the noise", noisy, 200, 90, Level.SPIKE),
        ("an old outage is not the usual", outage_last_week, 300, 60, Level.SPIKE),
        ("after an old outage all is well", outage_last_week, 300, 4, Level.USUAL),
        ("fewer errors than usual", noisy, 200, 0, Level.USUAL),
    ],
)
def test_a_history_and_its_hour(name: str, shape: Shape, attempts: int, failed: int, level: Level) -> None:
    assert judged(attempts, failed, shape).level is level, name


def test_the_same_load_at_another_hour_of_the_week_is_a_spike() -> None:
    tuesday = NOW + timedelta(days=1)
    hours = history(weekly)
    shifted = [Hour(hour.start + timedelta(days=1), hour.attempts, hour.failed) for hour in hours]
    assert compare(Hour(tuesday - timedelta(hours=1), 600, 205), hours + shifted[-24:], times=3, minimum=20).level is (
        Level.SPIKE
    )


@pytest.mark.parametrize("attempts", [0, 1, 19])
def test_below_the_minimum_sample_nothing_is_said(attempts: int) -> None:
    assert judged(attempts, attempts, quiet).level is Level.UNKNOWN


def test_without_enough_history_nothing_is_usual() -> None:
    assert compare(Hour(START, 500, 500), [], times=3, minimum=20).level is Level.UNKNOWN
    few = history(quiet)[-11:]
    assert compare(Hour(START, 500, 500), few, times=3, minimum=20).level is Level.UNKNOWN
    assert compare(Hour(START, 500, 500), history(quiet)[-12:], times=3, minimum=20).level is Level.SPIKE


def test_hours_with_hardly_any_attempts_teach_nothing() -> None:
    assert judged(500, 500, lambda start, back: (4, 4)).level is Level.UNKNOWN


def test_a_remote_that_usually_fails_is_reported_only_when_nearly_all_fails() -> None:
    def half(start: datetime, back: int) -> tuple[int, int]:
        return 100, 50

    assert judged(100, 60, half).level is Level.USUAL
    assert judged(100, 99, half).level is Level.SPIKE


def test_the_factor_is_the_persons() -> None:
    def two_percent(start: datetime, back: int) -> tuple[int, int]:
        return 1000, 20

    assert judged(1000, 100, two_percent, times=3).level is Level.SPIKE
    assert judged(1000, 100, two_percent, times=6).level is Level.USUAL


def test_the_shares_are_told() -> None:
    found = judged(200, 90, noisy)
    assert (found.share, 0.05 < found.usual < 0.09) == (0.45, True)
