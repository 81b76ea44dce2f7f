"""What one conversation with a remote consists of, as values.

Owns the frozen dataclasses that cross the edge of this package. They guarantee nothing but their shape: redaction and
caps were applied by the client before an `Exchange` is built. Does not parse, judge or store anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final


class Empty:
    """The body of an answer that has none (204, or zero bytes); differs from a JSON null."""

    _instance: Empty | None = None

    def __new__(cls) -> Empty:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "EMPTY"

    def __reduce__(self) -> str:
        return "EMPTY"


EMPTY: Final = Empty()


class Headers(dict[str, str]):
    """Headers of an answer; names are kept in lower case and looked up in any case."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        super().__init__({name.lower(): value for name, value in (headers or {}).items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header's value, in any case."""
        return super().get(name.lower(), default)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP exchange as it may be stored and shown: redacted, bodies capped by bytes with a mark.

    `status` is None when no status line came. `response_bytes` counts decompressed bytes received, before the cap.
    `error` is "" or the value of an ErrorKind, `error_detail` the operator's sentence.
    """

    purpose: str
    method: str
    url: str
    request_headers: Mapping[str, str]
    request_body: str | None
    status: int | None
    response_headers: Mapping[str, str]
    response_body: str | None
    response_bytes: int
    started_at: datetime
    duration_ms: int
    error: str = ""
    error_detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer with an acceptable status: `headers` ignore case, `body` is parsed JSON or EMPTY."""

    status: int
    headers: Mapping[str, str]
    body: Any
    exchange: Exchange


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """One object as the remote holds it.

    `version` is canonical text: an integer as decimal digits, an ETag raw with its quotes, None when there is none.
    """

    external_id: str | None
    data: dict[str, Any]
    version: str | None
    tombstone: bool = False


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The object that a read returned."""

    object: RemoteObject
    answer: Answer


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The outcome of an accepted write; `object` is None when the answer does not show the whole object.

    `version` comes from the object, or from the answer's headers when there is no object. `external_id` is the id that
    the answer or its Location names, also when it shows nothing else.
    """

    object: RemoteObject | None
    version: str | None
    answer: Answer
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One list page; `next` is an opaque cursor text, None on the last page.

    `problems` names rows that could not be read as objects of this resource.
    """

    objects: tuple[RemoteObject, ...]
    problems: tuple[str, ...]
    next: str | None
    total: int | None
    exchange: Exchange
    raw_count: int = field(default=0)
