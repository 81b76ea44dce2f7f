"""One remote's gate, as its callers use it, at times that are given."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from django.db import connection

from syncportal.remote import limits
from syncportal.remote.breaker import BreakerChange, CallResult
from syncportal.remote.errors import ErrorKind
from syncportal.remote.knobs import BreakerSpec

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPEC = BreakerSpec(unreachable=3, failures=5, records=3, open_s=30.0)
OK = CallResult(None, 1)
GONE = CallResult(ErrorKind.unreachable, 1)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def fault(record_id, kind=ErrorKind.server_fault):
    return CallResult(kind, record_id)


def lease(remote, holder="a", *, want=4, cap=8, per_second=None, now=NOW, **rest):
    return limits.lease(remote, holder=holder, want=want, cap=cap, per_second=per_second, now=now, **rest)


def opened(remote, *, now=NOW):
    assert limits.report(remote, [GONE] * 3, breaker=SPEC, now=now) is BreakerChange.OPENED


def at_once(work, count):
    """Run work(i) in `count` threads that start together, each on a connection of its own."""
    barrier = threading.Barrier(count)

    def run(position):
        try:
            barrier.wait()
            return work(position)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
