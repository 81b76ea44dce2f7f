"""Two who act on one discrepancy at once: one wins, the other sees why, and nothing is done twice."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from reconciliation import findings, fixing, repairs, runs
from reconciliation.fixing import NotFixed
from reconciliation.journal import AlreadyRunning
from reconciliation.models import Discrepancy
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.models import Resource
from syncportal.sync import local, resolve
from syncportal.sync.events import WORKER
from syncportal.sync.models import Conflict, Event, Record
from syncportal.sync.resolve import Action, Decision
from tests.factories import drain, job_of
from tests.reconciliation.scene import agreed, person, reconcile

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
TAKE, PUSH = "take_remote", "push_local"


def together(*works: Callable[[], object]) -> list[Any]:
    """Run works at the same moment, each on its own connection, and return what each returned or raised."""
    gate = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(position: int, work: Callable[[], object]) -> None:
        try:
            gate.wait(timeout=20)
            results[position] = work()
        except Exception as error:
            results[position] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def differing(master: DemoMaster, rule: str = "alert") -> tuple[Resource, Record, Discrepancy]:
    master.reset((accounts(40), shifts(1)))
    resource, records = agreed(master, policy={"repair": {"data_mismatch": "alert"}})
    master.edit("accounts", "ACC-0001", city="Elsewhere")
    reconcile(resource)
    resource.config = {**resource.config, "policy": {"lag_s": 0, "repair": {"data_mismatch": rule}}}
    resource.save()
    return resource, records["ACC-0001"], Discrepancy.objects.get()


@pytest.mark.parametrize("turn", range(4))
def test_two_people_repair_in_two_directions(master: DemoMaster, turn: int) -> None:
    _, record, row = differing(master)
    pat, kim = person("pat"), person("kim")
    first, second = together(
        lambda: fixing.fix(row.pk, direction=TAKE, actor=pat), lambda: fixing.fix(row.pk, direction=PUSH, actor=kim)
    )
    losers = [result for result in (first, second) if isinstance(result, NotFixed)]
    assert len(losers) == 1 and losers[0].code in {"already_settled", "moved", "record_busy"}
    assert Event.objects.filter(kind="record.repaired").count() == 1
    assert Record.objects.get(pk=record.pk).revision == 2
    assert Discrepancy.objects.get().state == "fixed"


@pytest.mark.parametrize("turn", range(4))
def test_a_repair_and_a_save_lose_nothing(master: DemoMaster, turn: int) -> None:
    _, record, row = differing(master)
    pat = person("pat")
    fixed, saved = together(
        lambda: fixing.fix(row.pk, direction=TAKE, actor=pat),
        lambda: local.save(local.Edit(record.pk, {"notes": "Mine"}), actor=WORKER),
    )
    assert not isinstance(saved, Exception)
    now = Record.objects.get(pk=record.pk)
    assert now.data["notes"] == "Mine"
    if isinstance(fixed, NotFixed):
        assert fixed.code in {"record_busy", "moved"} and now.revision == 2
    else:
        assert (now.data["city"], now.revision) == ("Elsewhere", 3)
    drain()
    there = master.get("accounts", "ACC-0001")
    assert (there["notes"], there["city"], job_of(record).status) == ("Mine", "Elsewhere", "SYNCED")


@pytest.mark.parametrize("turn", range(4))
def test_a_person_and_the_policy_repair_once(master: DemoMaster, turn: int) -> None:
    resource, record, row = differing(master, rule=TAKE)
    pat = person("pat")
    fixed, run = together(lambda: fixing.fix(row.pk, direction=TAKE, actor=pat), lambda: reconcile(resource))
    assert not isinstance(run, Exception)
    assert isinstance(fixed, Discrepancy) or fixed.code in {"already_settled", "moved"}
    assert Event.objects.filter(kind="record.repaired", record=record).count() == 1
    assert (Record.objects.get(pk=record.pk).revision, Discrepancy.objects.get().state) in {(2, "fixed"), (2, "closed")}


@pytest.mark.parametrize("action", ["use_remote", "push_local"])
@pytest.mark.parametrize("turn", range(2))
def test_a_decision_about_a_conflict_and_the_policy_lose_nothing(master: DemoMaster, turn: int, action: str) -> None:
    resource, record, _ = differing(master, rule=TAKE)
    local.save(local.Edit(record.pk, {"city": "Ours"}), actor=WORKER)
    drain()
    conflict = Conflict.objects.open().get()
    master.edit("accounts", "ACC-0001", notes="Once more")  # the decision is about an older object than the run reads
    decision = Decision(Action(action), conflict.record.revision, conflict.remote_version)
    decided, run = together(lambda: resolve.resolve(conflict.pk, decision, actor=person()), lambda: reconcile(resource))
    assert decided in ("SYNCED", "PENDING") and not isinstance(run, Exception)
    drain()
    now, there = Record.objects.get(pk=record.pk), master.get("accounts", "ACC-0001")
    assert not Conflict.objects.open().exists() and job_of(record).status == "SYNCED"
    assert there["city"] == now.data["city"] == ("Elsewhere" if action == "use_remote" else "Ours")
    assert there["notes"] == "Once more"
    reconcile(resource)
    assert Record.objects.get(pk=record.pk).data["notes"] == "Once more"
    assert reconcile(resource).matched == 40


@pytest.mark.parametrize("turn", range(3))
def test_two_runs_start_at_once(master: DemoMaster, turn: int) -> None:

    resource, _ = agreed(master)
    results = together(*[lambda: runs.start(resource, actor=WORKER)] * 3)
    assert sorted(isinstance(result, AlreadyRunning) for result in results) == [False, True, True]


def test_two_workers_try_the_same_wishes(master: DemoMaster) -> None:
    resource, records = agreed(master, policy={"repair": {"data_mismatch": "alert"}, "brake_percent": 90})
    for external_id in list(records)[:8]:
        master.edit("accounts", external_id, city="Elsewhere")
    reconcile(resource)
    ids = list(Discrepancy.objects.values_list("pk", flat=True))
    assert len(repairs.request(ids, direction=TAKE, actor=person()).ids) == 8
    together(lambda: fixing.work_off(seconds=20), lambda: fixing.work_off(seconds=20))
    assert Event.objects.filter(kind="record.repaired").count() == 8
    assert set(Discrepancy.objects.values_list("state", "wanted")) == {("fixed", "")}


def test_an_ignored_row_is_not_repaired_behind_the_persons_back(master: DemoMaster) -> None:
    resource, _, row = differing(master, rule=TAKE)
    findings.ignore([row.pk], reason="", user_id=None, now=row.found_at)
    run = reconcile(resource)
    assert (run.fixed, run.ignored, Discrepancy.objects.get().state) == (0, 1, "ignored")
