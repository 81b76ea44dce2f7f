"""Test connection: is the remote there, how fast, and does it take our credential.

Owns: `test` and the words for its outcome. Guarantees: one or two reads, never a write; the outcome is kept on the
remote's gate; it never raises for anything the remote does. Does not: pause, resume or count anything.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from syncportal.kernel.clock import db_now
from syncportal.remote import auth, limits
from syncportal.remote.client import Deadline
from syncportal.remote.errors import ErrorKind, Misconfiguration, RemoteError
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.models import ConnectionStatus, Remote, Resource
from syncportal.remote.payloads import Exchange
from syncportal.remote.spec import spec_for

DEGRADED_FROM_MS = 2000
TEST_S = 10.0
_NOT_THERE = (ErrorKind.unreachable, ErrorKind.timeout, ErrorKind.server_fault, ErrorKind.throttled)
_REFUSED = (ErrorKind.unauthorized, ErrorKind.forbidden)


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What a test found: ONLINE, DEGRADED (slower than 2 s, or answering something unusable), OFFLINE or AUTH."""

    status: str
    ms: int
    detail: str
    exchange: Exchange | None = None


def test(remote: Remote, *, keep: bool = True) -> ConnectionReport:
    """Make the known-good GET of the remote's first resource, or of its base URL; `keep` stores the outcome."""
    report = _tested(remote)
    if keep and remote.pk:
        limits.record_check(
            remote.pk,
            status=report.status,
            ms=report.ms,
            error="" if report.status == ConnectionStatus.ONLINE else report.detail,
            now=db_now(),
        )
    return report


def _tested(remote: Remote) -> ConnectionReport:
    deadline, begun = Deadline(TEST_S), time.monotonic()
    try:
        credentials = auth.prepare(remote, deadline=deadline)
        client = ResourceClient(spec_for(_known_good(remote)), credentials=credentials)
        exchange = client.check(deadline=deadline)
        if credentials.dirty_token is not None:
            auth.store(remote, credentials)
    except Misconfiguration as problem:
        return ConnectionReport(ConnectionStatus.AUTH, _ms(begun), problem.detail)
    except RemoteError as problem:
        return _failed(problem, ms=_ms(begun))
    ms = _ms(begun)
    if ms > DEGRADED_FROM_MS:
        return ConnectionReport(ConnectionStatus.DEGRADED, ms, f"The answer took {ms / 1000:.1f} s.", exchange)
    return ConnectionReport(ConnectionStatus.ONLINE, ms, f"HTTP {exchange.status} in {ms} ms.", exchange)


def _failed(problem: RemoteError, *, ms: int) -> ConnectionReport:
    if problem.kind in _REFUSED:
        status = ConnectionStatus.AUTH
    elif problem.kind in _NOT_THERE or problem.status is None:
        status = ConnectionStatus.OFFLINE
    else:
        status = ConnectionStatus.DEGRADED
    return ConnectionReport(status, ms, problem.detail, problem.exchange)


def _known_good(remote: Remote) -> Resource:
    """Return the resource to read: one with a list, else any, else a stand-in that reads the base URL."""
    resources: Iterable[Resource] = remote.resources.order_by("pk") if remote.pk else ()
    listed = [resource for resource in resources if (resource.config or {}).get("list")]
    if listed:
        listed[0].remote = remote
        return listed[0]
    return Resource(remote=remote, slug="", config={"detail": {"path": "/{0}"}, "id": ["/id"]})


def _ms(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)
