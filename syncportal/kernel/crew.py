"""Threads that outlive the requests that use them: making and ending sixteen costs more than what a group stores.

Owns: the process's threads for the calls of requests. Guarantees: of one crew's calls at most so many run at once,
begun in the order they were submitted, under the caller's correlation id; `shutdown` returns when none runs any more.
Does not: bound what several crews run together; the slots of a remote do.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from threading import Condition
from typing import Any, TypeVar

from syncportal.kernel import correlation

T = TypeVar("T")
MOST_THREADS = 256

_threads: ThreadPoolExecutor


def _begin() -> None:
    global _threads
    _threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="crew")


_begin()
os.register_at_fork(after_in_child=_begin)  # a child process has none of its parent's threads


class Crew(Executor):
    """An executor of so many calls at once, for one caller."""

    def __init__(self, width: int) -> None:
        """Take how many calls may run at once; the caller's correlation id is theirs too."""
        self._width, self._correlation_id = width, correlation.current()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._workers: set[object] = set()  # begun, or about to be
        self._changed = Condition()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a call as soon as fewer than `width` are running; raises RuntimeError where no thread can be had."""
        future: Future[T] = Future()
        with self._changed:
            self._waiting.append((future, partial(fn, *args, **kwargs)))
            if len(self._workers) < self._width:
                self._add_worker()
        return future

    def _add_worker(self) -> None:
        worker = object()
        self._workers.add(worker)
        try:
            _threads.submit(self._work, worker)
        except RuntimeError:  # the pool may have queued it all the same: then it finds that it was given up
            self._workers.discard(worker)
            if not self._workers:
                self._waiting.pop()
                raise

    def _work(self, worker: object) -> None:
        with correlation.correlated(self._correlation_id):
            while (taken := self._next(worker)) is not None:
                future, call = taken
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    result = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                del taken, future, call  # the traceback of an error leads to this frame, which must not lead back to it

    def _next(self, worker: object) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            if self._waiting and worker in self._workers:
                return self._waiting.popleft()
            self._workers.discard(worker)
            self._changed.notify_all()
            return None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait until no call runs any more; cancel_futures: those that wait are not begun."""
        with self._changed:
            if cancel_futures:
                for future, _ in self._waiting:
                    future.cancel()
            self._changed.wait_for(lambda: not wait or not self._workers)
