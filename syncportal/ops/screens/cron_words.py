"""Cron lines in words, where a few words say exactly the same: "every 5 minutes", "Sundays at 02:00". Pure.

Guarantees: nothing is said of a line that the words would not tell wholly; the caller shows the line itself anyway.
"""

from typing import Final

_DAYS: Final = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")
_NAMES: Final = {day[:3].lower(): number for number, day in enumerate(_DAYS)}
_MINUTES, _HOURS, _MONTH_DAYS = 60, 24, 31
_MOST_LISTED: Final = 4


def in_words(cron: str) -> str:
    """Return what a valid line of five fields means, "" when it takes more than a few words."""
    minute, hour, day, month, weekday = cron.lower().split()
    if month != "*" or (day != "*" and weekday != "*"):
        return ""
    if hour == "*" or "/" in hour:
        return _through_the_day(minute, hour) if day == weekday == "*" else ""
    times = _times(minute, hour)
    days = _days(day, weekday)
    return f"{days} at {times}" if times and days else ""


def _through_the_day(minute: str, hour: str) -> str:
    if hour == "*":
        if minute == "*":
            return "every minute"
        step = _step(minute, _MINUTES)
        if step:
            return "every minute" if step == 1 else f"every {step} minutes"
        at = _number(minute, _MINUTES)
        return f"every hour at minute {at}" if at is not None else ""
    step, at = _step(hour, _HOURS), _number(minute, _MINUTES)
    if not step or at is None:
        return ""
    return f"every hour at minute {at}" if step == 1 else f"every {step} hours from 00:{at:02}"


def _times(minute: str, hour: str) -> str:
    at, hours = _number(minute, _MINUTES), [_number(part, _HOURS) for part in hour.split(",")]
    known = sorted({one for one in hours if one is not None})
    if at is None or None in hours or len(known) > _MOST_LISTED:
        return ""
    return _listed([f"{one:02}:{at:02}" for one in known])


def _days(day: str, weekday: str) -> str:
    if day == weekday == "*":
        return "daily"
    if weekday == "*":
        number = _number(day, _MONTH_DAYS + 1)
        return f"on day {number} of each month" if number else ""
    first, dash, last = weekday.partition("-")
    if dash:
        begin, end = _weekday(first), _weekday(last)
        return f"{_DAYS[begin]} to {_DAYS[end]}" if begin is not None and end is not None and begin < end else ""
    numbers = [_weekday(part) for part in weekday.split(",")]
    known = sorted({one for one in numbers if one is not None})
    return _listed([_DAYS[one] for one in known]) if None not in numbers and len(known) <= _MOST_LISTED else ""


def _weekday(text: str) -> int | None:
    number = _number(text, len(_DAYS) + 1)
    return _NAMES.get(text) if number is None else number % len(_DAYS)


def _step(text: str, whole: int) -> int:
    """Return the step of "*/5"; 0 where it does not divide the whole, because the words would lie."""
    every, _, number = text.partition("/")
    step = _number(number, whole + 1)
    return step if every == "*" and step and whole % step == 0 else 0


def _number(text: str, below: int) -> int | None:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 2 else None
    return number if number is not None and number < below else None


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
