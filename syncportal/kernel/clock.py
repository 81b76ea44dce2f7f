"""The one clock: the database's.

Several machines share one database and no two of their clocks agree, so due times, leases and
expiries are compared with the database's time. Verbs take `now` as an argument; callers read it
here once per transaction. Tests pass any value.
"""

from datetime import datetime

from django.db import connection
from django.utils import timezone


def db_now() -> datetime:
    """Return the database's current time (aware, UTC).

    SQLite runs inside this process, so its clock is this machine's.
    """
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
