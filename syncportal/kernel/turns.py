"""Turns: at most so many of one group's processes do a long thing at once.

Owns the locks that a worker pool shares. Guarantees that a process that dies gives its turn back: the kernel holds the
locks. Without `open_turns` (a command, a test) there is no limit. Does not: queue anybody; who gets no turn goes on.
"""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_file: IO[bytes] | None = None
_places = 0


def open_turns(places: int) -> None:
    """Limit this process and the ones it forks to `places` turns at once; call it before forking."""
    global _file, _places
    _file, _places = tempfile.TemporaryFile(), max(1, places)  # noqa: SIM115 (kept open for life)


def close_turns() -> None:
    """Take the limit away."""
    global _file, _places
    if _file is not None:
        _file.close()
    _file, _places = None, 0


@contextmanager
def turn() -> Iterator[bool]:
    """Take a turn for the block; yields False when all are taken."""
    place = _take()
    try:
        yield place is not None
    finally:
        if place is not None and _file is not None:
            fcntl.lockf(_file, fcntl.LOCK_UN, 1, place)


def _take() -> int | None:
    if _file is None:
        return 0
    for place in range(_places):
        try:
            fcntl.lockf(_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            continue
        return place
    return None
