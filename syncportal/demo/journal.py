"""The write log as a file: one JSON line per applied write, so that it survives a kill -9.

Owns: appending and reading those lines. Guarantees: a line is with the operating system before the write is answered;
a torn last line is ignored on reading. Does not: sync to disk, a power loss may cost the last lines.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Write:
    """One applied write. `at` is monotonic seconds; before/after are None when the object did not or no longer exists.

    `actor` is client (over the API) or outside (somebody else's edit). Never change the documents.
    """

    seq: int
    at: float
    wall: str
    collection: str
    object_id: str
    method: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    version_before: Any
    version_after: Any
    idempotency_key: str
    if_match: str
    request_id: str
    actor: str


class Journal:
    """An append-only file of writes; with no path it does nothing."""

    def __init__(self, path: Path | None) -> None:
        self._fd = -1
        if path is not None:
            _mend(path)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, write: Write) -> None:
        """Add one line; it is in the kernel's hands when this returns."""
        if self._fd >= 0:
            line = json.dumps({name: getattr(write, name) for name in _FIELDS}, separators=(",", ":"))
            os.write(self._fd, line.encode() + b"\n")

    def clear(self) -> None:
        """Empty the file."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Close the file; later writes are not logged to it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_journal(path: Path) -> Iterator[Write]:
    """Yield the complete lines of a write log, oldest first."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield Write(**json.loads(line))


def _mend(path: Path) -> None:
    """Cut a torn last line off, else the next line would be glued to it."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.truncate(path, whole)


_FIELDS = tuple(item.name for item in dataclasses.fields(Write))
