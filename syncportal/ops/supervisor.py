"""The supervisor: keeps a pool of workers alive and ticks, whatever happens to either.

Owns: when the pool is started, restarted and ended. Guarantees: a pool that is gone is restarted at once, one that
takes no tasks within a minute; a database that is away stops nothing for good; `stop` ends everything within 25 s.
Does not: know what work there is; ticks.py rings for it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from syncportal.ops.models import WorkerState

log = structlog.get_logger(__name__)

TICK_S = 0.5
SILENCE_S = 45.0  # a canary goes out every 5 s; this one is 40 s late
STOP_PATIENCE_S = 22.0
QUICK_DEATH_S = 15.0
LONGEST_PAUSE_S = 10.0


class Group(Protocol):
    """The pool's processes; see ProcessGroup."""

    @property
    def pid(self) -> int:
        """Return the main process's id."""
        ...

    def running(self) -> bool:
        """Tell whether the main process lives."""
        ...

    def heard(self) -> bool:
        """Tell whether a canary was answered since the last call."""
        ...

    def ask_to_end(self) -> None:
        """Ask for a clean end."""
        ...

    def kill(self) -> None:
        """Leave nothing of it."""
        ...


@dataclass(frozen=True, slots=True)
class PoolNews:
    """How the pool does. canary_age_s: seconds since it last took a task, None when it never did."""

    state: WorkerState
    canary_age_s: float | None
    restarts: int


@dataclass(slots=True)
class Supervisor:
    """One host's supervisor. `tick` is called every half second; `wait` sleeps, and is True when told to stop."""

    start_group: Callable[[], Group]
    tick: Callable[[PoolNews], None]
    wait: Callable[[float], bool]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    group: Group | None = None
    restarts: int = 0
    started: float = 0.0
    answered: float | None = None
    pause_s: float = 0.0
    not_before: float = 0.0
    state: WorkerState = field(default=WorkerState.STARTING)

    def run(self) -> None:
        """Supervise until told to stop, then end everything."""
        try:
            while not self.wait(TICK_S if self.group else 0.0):
                self.step()
        finally:
            self.stop()

    def step(self) -> None:
        """Look after the pool, then tick; the pool comes first because the tick may wait for the database."""
        self._look_after_pool()
        self.tick(self.news())

    def news(self) -> PoolNews:
        """Return how the pool does right now."""
        age = None if self.answered is None else self.clock() - self.answered
        return PoolNews(self.state, age, self.restarts)

    def _look_after_pool(self) -> None:
        now = self.clock()
        if self.group is None:
            if now >= self.not_before:
                self._start(now)
            return
        if self.group.heard():
            self.answered, self.state, self.pause_s = now, WorkerState.RUNNING, 0.0
        if not self.group.running():
            self._give_up_group("gone", now)
        elif now - max(self.started, self.answered or 0.0) > SILENCE_S:
            self._give_up_group("silent", now)

    def _start(self, now: float) -> None:
        try:
            self.group = self.start_group()
        except OSError:
            log.exception("pool.cannot_start")
            self._pause(now)
            return
        self.started = now
        log.info("pool.started", pid=self.group.pid)

    def _give_up_group(self, why: str, now: float) -> None:
        assert self.group is not None
        log.warning("pool.restarting", why=why, pid=self.group.pid, restarts=self.restarts + 1)
        self.group.kill()
        self.group = None
        self.restarts += 1
        self.state = WorkerState.RESTARTING
        if now - self.started < QUICK_DEATH_S and why == "gone":
            self._pause(now)
        else:
            self._start(now)

    def _pause(self, now: float) -> None:
        """Wait longer after each death that follows a start: something is wrong that a restart does not mend."""
        self.not_before = now + self.pause_s
        self.pause_s = min(max(0.5, self.pause_s * 2), LONGEST_PAUSE_S)

    def stop(self) -> None:
        """End the pool: cleanly if it can within its patience, else by force."""
        self.state = WorkerState.STOPPING
        self.tick(self.news())
        if self.group is not None:
            self.group.ask_to_end()
            until = self.clock() + STOP_PATIENCE_S
            while self.group.running() and self.clock() < until:
                self.sleep(0.1)
            if self.group.running():
                log.warning("pool.killed", pid=self.group.pid, why="did not end in time")
            self.group.kill()
            self.group = None
        self.state = WorkerState.STOPPED
        self.tick(self.news())
