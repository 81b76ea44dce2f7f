"""Runs from end to end against a master: every kind is found, fixed by policy, and a second run is clean."""

from collections import Counter
from threading import Lock
from typing import Any

import pytest

from reconciliation import direct, engine, journal, runs
from reconciliation.models import Discrepancy, Run, SpooledRow, Suspect
from reconciliation.states import State
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.demo.seed import ACCOUNT_SCHEMA
from syncportal.sync.events import WORKER
from syncportal.sync.models import Event, Record
from tests.factories import ACCOUNTS, SHIFTS, drain, edit, job_of, make_remote, make_resource, take
from tests.reconciliation.scene import AT_ONCE, adds_up, agreed, found, reconcile

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def big(master: DemoMaster) -> DemoMaster:
    """Return the master with enough rows that a few changes hold no brake."""
    master.reset((accounts(120), shifts(60)))
    return master


def test_two_sides_that_agree_match(big: DemoMaster) -> None:
    resource, _ = agreed(big)
    run = reconcile(resource)
    assert (run.state, run.checked, run.matched, run.problem) == ("finished", 120, 120, "")
    assert run.remote_rows == 120 and not Discrepancy.objects.exists()
    told = Event.objects.get(kind="reconciliation.finished")
    assert (told.resource_id, told.data["matched"], told.data["needing_action"]) == (resource.pk, 120, 0)


def test_every_kind_is_found_and_nothing_else(big: DemoMaster) -> None:
    properties = {**ACCOUNT_SCHEMA["properties"], "city": {"type": "string", "maxLength": 20}}
    schema = {**ACCOUNT_SCHEMA, "properties": properties}
    policy = {"repair": {"version_drift": "alert", "data_mismatch": "alert"}}
    resource, records = agreed(big, policy=policy, schema=schema)
    big.edit("accounts", "ACC-0003", city="Elsewhere")
    big.edit("accounts", "ACC-0004", {})
    big.delete("accounts", "ACC-0005")
    big.create("accounts", {"id": "ACC-0005b", "name": "New", "email": "n@example.org", "tier": "gold", "active": True})
    big.edit("accounts", "ACC-0006", city="A name longer than we accept")
    edit(records["ACC-0007"], city="In flight")
    run = reconcile(resource)
    assert found(resource) == {
        "ACC-0003": ("data_mismatch", "open"), "ACC-0004": ("version_drift", "open"),
        "ACC-0005": ("missing_remote", "open"), "ACC-0005b": ("missing_local", "open"),
        "ACC-0006": ("invalid_remote", "open"),
    }  # fmt: skip
    assert (run.state, run.busy, run.fixed, run.needing_action) == ("finished", 1, 0, 5)
    assert adds_up(run)
    row = Discrepancy.objects.get(external_id="ACC-0003")
    assert [(d["pointer"], d["remote"]) for d in row.differences] == [("/city", "Elsewhere")]
    assert (row.cause, row.local_version, row.remote_version, row.run) == ("changed_remotely", "1", "2", run)
    assert not Suspect.objects.exists()


def test_the_default_policy_takes_what_changed_there_and_leaves_the_rest_to_people(big: DemoMaster) -> None:
    resource, records = agreed(big)
    big.edit("accounts", "ACC-0003", city="Elsewhere")
    big.edit("accounts", "ACC-0004", {})
    big.delete("accounts", "ACC-0005")
    run = reconcile(resource)
    assert (run.fixed, run.needing_action) == (2, 1)
    assert found(resource) == {
        "ACC-0003": ("data_mismatch", "fixed"), "ACC-0004": ("version_drift", "fixed"),
        "ACC-0005": ("missing_remote", "open"),
    }  # fmt: skip
    taken = Record.objects.get(external_id="ACC-0003")
    assert (taken.data["city"], taken.version, taken.base == taken.data) == ("Elsewhere", "2", True)
    assert (taken.revision, job_of(taken).status) == (2, "SYNCED")
    assert Record.objects.get(external_id="ACC-0005").deleted_at is None
    told = Event.objects.get(kind="record.repaired", record=taken)
    assert told.data["changes"]["city"]["after"] == "Elsewhere"
    again = reconcile(resource)
    assert (again.matched, again.missing_remote, again.fixed) == (119, 1, 0)


