"""The one clock: the database's.

Several machines share one database and no two of their clocks agree, so due times, leases and
expiries are compared with the database's time. Verbs take `now` as an argument; callers read it
here once per transaction. Tests pass any value.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

# Linux's goes on while the machine sleeps: a write after that must not be on file as sent before it.
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def db_now() -> datetime:
    """Return the database's current time (aware, UTC).

    SQLite runs inside this process, so its clock is this machine's.
    """
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def running_clock() -> Callable[[], datetime]:
    """Return a clock that is set by the database's once and runs by itself: for one request's many small steps."""
    began, started = db_now(), time.clock_gettime(_ELAPSED)
    return lambda: began + timedelta(seconds=time.clock_gettime(_ELAPSED) - started)
