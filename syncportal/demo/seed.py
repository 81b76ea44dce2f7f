"""The demo master's contents: deterministic accounts and shifts, and the schemas it enforces on writes.

Owns: rows and schemas. Guarantees: the same count gives the same rows on every machine and day.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

_NAMES = (
    "Blue Heron Catering",
    "Öresund Clinic",
    "Night Desk AB",
    'Hall "B" Events',
    "Cafe/Bar Group",
    "Søndergaard & Co",
)
_CITIES = ("Malmö", "Aarhus", "Gdańsk", "Porto", "Leeds", "Zürich", "Tartu")
_SITES = ("Harbour Ward", "Öresund Clinic", "Night Desk", 'Hall "B"', "Cafe/Bar")
_TIERS = ("bronze", "silver", "gold")
_STATES = ("open", "filled", "cancelled")
_START = dt.datetime(2026, 12, 1, 6, 0, tzinfo=dt.UTC)

ACCOUNT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "email", "tier", "active"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "email": {"type": "string", "minLength": 3},
        "tier": {"type": "string", "enum": list(_TIERS)},
        "active": {"type": "boolean"},
        "city": {"type": ["string", "null"]},
        "credit": {"type": ["number", "null"], "minimum": 0},
        "notes": {"type": ["string", "null"]},
    },
}

SHIFT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["code", "title", "seats"],
    "properties": {
        "code": {"type": "string", "minLength": 1},
        "title": {"type": "string", "minLength": 1},
        "site": {"type": ["string", "null"]},
        "worker": {"type": ["string", "null"]},
        "seats": {"type": "integer", "minimum": 0},
        "rate": {"type": ["number", "null"], "minimum": 0},
        "starts_at": {"type": ["string", "null"]},
        "ends_at": {"type": ["string", "null"]},
        "status": {"type": "string", "enum": list(_STATES)},
        "confirmed": {"type": "boolean"},
    },
}


def stamp(moment: dt.datetime) -> str:
    """Write a UTC moment as RFC 3339 with whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def account_rows(count: int) -> Iterator[dict[str, Any]]:
    """Yield `count` accounts, ACC-0001 upwards."""
    for i in range(1, count + 1):
        yield {
            "id": f"ACC-{i:04d}",
            "name": f"{_NAMES[i % len(_NAMES)]} {i}",
            "email": f"account{i:04d}@example.org",
            "tier": _TIERS[i % 3],
            "active": i % 7 != 0,
            "city": _CITIES[i % len(_CITIES)],
            "credit": round(250.0 + (i * 37 % 1000) + (i % 4) * 0.25, 2),
            "notes": "" if i % 3 else f"Invoice by the {i % 28 + 1}th.",
            "updated_at": stamp(_START - dt.timedelta(days=30) + dt.timedelta(minutes=i)),
        }


def shift_rows(count: int) -> Iterator[dict[str, Any]]:
    """Yield `count` shifts, SH-0001 upwards."""
    for i in range(1, count + 1):
        begins = _START + dt.timedelta(hours=6 * i)
        yield {
            "id": f"SH-{i:04d}",
            "code": f"SH-{i:04d}",
            "title": f"Shift {i} – {_SITES[i % len(_SITES)]}",
            "site": _SITES[i % len(_SITES)],
            "worker": f"worker{i % 17:02d}@example.org",
            "seats": 1 + i % 6,
            "rate": round(18.5 + (i % 9) * 0.75, 2),
            "starts_at": stamp(begins),
            "ends_at": stamp(begins + dt.timedelta(hours=8)),
            "status": _STATES[i % 3],
            "confirmed": i % 2 == 0,
            "updated_at": stamp(_START - dt.timedelta(days=30) + dt.timedelta(minutes=i)),
        }
