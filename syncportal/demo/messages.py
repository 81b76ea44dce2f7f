"""One request and one answer of the demo master, free of any transport.

Owns: the two shapes that travel between the wire, the API and the distortions.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from syncportal.demo.store import Write

READ_PHASES = ("list", "detail")


@dataclass(slots=True)
class Call:
    """One request. `phase` is list, detail, create, update, delete, or "" outside the API; times are monotonic."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    arrived_at: float = field(default_factory=time.monotonic)
    request_id: str = ""
    collection: str = ""
    object_id: str = ""
    phase: str = ""


@dataclass(slots=True)
class Answer:
    """One answer. `raw` wins over `document`; `shape` is object, list, error or none; `write` is what was applied."""

    status: int
    document: Any = None
    shape: str = "none"
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    raw: bytes | None = None
    write: Write | None = None


@dataclass(slots=True)
class Heard:
    """One row of the request log. `status` stays None while, or because, no answer was sent; `write_seq` 0 = none."""

    number: int
    at: float
    method: str
    path: str
    collection: str
    object_id: str
    phase: str
    request_id: str
    if_match: str
    idempotency_key: str
    faults: tuple[str, ...] = ()
    status: int | None = None
    write_seq: int = 0
    answered_at: float | None = None
