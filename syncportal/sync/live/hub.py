"""One reader for all open streams of a process: it looks at the end of the event table and hands batches on.

Owns: the reader's thread, which is the only one that uses the database for streams and has one connection, and the
streams of this process. Guarantees: it works only while a stream is open; a stream that does not keep up is ended
and can be resumed; a database that is away costs one log line and no stream. Does not: know HTTP or words.
"""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import structlog
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections, connection, connections

from syncportal.kernel.clock import db_now
from syncportal.sync import feed
from syncportal.sync.live.tail import Batch, Happening, Tail

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 0.25
AFTER_TROUBLE_S: Final = 2.0
BEHIND: Final = 100  # batches that wait for one slow reader
PER_PERSON: Final = 20

T = TypeVar("T")
_open: Counter[int] = Counter()


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, and how much of it."""

    user_id: int
    everything: bool

    def sees(self, happening: Happening) -> bool:
        """Tell whether the event is in the viewer's scope, as `EventQuerySet.visible_to` does."""
        return self.everything or self.user_id in (happening.owner_id, happening.event.actor_id)


class Behind(Exception):
    """The stream does not take its events fast enough. It ends; its client connects again and goes on."""


@dataclass(slots=True, eq=False)
class Stream:
    """One open stream's place in the hub. since: what lies after this id comes as batches."""

    since: int
    _queue: asyncio.Queue[Batch]
    behind: bool = False

    def put(self, batch: Batch) -> None:
        """Hand a batch on without waiting."""
        try:
            self._queue.put_nowait(batch)
        except asyncio.QueueFull:
            self.behind = True

    async def next(self, *, wait_s: float) -> Batch | None:
        """Return the next batch, None when none comes in time; raises Behind."""
        if self.behind:
            raise Behind
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._queue.get(), wait_s)
        return None


def open_streams(user_id: int) -> int:
    """Return how many streams a person has open in this process."""
    return _open[user_id]


@dataclass(slots=True)
class Hub:
    """The reader and the streams of one event loop."""

    look_every_s: float = LOOK_EVERY_S
    _streams: set[Stream] = field(default_factory=set)
    _threads: ThreadPoolExecutor | None = None
    _tail: Tail | None = None
    _told: int = 0
    _reader: asyncio.Task[None] | None = None
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @contextlib.asynccontextmanager
    async def joined(self, viewer: Viewer) -> AsyncIterator[Stream]:
        """Take part from now on, until the block is left; raises what the database raises."""
        _open[viewer.user_id] += 1
        stream = Stream(0, asyncio.Queue(BEHIND))
        self._streams.add(stream)
        try:
            async with self._starting:
                if self._tail is None:
                    begin = await self.ask(lambda: feed.horizon(db_now()))
                    self._tail, self._told = Tail(begin), begin
                if self._reader is None:
                    self._reader = asyncio.create_task(self._read())
            stream.since = self._told  # not the tail's own position: a batch may be between it and us
            yield stream
        finally:
            self._streams.discard(stream)
            _open[viewer.user_id] -= 1
            if not _open[viewer.user_id]:
                del _open[viewer.user_id]
            if not self._streams:
                self._rest()

    async def ask(self, question: Callable[[], T]) -> T:
        """Ask the database something in the reader's thread."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="live")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(_asked, question))

    def _rest(self) -> None:
        """End the reader, its thread and its connection: nobody listens."""
        if self._reader is not None:
            self._reader.cancel()
        if self._threads is not None:
            self._threads.submit(connections.close_all)  # asked there: connections belong to threads
            self._threads.shutdown(wait=False)
        self._reader = self._tail = self._threads = None

    async def _read(self) -> None:
        trouble = False
        while True:
            await asyncio.sleep(AFTER_TROUBLE_S if trouble else self.look_every_s)
            try:
                await self._look()
                trouble = False
            except DatabaseTrouble as error:
                if not trouble:
                    log.error("live.database_unreachable", error=type(error).__name__)
                trouble = True
            except Exception:
                log.exception("live.look_failed")
                trouble = True

    async def _look(self) -> None:
        tail, more = self._tail, True
        while tail is not None and more:
            batch = await self.ask(lambda: tail.look(db_now()))
            more = batch.more
            self._told = batch.safe
            if batch.happenings:
                for stream in tuple(self._streams):
                    stream.put(batch)


def _asked(question: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return question()
    except DatabaseTrouble:
        connection.close()
        raise


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """Return the hub of the running event loop: a server process has one."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
