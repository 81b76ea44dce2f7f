"""Tells the breaker how calls outside a drain went, and pauses a remote that refuses our credential.

Guarantees: one event each for a breaker that opened and a remote that was paused, however many calls found it out.
Does not: decide whether a call may leave; `limits.blocked` and the slots do.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime

from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.errors import ErrorKind, RemoteError
from syncportal.remote.gateway import ResourceClient, client_for
from syncportal.remote.limits import BreakerChange, CallResult
from syncportal.remote.models import Resource
from syncportal.remote.spec import RemoteSpec, spec_for
from syncportal.sync import events
from syncportal.sync.events import Fact, Kind

_KINDS = frozenset(kind.value for kind in ErrorKind)


@dataclass(frozen=True, slots=True)
class Called:
    """How one read, write or undo ended. error_kind: "" for well; record_id None: it was about no single record."""

    remote: RemoteSpec
    record_id: int | None
    error_kind: str = ""
    detail: str = ""


def failed(remote: RemoteSpec, error: RemoteError) -> Called:
    """Return how a call ended that was about no single record: a page of a list, a sign-in."""
    return Called(remote, None, error.kind.value, error.detail)


def signed_in(resource: Resource) -> ResourceClient:
    """Return a client; a sign-in that fails counts for the remote's breaker, one that is refused pauses it."""
    try:
        return client_for(resource)
    except RemoteError as error:
        report([failed(spec_for(resource).remote, error)], now=db_now())
        raise


def report(calls: Iterable[Called], *, now: datetime, calm: Container[int] = ()) -> None:
    """Report calls in their order, remote by remote. calm: the ids of remotes of which good news is no news."""
    by_remote: dict[int, list[Called]] = {}
    for call in calls:
        by_remote.setdefault(call.remote.remote_id, []).append(call)
    for remote_id, mine in by_remote.items():
        if remote_id in calm and not any(call.error_kind for call in mine):
            continue
        _report(mine[0].remote, mine, now=now)


def _report(remote: RemoteSpec, calls: list[Called], *, now: datetime) -> None:
    results = [
        CallResult(kind=ErrorKind(call.error_kind) if call.error_kind in _KINDS else None, record_id=call.record_id)
        for call in calls
    ]
    facts = []
    if limits.report(remote.remote_id, results, breaker=remote.breaker, now=now) == BreakerChange.OPENED:
        facts.append(Fact(Kind.BREAKER_OPENED, remote_id=remote.remote_id, data={"remote": remote.slug}))
    refused = next((call for call in calls if call.error_kind == ErrorKind.unauthorized), None)
    if refused and limits.pause(remote.remote_id, reason="unauthorized", detail=refused.detail, now=now):
        data = {"remote": remote.slug, "detail": refused.detail}
        facts.append(Fact(Kind.REMOTE_PAUSED, remote_id=remote.remote_id, data=data))
    events.write(facts, now=now)
