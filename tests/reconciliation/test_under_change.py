"""Comparing while both sides change: what was planted is found, and nothing else is.

2,000 records here, and 600 in the run that is killed; `make chaos` asks for 20,000 in both (`CHANGE_RECORDS`).
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from reconciliation.models import Discrepancy, Run
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.demo.api import Api
from syncportal.demo.seed import ACCOUNT_SCHEMA
from syncportal.remote.models import Resource, SlotLease
from syncportal.sync import local, records, transitions
from syncportal.sync.events import WORKER
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from tests.factories import ACCOUNTS, NEW_ACCOUNT, drain, make_remote, make_resource
from tests.reconciliation.scene import adds_up, reconcile, to_the_end

ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("CHANGE_RECORDS", "2000"))
KILLS = int(os.environ.get("CHANGE_KILLS", "3"))
EVERY_KIND_ALERTS = {
    "lag_s": 0.0, "brake_percent": 90,
    "repair": {"version_drift": "alert", "data_mismatch": "alert", "missing_local": "alert"},
}  # fmt: skip


def name(number: int) -> str:
    return f"ACC-{number:04}"


TWICE, UNFIT = name(27), name(28)
_SECOND = "\x00"


@pytest.fixture
def master(master: DemoMaster, monkeypatch: pytest.MonkeyPatch) -> DemoMaster:
    """Return the master whose list shows one object twice, with different content."""
    filtered, row = Api._filtered, Api._row

    def doubled(self: Api, *args: Any) -> list[str]:
        ids = filtered(self, *args)
        at = ids.index(TWICE) + 1 if TWICE in ids else 0
        return [*ids[:at], TWICE + _SECOND, *ids[at:]] if at else ids

    def second(self: Api, spec: Any, object_id: str) -> Any:
        shown = row(self, spec, object_id.removesuffix(_SECOND))
        return {**shown, "city": "Another"} if object_id.endswith(_SECOND) else shown

    monkeypatch.setattr(Api, "_filtered", doubled)
    monkeypatch.setattr(Api, "_row", second)
    return master


CITY = {"city": {"type": "string", "maxLength": 20}}
STRICT = {**ACCOUNT_SCHEMA, "properties": {**ACCOUNT_SCHEMA["properties"], **CITY}}


@dataclass
class Sides:
    """A resource whose two sides agree, and the numbers of the rows that each writer may touch."""

    master: DemoMaster
    resource: Resource
    count: int
    planted: dict[str, str] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)
    trouble: list[str] = field(default_factory=list)

    def plant(self) -> None:
        """Make differences of every kind, on rows that no writer touches (numbers 1, 11, 21, …; 27 and 28)."""
        for number in range(1, self.count, self.count // 40):
            number = number // 10 * 10 + 1
            kind = ("data_mismatch", "version_drift", "missing_remote", "missing_local")[len(self.planted) % 4]
            if kind == "data_mismatch":
                self.master.edit("accounts", name(number), city="Planted")
            elif kind == "version_drift":
                self.master.edit("accounts", name(number), {})
            elif kind == "missing_remote":
                self.master.delete("accounts", name(number))
            else:
                self.master.create("accounts", {"id": f"{name(number)}x", **NEW_ACCOUNT})
            self.planted[f"{name(number)}x" if kind == "missing_local" else name(number)] = kind
        self.planted[TWICE] = "duplicate_key"
        self.master.edit("accounts", UNFIT, city="Longer than our schema lets a city be")
        self.planted[UNFIT] = "invalid_remote"

    def leave_unsent(self) -> None:
        """Edit records that stay unsent until the run is over (numbers 5, 55, …): no difference."""
        for number in range(5, self.count, 50):
            record = Record.objects.get(external_id=name(number))
            local.save(local.Edit(record.pk, {"city": "Not sent yet"}), actor=WORKER)

    def write_outside(self) -> None:
        """Edit, delete and add objects that we do not touch (numbers 2, 12, …)."""
        numbers = iter(range(2, self.count, 10))
        for turn, number in enumerate(numbers):
            if self.stop.wait(0.003):
                return
            act = turn % 4
            self.outside |= {name(number), f"{name(number)}y"}
            if act == 0:
                self.master.delete("accounts", name(number))
            elif act == 1:
                self.master.create("accounts", {"id": f"{name(number)}y", **NEW_ACCOUNT})
            else:
                self.master.edit("accounts", name(number), city=f"Outside {turn}")

    def write_here(self) -> None:
        """Edit and push records that nobody else touches (numbers 3, 13, …), make new ones and delete some."""
        ids = dict(
            Record.objects.filter(external_id__in=[name(n) for n in range(3, self.count, 10)]).values_list(
                "external_id", "pk"
            )
        )
        mine = list(ids.values())
        for turn, record_id in enumerate(ids.values()):
            if self.stop.is_set():
                break
            if turn % 7 == 3:
                data = {**NEW_ACCOUNT, "name": f"Made {turn}"}
                mine.append(local.create(self.resource, data, actor=WORKER, owner_id=None).record_id)
            if turn % 11 == 5:
                local.save(local.Edit(record_id, delete=True), actor=WORKER)
            else:
                local.save(local.Edit(record_id, {"city": f"Here {turn}"}), actor=WORKER)
            if turn % 5 == 0:
                drain(record_ids=mine)
        drain(record_ids=mine)

    @contextmanager
    def writers(self) -> Iterator[None]:
        """Let both sides change inside the block."""
        threads = [threading.Thread(target=self._guarded(work)) for work in (self.write_outside, self.write_here)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(timeout=120)

    def _guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except Exception as error:  # told by the test's own thread
                self.trouble.append(f"{work.__name__}: {error!r}")
            finally:
                connections.close_all()

        return run

    def check(self, run: Run) -> None:
        """Assert that everything planted was found, and nothing but what outside writers did beside it."""
        assert self.trouble == []
        found = dict(Discrepancy.objects.open().values_list("external_id", "kind"))
        assert {external_id: found.get(external_id) for external_id in self.planted} == self.planted
        invented = {external_id: kind for external_id, kind in found.items() if external_id not in self.planted}
        assert set(invented) <= self.outside
        assert adds_up(run), run.__dict__
        assert run.state == "finished"


def two_sides(master: DemoMaster, count: int, *, size: int = 100) -> Sides:
    master.reset((accounts(count), shifts(1)))
    page = {**ACCOUNTS["list"]["page"], "size": size}
    remote = make_remote(master.api_url, limits={"concurrency": 8, "total_timeout_s": 10})
    resource = make_resource(remote, list={**ACCOUNTS["list"], "page": page}, policy=EVERY_KIND_ALERTS, schema=STRICT)
    documents = master.store.all("accounts")
    now = resource.created_at
    for start in range(0, count, 2_000):
        states = [
            RecordState(0, resource.pk, document["id"], document, document, "1", 1, Intent.UPDATE, None, None, now)
            for document in documents[start : start + 2_000]
        ]
        ids = records.insert(states, now=now)
        transitions.insert([transitions.NewJob(pk, resource.remote_id, False, 4) for pk in ids], now=now)
    return Sides(master, resource, count)


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_writers_on_both_sides_hide_nothing_and_invent_nothing(master: DemoMaster) -> None:
    sides = two_sides(master, COUNT)
    sides.plant()
    sides.leave_unsent()
    master.latency_ms = 2
    with sides.writers():
        time.sleep(0.05)
        run = reconcile(sides.resource)
    sides.check(run)
    drain()
    quiet = reconcile(sides.resource)
    sides.check(quiet)
    assert quiet.busy == 0 and not SyncJob.objects.exclude(status__in=["SYNCED", "SKIPPED"]).exists()


@pytest.mark.kills
@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_killed_again_and_again_finds_the_same(
    master: DemoMaster, child_environment: dict[str, str]
) -> None:
    sides = two_sides(master, COUNT if COUNT > 2_000 else 600, size=20)
    sides.plant()
    master.latency_ms = 20
    chance = random.Random(1)
    command = [sys.executable, "manage.py", "reconcile", sides.resource.slug]
    killed = []
    with sides.writers():
        for kill in range(KILLS + 1):
            before = Run.objects.values_list("checked", "suspected").first() or (0, 0)
            child = subprocess.Popen(
                command, cwd=ROOT, env=child_environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if kill == KILLS:
                child.wait(timeout=300)
                break
            _until(lambda seen=before, one=child: one.poll() is not None or _moved(seen))
            time.sleep(chance.uniform(0, 0.2))
            child.send_signal(signal.SIGKILL)
            child.wait()
            connection.close()
            killed.append(Run.objects.values_list("phase", flat=True).get())
            Run.objects.update(lease_until=None)  # as if the minute of the leases had passed
            SlotLease.objects.all().delete()
    Run.objects.update(lease_until=None)
    run = to_the_end(Run.objects.get())  # what a busy master broke off, a worker goes on with
    assert (len(killed), run.claim_no >= KILLS + 1) == (KILLS, True)
    sides.check(run)


def _moved(before: tuple[int, int]) -> bool:
    connection.close()
    now = Run.objects.values_list("checked", "suspected").first()
    return now is not None and now != before


def _until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
