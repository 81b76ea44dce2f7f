"""The knobs of a remote and a resource as frozen dataclasses, with their defaults.

Owns the shapes only: what each knob is called in code, its type and what holds when it is not given. Guarantees
nothing about their content; configuration.py validates, spec.py fills them. Does not: read files or the database.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def nothing() -> Mapping[str, Any]:
    """Return the empty mapping that no one can change."""
    return _NOTHING


@dataclass(frozen=True, slots=True)
class AuthSpec:
    """How a request proves who we are; `credential` is `env:NAME`, `stored` or empty, never the secret."""

    kind: str = "none"
    credential: str = ""
    name: str = ""
    prefix: str | None = None
    token_path: str = ""
    token_body: Any = None
    token_pointer: str = ""
    ttl_s: float | None = None
    token_url: str = ""
    scope: str = ""
    client_id: str = ""
    hook: str = ""


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """Calls at once and per second over all workers (None: no rate limit), seconds to connect and for a whole call."""

    concurrency: int = 8
    per_second: float | None = None
    connect_timeout_s: float = 3.0
    total_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class BreakerSpec:
    """Opens for `open_s` seconds at `unreachable` in a row, or `failures` in a row on at least `records` records."""

    unreachable: int = 3
    failures: int = 5
    records: int = 3
    open_s: float = 30.0


@dataclass(frozen=True, slots=True)
class PageSpec:
    """How a list goes on after a page."""

    style: str = "none"
    name: str = ""
    map: Mapping[str, str] = field(default_factory=nothing)
    pointer: str = ""
    relative_to: Literal["request", "base"] = "request"
    param: str = ""
    more: str | None = None
    start: int | None = None
    total: str | None = None
    size_param: str = ""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ListSpec:
    """Where the list is and where its objects stand in an answer."""

    path: str
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=nothing)
    items: str = ""
    row: str = ""
    stub: bool = False
    page: PageSpec = PageSpec()


@dataclass(frozen=True, slots=True)
class DetailSpec:
    """Path template of one object, and where the object stands in the answer."""

    path: str
    item: str = ""


@dataclass(frozen=True, slots=True)
class CreateSpec:
    """How an object is created, who chooses its id, and how an ambiguous create is looked up."""

    method: str = "POST"
    path: str = ""
    body: Any = None
    id: Literal["server", "client"] = "server"
    lookup: Mapping[str, str] = field(default_factory=nothing)


@dataclass(frozen=True, slots=True)
class UpdateSpec:
    """How a change is written."""

    method: str = "PUT"
    path: str = ""
    semantics: Literal["merge", "replace"] = "replace"
    wrap: tuple[str, ...] = ()
    encoding: Literal["json", "form"] = "json"
    constant: Mapping[str, Any] = field(default_factory=nothing)
    id_in_body: Mapping[str, int] = field(default_factory=nothing)


@dataclass(frozen=True, slots=True)
class DeleteSpec:
    """How an object is deleted."""

    method: str = "DELETE"
    path: str = ""
    body: Any = None


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """Where an object's version comes from: body, etag or none."""

    source: str = "none"
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class PreconditionSpec:
    """How a write says which version it was made from; `on_delete` may name another query parameter."""

    send: str = "none"
    format: str = ""
    pointer: str = ""
    param: str = ""
    required: bool = False
    on_delete: str = "same"


@dataclass(frozen=True, slots=True)
class ChecksumSpec:
    """The named algorithm over canonical JSON of `fields`, found in the body at `pointer` or in the header `name`."""

    source: str
    at: str
    algorithm: str = "sha256"
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModifiedSinceSpec:
    """The list parameter that asks for what changed since a time, its format, and how far to reach back."""

    param: str
    format: str = ""
    overlap_s: float = 60.0


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A list that shows a date interval only: parameter names for its start (and end), and its half width in days."""

    params: tuple[str, ...]
    days: int


@dataclass(frozen=True, slots=True)
class CompensationSpec:
    """Retry policy of compensating tasks."""

    attempts: int = 10
    base_s: float = 5.0
    cap_s: float = 3600.0


DEFAULT_REPAIR: Mapping[str, str] = MappingProxyType(
    {
        "version_drift": "take_remote",
        "data_mismatch": "take_remote",
        "missing_remote": "alert",
        "missing_local": "alert",
        "duplicate_key": "alert",
        "invalid_remote": "alert",
    }
)


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """What happens on failure, conflict and drift. Durations in seconds."""

    delays_s: tuple[float, ...] = (5.0, 25.0, 125.0)
    jitter: float = 0.25
    max_retry_after_s: float = 3600.0
    compensation: CompensationSpec = CompensationSpec()
    conflict: Literal["manual", "remote_wins", "local_wins"] = "manual"
    fields: Mapping[str, str] = field(default_factory=nothing)
    merge_disjoint: bool = True
    repair: Mapping[str, str] = field(default_factory=lambda: DEFAULT_REPAIR)
    lag_s: float = 60.0
    settle_s: float = 30.0
    schedule: str = "0 2 * * 0"
    parallel: int = 1
    escalate_after_h: float = 24.0
    brake_percent: float = 10.0

    @property
    def max_attempts(self) -> int:
        """Return how often a push is tried: once, and once more after each delay."""
        return len(self.delays_s) + 1
