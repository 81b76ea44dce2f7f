"""Slots for calls outside a drain: refreshes and pulls share the remote's cap with everything else."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.spec import RemoteSpec

TTL_S = 60.0


class NoSlot(Exception):
    """The remote may not be called right now; the message says why and what ends that."""


@contextmanager
def slots(remote: RemoteSpec, *, want: int) -> Iterator[int]:
    """Lease up to `want` slots for the block and yield how many were granted (at least 1); raises NoSlot."""
    holder = uuid.uuid4().hex
    grant = limits.lease(
        remote.remote_id,
        holder=holder,
        want=min(want, remote.limits.concurrency),
        cap=remote.limits.concurrency,
        per_second=remote.limits.per_second,
        now=db_now(),
        ttl_s=TTL_S,
    )
    try:
        if not grant.slots:
            raise NoSlot(_REASONS.get(grant.blocked, "All of the remote's slots are in use; try again in a moment."))
        yield grant.slots
    finally:
        limits.release(holder, remote_id=remote.remote_id)


_REASONS = {
    "paused": "The remote is paused: resume it first.",
    "breaker_open": "The remote does not answer, its breaker is open: it is asked again by itself in a while.",
}
