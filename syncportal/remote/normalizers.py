"""One spelling for every value: what equality and digests are taken from.

Owns: the named normalisers of the `normalize` knob, and `canonical`. Guarantees: total (any JSON value goes in), pure,
and bounded: a numeric string with a huge exponent is left a string.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from syncportal.kernel import pointer as pointers
from syncportal.remote.shapes import Shape

Normalizer = Callable[[Any], Any]

_NUMBER = re.compile(r"\s*[+-]?\d{1,40}(?:\.\d{0,40})?(?:[eE][+-]?\d{1,2})?\s*\Z", re.ASCII)
_TIME = re.compile(
    r"\s*(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,12}))?)?\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?)?\s*\Z",
    re.ASCII,
)
_MILLISECONDS_FROM = 1e11


def parse_number(value: Any) -> int | Decimal | None:
    """Read a number, or text that spells one, exactly; None when it is none."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize()
    if isinstance(value, float):
        return int(value) if value.is_integer() else Decimal(repr(value))
    if isinstance(value, str) and _NUMBER.match(value):
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            return None
        return int(number) if number == number.to_integral_value() else number.normalize()
    return None


def parse_time(value: Any, *, zone_needed: bool = False) -> datetime | date | None:
    """Read a time or day in its usual spellings; a time without a zone is UTC unless `zone_needed`."""
    match = _TIME.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    day, minute, second, fraction, zone = match.groups()
    try:
        if minute is None:
            return date.fromisoformat(day)
        if zone is None and zone_needed:
            return None
        zone = "+00:00" if zone in (None, "Z", "z", "UTC") else zone
        if len(zone) == 3:
            zone += ":00"
        text = f"{day}T{minute}:{second or '00'}.{(fraction or '').ljust(6, '0')[:6]}{zone}"
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _as_time(value: Any, *, zone_needed: bool = False) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not zone_needed:
        try:
            seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
            return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()
        except (OverflowError, ValueError):
            return value
    time = parse_time(value, zone_needed=zone_needed)
    return time.isoformat() if isinstance(time, datetime) else value


def _as_day(value: Any) -> Any:
    time = parse_time(value)
    if isinstance(time, datetime):
        return time.date().isoformat()
    return time.isoformat() if isinstance(time, date) else value


def _as_number(value: Any) -> Any:
    number = parse_number(value)
    return value if number is None else number


def _as_boolean(value: Any) -> Any:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower(), value)
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    return value


def _as_string(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        number = parse_number(value)
        return str(number)
    return value


def _ordered(value: Any) -> Any:
    return sorted(value, key=lambda item: (type(item).__name__, repr(item))) if isinstance(value, list) else value


def _on_text(change: Callable[[str], str]) -> Normalizer:
    return lambda value: change(value) if isinstance(value, str) else value


def _second(value: Any) -> Any:
    time = parse_time(value)
    return time.replace(microsecond=0).isoformat() if isinstance(time, datetime) else value


def _rounded(places: int) -> Normalizer:
    def apply(value: Any) -> Any:
        number = parse_number(value)
        exact = None if number is None else Decimal(number)
        if exact is None or abs(exact) > Decimal(10) ** 60:
            return value
        return _as_number(round(exact, places))

    return apply


NORMALIZERS: Mapping[str, Normalizer] = {
    "trim": _on_text(str.strip),
    "spaces": _on_text(lambda text: " ".join(text.split())),
    "case": _on_text(str.casefold),
    "null_empty": lambda value: None if value in ("", [], {}) else value,
    "null_false": lambda value: None if value is False else value,
    "null_zero": lambda value: None if value == 0 and not isinstance(value, bool) else value,
    "order": _ordered,
    "number": _as_number,
    "boolean": _as_boolean,
    "string": _as_string,
    "time": _as_time,
    "second": _second,
    "day": _as_day,
}
ALIASES: Mapping[str, str] = {
    "strip": "trim", "whitespace": "spaces", "lower": "case", "casefold": "case", "case_insensitive": "case",
    "empty_null": "null_empty", "empty_is_null": "null_empty", "null": "null_empty", "null_is_empty": "null_empty",
    "sort": "order", "sorted": "order", "unordered": "order", "numeric": "number", "bool": "boolean",
    "text": "string", "date-time": "time", "datetime": "time", "date": "day", "seconds": "second",
}  # fmt: skip
PRECISION_NAMES = ("precision", "round", "decimal", "decimals")


def normalizer(name: str) -> Normalizer:
    """Return the normaliser of that name; `precision:2` rounds numbers. Raises KeyError for an unknown name."""
    word, _, argument = name.partition(":")
    if word in PRECISION_NAMES:
        if not (argument.isascii() and argument.isdigit() and len(argument) < 3):
            raise KeyError(name)
        return _rounded(int(argument))
    return NORMALIZERS[ALIASES.get(name, name)]


def canonical(value: Any, *, shape: Shape, at: str, normalizers: Mapping[str, tuple[Normalizer, ...]]) -> Any:
    """Return the canonical spelling of `value`, which stands at the pointer `at` and has that shape."""
    if isinstance(value, dict):
        members = (
            (name, canonical(inner, shape=shape.child(name), at=at + pointers.build((name,)), normalizers=normalizers))
            for name, inner in sorted(value.items())
        )
        value = {name: inner for name, inner in members if inner is not None}
    elif isinstance(value, list):
        inside = shape.child("*")
        value = [canonical(inner, shape=inside, at=at + "/*", normalizers=normalizers) for inner in value]
    else:
        value = _by_shape(value, shape)
    for normalize in normalizers.get(at, ()):
        value = normalize(value)
    # A boolean equals itself only, never 0, 1 or a text: no text holds NUL.
    return f"\x00{value}" if isinstance(value, bool) else value


def _by_shape(value: Any, shape: Shape) -> Any:
    if value is None:
        return None
    kind = shape.type
    if kind in ("number", "integer"):
        return _as_number(value)
    if kind == "boolean":
        return _as_boolean(value)
    if shape.format == "date-time":
        return _as_time(value)
    if shape.format == "date":
        return _as_day(value)
    if kind == "string":
        return _as_string(value) if not isinstance(value, str) else value
    return _by_guess(value)


def _by_guess(value: Any) -> Any:
    if isinstance(value, float):
        return _as_number(value)
    return _as_time(value, zone_needed=True) if isinstance(value, str) and len(value) > 15 else value
