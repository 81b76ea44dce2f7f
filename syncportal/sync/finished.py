"""What ended in the threads of a drain, on its way to the drain's own thread.

Guarantees: the waiting thread wakes once for a batch instead of once for each attempt, since every waking takes the
interpreter's lock from a thread that has an answer to read. Does not know what it carries.
"""

from collections import deque
from threading import Event
from typing import Generic, TypeVar

T = TypeVar("T")


class Finished(Generic[T]):
    """A queue for many threads that put and one that takes."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._enough = Event()
        self._wanted = 1

    def put(self, item: T) -> None:
        """Add one item; wake the taker when that makes what it waits for."""
        self._items.append(item)
        if len(self._items) >= self._wanted:
            self._enough.set()

    def take(self, *, first_s: float, batch: int, batch_s: float) -> list[T]:
        """Wait up to `first_s` seconds for one item, then up to `batch_s` for `batch` of them; return what is there."""
        self._wait_for(1, first_s)
        if self._items:
            self._wait_for(batch, batch_s)
        return [self._items.popleft() for _ in range(len(self._items))]

    def _wait_for(self, wanted: int, seconds: float) -> None:
        # Announced before looking: whoever puts after the look sees what is wanted and wakes us.
        self._wanted = wanted
        self._enough.clear()
        if len(self._items) < wanted:
            self._enough.wait(seconds)
