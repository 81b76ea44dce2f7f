"""Versions of remote objects, as canonical text, and how two of them compare.

Owns: `canonical` and `compare`. Guarantees: an order is claimed only where one exists (two integers, two RFC 3339
times); everything else, entity tags above all, is only equal or different. Pure.
"""

import re
from datetime import UTC, datetime
from typing import Any, Literal

Order = Literal["equal", "newer", "older", "different"]
LONGEST = 255

_INTEGER = re.compile(r"-?\d{1,40}\Z", re.ASCII)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:[Zz]|([+-])(\d\d):(\d\d))\Z", re.ASCII
)


def canonical(value: Any) -> str | None:
    """Return a version as text: integers as decimal text, text as it is; None for what cannot be a version.

    What is longer than can be kept is none either, be it a text or a number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    whole = isinstance(value, float) and value.is_integer()
    text = str(int(value)) if whole else str(value)
    return text if 0 < len(text) <= LONGEST else None


def instant(text: str) -> tuple[datetime, str] | None:
    """Parse an RFC 3339 time into its second in UTC and the digits of its fraction; None when it is none."""
    match = _RFC3339.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    zone = "Z" if match.group(8) is None else f"{match.group(8)}{match.group(9)}:{match.group(10)}"
    try:
        whole = datetime.fromisoformat(
            f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{min(second, 59):02d}{zone}"
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return whole, (match.group(7) or "").rstrip("0")


def compare(a: str | None, b: str | None) -> Order:
    """Say what `b` is relative to `a`: ordered only if both are integers or both RFC 3339 times."""
    if a == b:
        return "equal"
    if a is None or b is None:
        return "different"
    if _INTEGER.match(a) and _INTEGER.match(b):
        return _ordered(int(a), int(b))
    first, second = instant(a), instant(b)
    if first is None or second is None:
        return "different"
    return _ordered((first[0], first[1].ljust(12, "0")), (second[0], second[1].ljust(12, "0")))


def _ordered(a: Any, b: Any) -> Order:
    if a == b:
        return "equal"
    return "newer" if b > a else "older"


def is_ordered(version: str | None) -> bool:
    """Say whether `version` belongs to an ordered kind."""
    return version is not None and (_INTEGER.match(version) is not None or instant(version) is not None)


def is_finer_than_a_second(version: str | None) -> bool:
    """Say whether two edits within one second get different versions: a counter, or a time with a fraction."""
    if version is None:
        return False
    if _INTEGER.match(version):
        return not (len(version) == 10 and version.startswith("1"))
    time = instant(version)
    return time is not None and time[1] != ""


def is_coarse(version: str | None) -> bool:
    """Tell whether `version` is a time in whole seconds, under which two edits may hide."""
    return is_ordered(version) and not is_finer_than_a_second(version)