def test_a_policy_that_pushes_goes_through_the_normal_flow(big: DemoMaster) -> None:
    repair = {"data_mismatch": "push_local", "missing_remote": "push_local", "missing_local": "take_remote"}
    resource, records = agreed(big, policy={"repair": repair})
    big.edit("accounts", "ACC-0003", city="Elsewhere")
    big.delete("accounts", "ACC-0005")
    big.create("accounts", {"id": "ACC-0005b", "name": "New", "email": "n@example.org", "tier": "gold", "active": True})
    assert reconcile(resource).fixed == 3
    assert job_of(records["ACC-0003"]).status == job_of(records["ACC-0005"]).status == "PENDING"
    drain()
    assert big.get("accounts", "ACC-0003")["city"] == records["ACC-0003"].data["city"]
    reborn = Record.objects.get(pk=records["ACC-0005"].pk)
    assert big.get("accounts", reborn.external_id)["name"] == records["ACC-0005"].data["name"]
    assert Record.objects.get(external_id="ACC-0005b").job.status == "SYNCED"
    again = reconcile(resource)
    assert (again.matched, again.checked) == (121, 121)


def test_a_discrepancy_closes_itself_and_comes_back(big: DemoMaster) -> None:
    resource, records = agreed(big, policy={"repair": {"data_mismatch": "alert", "version_drift": "off"}})
    old = records["ACC-0003"].data["city"]
    big.edit("accounts", "ACC-0003", city="Elsewhere")
    reconcile(resource)
    big.edit("accounts", "ACC-0003", city=old)
    run = reconcile(resource)
    assert (run.version_drift, run.closed, found(resource)["ACC-0003"]) == (1, 0, ("data_mismatch", "open"))
    Record.objects.filter(external_id="ACC-0003").update(version="3")
    run = reconcile(resource)
    assert (run.closed, found(resource)) == (1, {"ACC-0003": ("data_mismatch", "closed")})
    big.edit("accounts", "ACC-0003", city="Elsewhere")
    reconcile(resource)
    row = Discrepancy.objects.get()
    assert (row.state, row.reopened) == (State.OPEN, 1)


def test_what_is_missing_here_closes_when_it_is_gone_there_too(big: DemoMaster) -> None:
    resource, _ = agreed(big)
    big.create("accounts", {"id": "ACC-9", "name": "New", "email": "n@example.org", "tier": "gold", "active": True})
    reconcile(resource)
    big.delete("accounts", "ACC-9")
    run = reconcile(resource)
    assert (run.closed, run.missing_local, found(resource)["ACC-9"][1]) == (1, 0, "closed")
    assert adds_up(run)


@pytest.mark.parametrize("order", ["hashed", "unstable"])
def test_a_list_in_no_order_is_sorted_aside_and_compared(big: DemoMaster, order: str) -> None:
    big.reset((accounts(120, order=order), shifts(60, order=order)))
    kind, name = (ACCOUNTS, "accounts") if order == "hashed" else (SHIFTS, "shifts")
    resource, _ = agreed(big, kind, policy={"repair": {"data_mismatch": "alert"}})
    ids = big.store.listed(name)
    ids.sort()
    big.edit(name, ids[3], **({"city": "Elsewhere"} if name == "accounts" else {"title": "Elsewhere"}))
    big.delete(name, ids[5])
    run = reconcile(resource)
    assert found(resource) == {ids[3]: ("data_mismatch", "open"), ids[5]: ("missing_remote", "open")}
    assert adds_up(run) and not SpooledRow.objects.exists()


