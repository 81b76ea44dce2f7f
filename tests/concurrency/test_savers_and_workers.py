"""Saving and settling at the same time: a record whose newest content is not confirmed has a live job, always.

The order of locks is what makes that true; the order that does not is kept as a control.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from syncportal.kernel.tx import atomic_retry
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import spec_for
from syncportal.sync import local, records, states, transitions
from syncportal.sync.claims import Claim, Outcome
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.settle import settle
from syncportal.sync.states import Status
from tests.factories import PERSON, agreed

database = [pytest.mark.django_db(transaction=True), pytest.mark.db]


def confirmed(claim: Claim) -> Outcome:
    """Return the outcome of a push that the remote took over as it was sent."""
    version = int(claim.version or 0) + 1
    shown = RemoteObject(claim.external_id, {**claim.data, "version": version}, str(version))
    return Outcome(claim, states.COMPLETE, remote=shown, base=claim.data)


def push(remote_id: int, specs: dict) -> int:
    claims = transitions.claim_many(remote_id, limit=3, holder="w", now=timezone.now(), lease_s=90)
    time.sleep(0.002)
    if claims:
        atomic_retry(lambda: settle([confirmed(claim) for claim in claims], specs=specs, now=timezone.now()))
    return len(claims)


def together(*works: Callable[[], None]) -> list[BaseException]:
    """Run works in threads of their own; return what they raised."""
    raised: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


def without_live_job() -> list[int]:
    rows = Record.objects.select_related("job").all()
    live = {Status.PENDING, Status.PROCESSING, Status.RETRY_PENDING}
    return [row.pk for row in rows if row.data.get("name") != row.base.get("name") and row.job.status not in live]


class TestOnTheDatabase:
    """Whatever database the suite runs on."""

    pytestmark = database

    def test_three_savers_and_four_workers_leave_no_record_without_a_job(self) -> None:
        rows = agreed(4)
        specs = {rows[0].resource_id: spec_for(rows[0].resource)}
        remote_id = rows[0].resource.remote_id
        end = time.monotonic() + 1.5
        saving = [3]

        def save(number: int) -> None:
            turn = 0
            while time.monotonic() < end:
                turn += 1
                edits = [local.Edit(row.pk, {"name": f"{number}-{turn}"}) for row in rows[:: 1 if turn % 2 else -1]]
                local.save_many(edits, actor=PERSON)
            saving[0] -= 1

        def work() -> None:
            while saving[0]:
                push(remote_id, specs)

        raised = together(*(lambda n=n: save(n) for n in range(3)), *[work] * 4)
        assert raised == []
        assert without_live_job() == []
        while push(remote_id, specs):
            pass
        assert set(SyncJob.objects.values_list("status", flat=True)) == {Status.SYNCED}
        assert all(row.data == row.base for row in Record.objects.all())


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite runs one writer at a time")
class TestLockOrder:
    """One interleaving, made by hand: an edit is saved while the outcome of the old content is stored."""

    pytestmark = database

    def meet(self, save: Callable[[Record, Callable[[], None]], None]) -> Record:
        [row] = agreed(1)
        specs = {row.resource_id: spec_for(row.resource)}
        local.save(local.Edit(row.pk, {"name": "first"}), actor=PERSON)
        [claim] = transitions.claim_many(row.resource.remote_id, limit=1, holder="w", now=timezone.now(), lease_s=90)
        settling = threading.Thread(target=lambda: (self.store(claim, specs), connections.close_all()))

        def meanwhile() -> None:
            settling.start()
            settling.join(0.5)

        save(row, meanwhile)
        settling.join(20)
        return row

    def store(self, claim: Claim, specs: dict) -> None:
        with transaction.atomic():
            settle([confirmed(claim)], specs=specs, now=timezone.now())

    def test_record_before_job_keeps_the_job_live(self) -> None:
        def save(row: Record, meanwhile: Callable[[], None]) -> None:
            with transaction.atomic():
                state = records.lock([row.pk])[row.pk]
                meanwhile()
                records.write([state.with_data({**state.data, "name": "second"})], now=timezone.now())
                transitions.arm([row.pk], now=timezone.now())

        row = self.meet(save)
        assert without_live_job() == []
        assert SyncJob.objects.get(pk=row.pk).status == Status.PENDING

    def test_control_job_before_record_leaves_a_record_without_a_job(self) -> None:
        def save(row: Record, meanwhile: Callable[[], None]) -> None:
            with transaction.atomic():
                transitions.arm([row.pk], now=timezone.now())
                meanwhile()
                state = records.lock([row.pk])[row.pk]
                records.write([replace(state, data={**state.data, "name": "second"})], now=timezone.now())

        row = self.meet(save)
        assert without_live_job() == [row.pk]

    def test_control_no_order_meets_a_deadlock_and_the_retry_gets_over_it(self) -> None:
        one, two = agreed(2)
        both = threading.Barrier(2)

        def locks(first: Record, second: Record, *, first_time: list[bool]) -> Callable[[], None]:
            def work() -> None:
                records.lock([first.pk])
                if first_time.pop() if first_time else False:
                    both.wait(10)
                records.lock([second.pk])

            return work

        def plain(work: Callable[[], None]) -> None:
            with transaction.atomic():
                work()

        raised = together(
            lambda: plain(locks(one, two, first_time=[True])), lambda: plain(locks(two, one, first_time=[True]))
        )
        assert len(raised) == 1 and "deadlock" in str(raised[0])
        both.reset()
        raised = together(
            lambda: atomic_retry(locks(one, two, first_time=[True])),
            lambda: atomic_retry(locks(two, one, first_time=[True])),
        )
        assert raised == []


@pytest.mark.parametrize(
    ("journal", "begin", "survives"),
    [("DELETE", "BEGIN", False), ("WAL", "BEGIN", False), ("WAL", "BEGIN IMMEDIATE", True)],
)
def test_on_sqlite_only_wal_with_immediate_transactions_survives_two_writers(
    tmp_path: Path, journal: str, begin: str, survives: bool
) -> None:
    """Both read, then both write: what every save does. Only the product's mode makes the second one wait."""
    path = tmp_path / "control.sqlite3"

    def connected() -> sqlite3.Connection:
        made = sqlite3.connect(path, timeout=5, isolation_level=None)
        made.execute(f"PRAGMA journal_mode={journal}")
        return made

    setup = connected()
    setup.execute("CREATE TABLE job (id INTEGER PRIMARY KEY, n INTEGER)")
    setup.execute("INSERT INTO job VALUES (1, 0)")
    meeting = threading.Barrier(2)

    def write() -> None:
        own = connected()
        try:
            own.execute(begin)
            own.execute("SELECT n FROM job").fetchall()
            if not survives:
                meeting.wait(5)
            own.execute("UPDATE job SET n = n + 1")
            own.execute("COMMIT")
        finally:
            own.close()

    raised = together(write, write)
    assert any("locked" in str(error) for error in raised) is not survives
    assert setup.execute("SELECT n FROM job").fetchone()[0] == (2 if survives else 1)


def test_the_product_uses_that_mode(settings: Any) -> None:
    if connection.vendor == "sqlite":
        options = settings.DATABASES["default"]["OPTIONS"]
        assert options["transaction_mode"] == "IMMEDIATE"
        assert "journal_mode=WAL" in options["init_command"] and "synchronous=FULL" in options["init_command"]
