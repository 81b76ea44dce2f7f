"""Slots for calls outside a drain: refreshes, pulls and groups share the remote's cap and rate with everything else.

Guarantees: every request that a client sends within is paid with a token, in advance for the calls that were asked for,
afterwards and before the next for those beyond them; what was not sent is given back. Does not: call anything.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.spec import RemoteSpec

TTL_S = 60.0
WAIT_S = 5.0
POLL_S = 0.1


class NoSlot(Exception):
    """The remote may not be called right now; the message says why and what ends that."""


class Counting(Protocol):
    """Whatever counts the requests it sent."""

    @property
    def sent(self) -> int:
        """Return how many were sent so far."""


class Turn:
    """A lease that is held, and the calls that may start under it.

    slots: how many may be under way at once. granted: how many may start right away, at least 1, at most `slots`.
    """

    def __init__(
        self, remote: RemoteSpec, clients: Sequence[Counting], *, holder: str, clock: Callable[[], datetime]
    ) -> None:
        self._remote, self._clients, self._holder, self._clock = remote, clients, holder, clock
        self._before = self._sent
        self._tokens = self._started = 0
        self._want = self.slots = self.granted = 0

    @property
    def _sent(self) -> int:
        return sum(client.sent for client in self._clients)

    def _take(self, *, want: int, waits: bool, wait_s: float) -> limits.Grant:
        """Lease, or renew, until a call may start or the waiting is over."""
        give_up = time.monotonic() + wait_s
        while True:
            unspent, self._tokens = self._unspent(self._tokens), 0
            grant = _lease(
                self._remote, holder=self._holder, want=want, unspent=unspent, waits=waits, now=self._clock()
            )
            self._tokens = grant.tokens
            if _usable(grant) or grant.blocked in _FINAL or time.monotonic() >= give_up:
                return grant
            time.sleep(POLL_S)

    def begin(self, *, want: int, wait_s: float) -> None:
        """Take the first slots and tokens; raises NoSlot."""
        grant = self._take(want=want, waits=True, wait_s=wait_s)
        if not _usable(grant):
            raise NoSlot(_REASONS[grant.blocked])
        self.slots = self._want = grant.slots
        self.granted = min(grant.slots, grant.tokens)

    def may_start(self, *, wait_s: float = 0.0) -> bool:
        """Tell whether one more call may start, and count it; never in a transaction.

        Calls that were sent beyond those counted are paid first. A remote that is paused or whose breaker opened
        meanwhile is no matter of the rate.
        """
        if not self._remote.limits.per_second:
            return True
        beyond = max(0, self._sent - self._before - self._started)
        self._started += beyond
        self._tokens -= beyond
        blocked = ""
        if self._tokens < 1:
            blocked = self._take(want=self._want, waits=False, wait_s=wait_s).blocked
        if self._tokens < 1 and blocked not in _FINAL:
            return False
        self._tokens -= 1
        self._started += 1
        return True

    def keep(self, most: int) -> None:
        """Give the slots beyond so many back; may be part of a transaction."""
        self._want = min(self._want, most)
        if most < self.slots:
            limits.shrink(self._remote.remote_id, holder=self._holder, slots=most)

    def end(self) -> None:
        """Give everything back that was not used; what was sent beyond it is owed."""
        left = self._unspent(self._tokens + self._started - (self._sent - self._before))
        limits.release(self._holder, remote_id=self._remote.remote_id, unspent=left)

    def _unspent(self, tokens: int) -> int:
        return tokens if self._remote.limits.per_second else 0


@contextmanager
def turn(
    remote: RemoteSpec,
    *clients: Counting,
    want: int,
    wait_s: float = WAIT_S,
    clock: Callable[[], datetime] = db_now,
) -> Iterator[Turn]:
    """Lease up to `want` slots for the block; raises NoSlot.

    What the clients send in the block is paid from the remote's rate. Where all slots are in use, or the rate allows no
    call yet, it waits for at most `wait_s`: never in a transaction.
    """
    held = Turn(remote, clients, holder=uuid.uuid4().hex, clock=clock)
    try:
        held.begin(want=want, wait_s=wait_s)
        yield held
    finally:
        held.end()


@contextmanager
def slots(remote: RemoteSpec, *clients: Counting, want: int, wait_s: float = WAIT_S) -> Iterator[int]:
    """Do the same and yield how many calls may start (at least 1), for those that make no more than a few."""
    with turn(remote, *clients, want=want, wait_s=wait_s) as held:
        yield held.granted


def _usable(grant: limits.Grant) -> bool:
    return grant.slots > 0 and grant.tokens > 0


def _lease(remote: RemoteSpec, *, holder: str, want: int, unspent: int, waits: bool, now: datetime) -> limits.Grant:
    want = min(want, remote.limits.concurrency)
    return limits.lease(
        remote.remote_id,
        holder=holder,
        want=want,
        cap=remote.limits.concurrency,
        per_second=remote.limits.per_second,
        now=now,
        ttl_s=TTL_S,
        unspent=unspent,
        most=want,
        waits=waits,
    )


_FINAL = {
    limits.PAUSED: "The remote is paused: resume it first.",
    limits.BREAKER_OPEN: "The remote does not answer, its breaker is open: it is asked again by itself in a while.",
}
_REASONS = _FINAL | {
    limits.RATE: "The remote's rate limit allows no further call yet; try again in a moment.",
    "": "All of the remote's slots are in use; try again in a moment.",
}
