"""Conditional updates of many rows find them by their keys."""

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.sync import transitions
from syncportal.sync.models import SyncJob
from tests.factories import agreed

pytestmark = [pytest.mark.db, pytest.mark.django_db]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite always looks up the keys")
def test_an_update_reads_the_rows_it_changes_and_not_the_table() -> None:
    """PostgreSQL takes any JSON for a hundred rows; for so many it would rather read all of a small table."""
    ids = [record.pk for record in agreed(2_000)]
    plans: list[str] = []

    def explain(execute, sql, params, many, context):
        if sql.startswith("UPDATE"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}", params)
                plans.append("\n".join(row[0] for row in cursor.fetchall()))
        return execute(sql, params, many, context)

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with connection.execute_wrapper(explain):
        assert transitions.hold(ids[:3], holder="group:1", now=timezone.now()) == set(ids[:3])
    assert len(plans) == 1
    assert "Seq Scan" not in plans[0]
    assert SyncJob.objects.filter(held_by="group:1").count() == 3
