"""SQLite plans by what its tables hold, as of the hourly duty; PostgreSQL looks for itself."""

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.ops import duties
from tests.api.world import stored
from tests.factories import make_remote, make_resource

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


def known_rows(table: str) -> int:
    """Return how many rows SQLite believes a table to have, 0 when it has not looked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'")
        if cursor.fetchone() is None:
            return 0
        cursor.execute("SELECT stat FROM sqlite_stat1 WHERE tbl = %s LIMIT 1", [table])
        row = cursor.fetchone()
        return int(row[0].split()[0]) if row else 0


def test_the_hourly_duty_tells_the_planner_how_large_tables_are() -> None:
    resource = make_resource(make_remote("http://127.0.0.1:9/api"))
    forget = duties.spec_of("retention").work
    for number in (3, 40):
        for _ in range(number):
            stored(resource, f"A-{timezone.now().timestamp()}")
        assert "removed" in forget(timezone.now())
        if connection.vendor == "sqlite":
            assert known_rows("sync_record") == (3 if number == 3 else 43)
