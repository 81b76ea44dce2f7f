"""Makes the calls of steps that are written ahead, at most so many at once, and none after a failure.

A lane takes the next step by itself when its call is over, so that no call waits for a commit of those before it.
Owned by one thread; the lanes run in a pool's threads, and a single lane on the owner's own. No database.
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from queue import SimpleQueue

from rollback.calls import Sent, Target
from rollback.states import StepStatus


class Lanes:
    """The calls of one group. `ready` holds what was written ahead and is not called yet."""

    def __init__(
        self, send: Callable[[Target], Sent], *, pool: Executor, width: int, time_is_left: Callable[[], bool]
    ) -> None:
        """Take how one step is sent, how many calls there may be at once, and whether another may begin."""
        self._send, self._pool, self._time_is_left = send, pool, time_is_left
        self.width = width
        self.ready: deque[Target] = deque()
        self.stopped = False
        self._lanes = 0
        self._news: SimpleQueue[Sent | Future[None]] = SimpleQueue()
        self._under_way = 0

    @property
    def room(self) -> int:
        """Return how many steps may be written ahead now: one wave is under way and one waits, but one by one alone."""
        ahead = 0 if self.width == 1 else self.width
        if self.stopped or len(self.ready) > ahead // 2:
            return 0
        return self.width + ahead - self._under_way

    @property
    def idle(self) -> bool:
        """Tell whether nothing that was started is still to be returned."""
        return self._under_way == 0

    def start(self, targets: Iterable[Target]) -> None:
        """Call these steps, which are committed as sent, as soon as a lane is free."""
        before = len(self.ready)
        self.ready.extend(targets)
        self._under_way += len(self.ready) - before
        self._fill()

    def _fill(self) -> None:
        """Give every free lane its first step; these are under way from here on, whatever comes of one of them."""
        first: list[Target] = []
        while self._lanes + len(first) < self.width and (target := self._next()) is not None:
            first.append(target)
        for target in first:
            if self.width == 1:
                self._lane(target)
                continue
            self._lanes += 1
            self._pool.submit(self._lane, target).add_done_callback(self._news.put)

    def _next(self) -> Target | None:
        """Take the next step; None when there is none, one has failed, or the time is over."""
        self.stopped = self.stopped or not self._time_is_left()
        try:
            return None if self.stopped else self.ready.popleft()
        except IndexError:
            return None

    def _lane(self, target: Target | None) -> None:
        """Send one step after another."""
        try:
            while target is not None:
                sent = self._send(target)
                self.stopped = self.stopped or sent.status is not StepStatus.APPLIED
                self._news.put(sent)
                target = self._next()
        except BaseException:
            self.stopped = True
            raise

    def ended(self) -> list[Sent]:
        """Wait until a call is over and return all that are; empty when nothing is under way."""
        found: list[Sent] = []
        while not self._news.empty() or (self._lanes and not found):
            news = self._news.get()
            if isinstance(news, Future):
                self._lanes -= 1
                news.result()
                self._fill()
            else:
                self._under_way -= 1
                found.append(news)
        return found
