"""How values are spelled in what we send: dates, numbers, times as parameters.

Owns: the patterns of `write_format`, `modified_since.format` and `if_unmodified_since`. Guarantees: pure; a value that
does not fit its pattern (a text that is no time, null) is sent as it is.
A pattern is strftime (times without zone are UTC; times are written in UTC; `%L` is milliseconds), or a number format
in braces (`{:.2f}`), or one of the names below.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from email.utils import format_datetime
from typing import Any

from syncportal.remote.normalizers import parse_number, parse_time


def _epoch(time: datetime) -> int:
    return int(time.timestamp())


def _epoch_ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000 + time.microsecond // 1000


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


_TIMES: Mapping[str, Callable[[datetime], Any]] = {
    "epoch": _epoch,
    "epoch_ms": _epoch_ms,
    "iso": _iso,
    "http_date": lambda time: format_datetime(time.astimezone(UTC).replace(microsecond=0), usegmt=True),
}
_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "string": lambda value: str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value,
    "number": lambda value: _plain_number(value),
    "integer": lambda value: _plain_number(value),
    "boolean_number": lambda value: int(value) if isinstance(value, bool) else value,
}
NAMES = (*_TIMES, *_VALUES)


def is_pattern(pattern: str) -> bool:
    """Say whether `pattern` is one that `written` understands."""
    if pattern in NAMES:
        return True
    if "{" in pattern:
        try:
            return bool(pattern.format(1.5))
        except (ValueError, IndexError, KeyError, AttributeError):
            return False
    return "%" in pattern


def written(value: Any, pattern: str) -> Any:
    """Return `value` in the spelling that `pattern` asks for."""
    if value is None:
        return None
    if pattern in _VALUES:
        return _VALUES[pattern](value)
    if "{" in pattern:
        number = parse_number(value)
        return value if number is None else pattern.format(number)
    time = _time_of(value)
    return value if time is None else time_text(time, pattern)


def time_text(time: datetime, pattern: str) -> Any:
    """Return a time by `pattern`; `{epoch}`, `{epoch_ms}`, `{iso}` and `{}` may stand inside other text."""
    time = time.astimezone(UTC)
    if pattern in _TIMES:
        return _TIMES[pattern](time)
    if not pattern or pattern == "{}":
        return _iso(time.replace(microsecond=0))
    for name, spell in _TIMES.items():
        pattern = pattern.replace("{" + name + "}", str(spell(time)).replace("%", "%%"))
    pattern = pattern.replace("{}", _iso(time.replace(microsecond=0)))
    return time.strftime(pattern.replace("%L", f"{time.microsecond // 1000:03d}")) if "%" in pattern else pattern


def http_date(version: str) -> str:
    """Return a version that is a time as an HTTP date (whole seconds, cut off); other text as it is."""
    time = _time_of(int(version) if version.isascii() and version.isdigit() and len(version) < 18 else version)
    return version if time is None else str(time_text(time, "http_date"))


def _time_of(value: Any) -> datetime | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        try:
            return datetime.fromtimestamp(value / 1000 if abs(value) >= 1e11 else value, UTC)
        except (OverflowError, ValueError, OSError):
            return None
    parsed = parse_time(value)
    if isinstance(parsed, datetime) or parsed is None:
        return parsed
    return datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC) if isinstance(parsed, date) else None


def _plain_number(value: Any) -> Any:
    number = parse_number(value) if isinstance(value, str) else None
    if number is None:
        return value
    return number if isinstance(number, int) else float(number)
