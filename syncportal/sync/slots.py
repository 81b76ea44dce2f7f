"""Slots for calls outside a drain: refreshes and pulls share the remote's cap and rate with everything else."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.spec import RemoteSpec

TTL_S = 60.0
WAIT_S = 5.0
POLL_S = 0.1


class NoSlot(Exception):
    """The remote may not be called right now; the message says why and what ends that."""


@contextmanager
def slots(remote: RemoteSpec, *, want: int, wait_s: float = WAIT_S) -> Iterator[int]:
    """Lease up to `want` slots for the block and yield how many were granted (at least 1); raises NoSlot.

    Where all slots are in use, or the rate allows no call yet, it waits for at most `wait_s`: never in a transaction.
    """
    holder = uuid.uuid4().hex
    give_up = time.monotonic() + wait_s
    try:
        grant = _lease(remote, holder=holder, want=want)
        while not _usable(grant) and grant.blocked not in _REASONS and time.monotonic() < give_up:
            time.sleep(POLL_S)
            grant = _lease(remote, holder=holder, want=want)
        if not _usable(grant):
            raise NoSlot(_REASONS.get(grant.blocked, "All of the remote's slots are in use; try again in a moment."))
        yield grant.slots
    finally:
        limits.release(holder, remote_id=remote.remote_id)


def _usable(grant: limits.Grant) -> bool:
    return grant.slots > 0 and grant.tokens > 0


def _lease(remote: RemoteSpec, *, holder: str, want: int) -> limits.Grant:
    return limits.lease(
        remote.remote_id,
        holder=holder,
        want=min(want, remote.limits.concurrency),
        cap=remote.limits.concurrency,
        per_second=remote.limits.per_second,
        now=db_now(),
        ttl_s=TTL_S,
        waits=True,
    )


_REASONS = {
    "paused": "The remote is paused: resume it first.",
    "breaker_open": "The remote does not answer, its breaker is open: it is asked again by itself in a while.",
}
