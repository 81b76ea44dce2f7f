"""The database the suite runs on behaves like production's."""

import subprocess
import sys
import threading

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from syncportal.kernel.bulk import read_rows
from syncportal.kernel.tx import atomic_retry


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_threads_see_each_others_committed_rows() -> None:
    Group.objects.create(name="seen")
    seen: list[bool] = []

    def look() -> None:
        seen.append(Group.objects.filter(name="seen").exists())
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [True]


@pytest.mark.db
def test_rows_are_locked_inside_a_transaction_only(transactional_db: None) -> None:
    known = Group.objects.create(name="one").pk
    with pytest.raises(RuntimeError, match="inside a transaction"):
        read_rows(Group, [known], ("name",), lock=True)
    with transaction.atomic():
        assert read_rows(Group, [known, known + 1], ("name", "pk"), lock=True) == [("one", known)]


@pytest.mark.db
def test_child_processes_see_the_same_database(child_environment: dict[str, str]) -> None:
    Group.objects.create(name="seen by the child")
    code = (
        "import django; django.setup(); from django.contrib.auth.models import Group; "
        "print(Group.objects.get(name='seen by the child').name); Group.objects.create(name='from the child')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], env=child_environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == "seen by the child"
    assert Group.objects.filter(name="from the child").exists()


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_sqlite_writes_ahead_in_full_and_postgres_has_timeouts() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA journal_mode")
            assert cursor.fetchone()[0] == "wal"
            cursor.execute("PRAGMA synchronous")
            assert cursor.fetchone()[0] == 2
        else:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone()[0] == "30s"
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            assert cursor.fetchone()[0] == "30s"


def _waits_for_the_disk() -> bool:
    """Tell whether the next commit of this connection does."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA synchronous")
            return bool(cursor.fetchone()[0] == 2)
        cursor.execute("SHOW synchronous_commit")
        return bool(cursor.fetchone()[0] == "on")


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_only_the_commit_that_says_so_does_not_wait_for_the_disk() -> None:
    assert not atomic_retry(_waits_for_the_disk, durable=False)
    assert _waits_for_the_disk()
    assert atomic_retry(lambda: atomic_retry(_waits_for_the_disk, durable=False))
    with pytest.raises(ZeroDivisionError):
        atomic_retry(lambda: Group.objects.create(name="gone").pk / 0, durable=False)
    assert _waits_for_the_disk() and not Group.objects.filter(name="gone").exists()