def test_a_resource_without_a_list_is_read_object_by_object(big: DemoMaster) -> None:
    resource, _ = agreed(big, policy={"repair": {"data_mismatch": "alert"}})
    resource.config = {name: value for name, value in resource.config.items() if name != "list"}
    resource.save()
    big.edit("accounts", "ACC-0003", city="Elsewhere")
    big.delete("accounts", "ACC-0005")
    run = reconcile(resource)
    assert found(resource) == {"ACC-0003": ("data_mismatch", "open"), "ACC-0005": ("missing_remote", "open")}
    assert (run.checked, run.state) == (120, "finished") and adds_up(run)
    lists = [heard for heard in big.requests(collection="accounts") if not heard.path.startswith("/api/accounts/")]
    assert lists == []


def test_single_reads_are_bounded_and_kept_by_the_batch(big: DemoMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = make_remote(big.api_url, limits={"concurrency": 3})
    resource = make_resource(remote, list=None, policy=AT_ONCE)
    take(big, resource, *(f"ACC-{number:04}" for number in range(1, 51)))
    assert direct.BATCH == 200
    monkeypatch.setattr(direct, "BATCH", 20)
    lock, counts, really = Lock(), Counter[str](), direct.read

    def counted(*args: Any, **options: Any) -> Any:
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        try:
            return really(*args, **options)
        finally:
            with lock:
                counts["now"] -= 1

    monkeypatch.setattr(direct, "read", counted)
    stored: list[int] = []
    advance = journal.advance
    monkeypatch.setattr(journal, "advance", lambda run, progress, **more: (
        stored.append(progress.counts["checked"]), advance(run, progress, **more)
    ))  # fmt: skip
    big.latency_ms = 5
    run = reconcile(resource)
    assert (run.state, run.checked, run.matched) == ("finished", 50, 50)
    assert counts["most"] == 3, "as many at once as the remote allows, and no more"
    assert [number for number in stored if number] == [20, 20, 10]


def test_a_selection_looks_at_nothing_else(big: DemoMaster) -> None:
    resource, records = agreed(big)
    big.edit("accounts", "ACC-0003", city="Elsewhere")
    big.edit("accounts", "ACC-0004", city="Elsewhere")
    run = reconcile(resource, record_ids=[records["ACC-0003"].pk, records["ACC-0010"].pk])
    assert (run.scope, run.checked, run.matched, run.fixed) == ("selection", 2, 1, 1)
    assert set(found(resource)) == {"ACC-0003"}


@pytest.mark.parametrize(("differing", "state", "fixed"), [(12, "finished", 12), (13, "braked", 0)])
def test_a_selection_holds_the_brake_where_a_complete_run_would(
    big: DemoMaster, differing: int, state: str, fixed: int
) -> None:
    resource, records = agreed(big)
    chosen = [f"ACC-{number:04}" for number in range(1, differing + 1)]
    for external_id in chosen:
        big.edit("accounts", external_id, city="Elsewhere")
    run = reconcile(resource, record_ids=[records[external_id].pk for external_id in chosen])
    assert (run.state, run.fixed, run.data_mismatch) == (state, fixed, differing)
    assert run.problem == ("" if fixed else "Of 120 rows 0 seem to be missing and 13 differ: more than 10 %."), (
        "the share is the resource's, not the selection's"
    )


def test_a_resource_with_no_records_and_an_empty_list_matches(master: DemoMaster) -> None:
    master.reset((accounts(0), shifts(0)))
    run = reconcile(make_resource(master))
    assert (run.state, run.checked) == ("finished", 0)


def test_a_run_counts_alone_are_shown_while_it_runs(big: DemoMaster) -> None:
    resource, _ = agreed(big)
    run = runs.start(resource, actor=WORKER)
    big.latency_ms = 20
    sliced = engine.run_slice(run.pk, seconds=0.001)
    assert sliced.goes_on and 0 < Run.objects.get(pk=run.pk).checked < 120
    assert engine.run_slice(run.pk, seconds=30).run.state == "finished"
