"""More errors than usual: compares an hour with what is usual at that hour of the week. Pure arithmetic, no clock.

Compared are shares of failed attempts, so that growing traffic is no alarm. Usual is the median of comparable hours, so
that an outage in the past does not become the new normal, and a nightly batch that always fails a little is not
reported every night. Guarantees: no spike below the minimum sample, nor without enough history to call anything usual.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Final

HISTORY: Final = timedelta(days=28)
_RECENT: Final = timedelta(days=7)
_NEIGHBOUR_H: Final = 1
_WEEK_H: Final = 7 * 24
_ENOUGH_COMPARABLE: Final = 6  # of the up to 12 hours around this one in the last four weeks
_ENOUGH_RECENT: Final = 12
_SAMPLE: Final = 5  # attempts that an hour of the past needs to say anything
_FEWEST_FAILURES: Final = 5
_LEAST_SHARE: Final = 0.02  # fewer failures than this worry nobody, however unusual they are
_DEVIATIONS: Final = 4.0
_MAD: Final = 1.4826  # turns a median of deviations into a standard deviation


@dataclass(frozen=True, slots=True)
class Hour:
    """What one hour saw: attempts that ended, and how many of them failed."""

    start: datetime
    attempts: int
    failed: int


class Level(StrEnum):
    """How an hour compares."""

    USUAL = "usual"
    SPIKE = "spike"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Compared:
    """An hour against the usual; shares are fractions from 0 to 1."""

    level: Level
    share: float = 0.0
    usual: float = 0.0


def compare(now: Hour, history: Sequence[Hour], *, times: float, minimum: int) -> Compared:
    """Compare an hour with its history; `times` is how many times the usual share it takes to be a spike."""
    if now.attempts < max(1, minimum):
        return Compared(Level.UNKNOWN)
    shares = _usual_shares(now.start, history)
    if not shares:
        return Compared(Level.UNKNOWN, now.failed / now.attempts)
    usual = median(shares)
    spread = _MAD * median(abs(share - usual) for share in shares)
    # What chance alone does to this many attempts, and how much comparable hours differ among themselves.
    chance = math.sqrt(max(usual, 1 / now.attempts) * (1 - min(usual, 0.99)) / now.attempts)
    limit = max(_LEAST_SHARE, usual * times, usual + _DEVIATIONS * chance, usual + _DEVIATIONS * spread)
    share = now.failed / now.attempts
    spike = now.failed >= _FEWEST_FAILURES and share > min(limit, 0.95)
    return Compared(Level.SPIKE if spike and share > usual else Level.USUAL, share, usual)


def _usual_shares(start: datetime, history: Sequence[Hour]) -> list[float]:
    """Return the shares of the hours that say what is usual now; empty when there are too few."""
    known = [
        hour for hour in history if hour.attempts >= _SAMPLE and start - HISTORY - timedelta(hours=2) <= hour.start
    ]
    known = [hour for hour in known if hour.start < start]
    comparable = [hour for hour in known if _same_hour_of_the_week(hour.start, start)]
    if len(comparable) >= _ENOUGH_COMPARABLE:
        return [hour.failed / hour.attempts for hour in comparable]
    recent = [hour for hour in known if hour.start >= start - _RECENT]
    return [hour.failed / hour.attempts for hour in recent] if len(recent) >= _ENOUGH_RECENT else []


def _same_hour_of_the_week(then: datetime, now: datetime) -> bool:
    apart = round((now - then).total_seconds() / 3600) % _WEEK_H
    weeks_ago = (now - then) >= timedelta(hours=_WEEK_H - _NEIGHBOUR_H - 0.5)
    return weeks_ago and min(apart, _WEEK_H - apart) <= _NEIGHBOUR_H
