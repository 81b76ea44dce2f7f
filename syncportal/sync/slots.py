"""Slots for calls outside a drain: refreshes, pulls and groups share the remote's cap and rate with everything else.

Guarantees: every request that a client sends within is paid with a token, in advance for the calls that were asked for,
afterwards for those beyond them; what was not sent is given back. Does not: call anything.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def slots(remote: RemoteSpec, *clients: Counting, want: int, wait_s: float = WAIT_S, holder: str = "") -> Iterator[int]:
    """Lease up to `want` slots for the block and yield how many calls may start (at least 1); raises NoSlot.

    What the clients send in the block is paid from the remote's rate. Where all slots are in use, or the rate allows no
    call yet, it waits for at most `wait_s`: never in a transaction. holder: the lease's name for `limits.shrink`.
    """
    holder = holder or uuid.uuid4().hex
    give_up = time.monotonic() + wait_s
    before, granted = sum(client.sent for client in clients), 0
    try:
        grant = _lease(remote, holder=holder, want=want)
        while not _usable(grant) and grant.blocked not in _FINAL and time.monotonic() < give_up:
            time.sleep(POLL_S)
            grant = _lease(remote, holder=holder, want=want)
        if not _usable(grant):
            raise NoSlot(_REASONS[grant.blocked])
        granted = min(grant.slots, grant.tokens)
        yield granted
    finally:
        unspent = granted - (sum(client.sent for client in clients) - before)
        limits.release(holder, remote_id=remote.remote_id, unspent=unspent if remote.limits.per_second else 0)


def _usable(grant: limits.Grant) -> bool:
    return grant.slots > 0 and grant.tokens > 0


def _lease(remote: RemoteSpec, *, holder: str, want: int) -> limits.Grant:
    want = min(want, remote.limits.concurrency)
    return limits.lease(
        remote.remote_id,
        holder=holder,
        want=want,
        cap=remote.limits.concurrency,
        per_second=remote.limits.per_second,
        now=db_now(),
        ttl_s=TTL_S,
        most=want,
        waits=True,
    )


_FINAL = {
    limits.PAUSED: "The remote is paused: resume it first.",
    limits.BREAKER_OPEN: "The remote does not answer, its breaker is open: it is asked again by itself in a while.",
}
_REASONS = _FINAL | {
    limits.RATE: "The remote's rate limit allows no further call yet; try again in a moment.",
    "": "All of the remote's slots are in use; try again in a moment.",
}
