"""Lists that lie: they end, nothing is found missing that is there, the brake holds, and an event says why."""

from typing import Any

import pytest

from reconciliation import engine, runs
from reconciliation.models import Discrepancy, Run
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.models import Resource
from syncportal.sync.events import WORKER
from syncportal.sync.models import Event
from tests.factories import ACCOUNTS, SHIFTS
from tests.reconciliation.scene import adds_up, agreed, found, reconcile

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]

# Each way to page of the demo master, and how a resource is configured for it.
STYLES = {
    "offset": ACCOUNTS["list"]["page"],
    "page": {"style": "page", "param": "page", "total": "/total"},
    "cursor": SHIFTS["list"]["page"],
    "last_id": {"style": "last_id", "param": "after", "more": "/more"},
    "next_url": {"style": "body_url", "pointer": "/next"},
    "link": {"style": "link_header"},
    "header_url": {"style": "header_url", "name": "Next-Page"},
    "header_params": {"style": "header_params", "map": {"X-Next-Offset": "offset"}},
}


def differing(master: DemoMaster, style: str = "offset") -> Resource:
    """Make a resource that pages in a style, with one outside edit, one deletion and one addition."""
    master.reset((accounts(180, paging=style), shifts(1)))
    page = {**STYLES[style], "size_param": "limit", "size": 50}
    items = "" if style == "link" else "/items"
    resource, _ = agreed(master, list={"path": "/accounts", "items": items, "page": page})
    master.edit("accounts", "ACC-0170", city="Elsewhere")
    master.delete("accounts", "ACC-0171")
    master.create(
        "accounts", {"id": "ACC-0171b", "name": "N", "email": "n@example.org", "tier": "gold", "active": True}
    )
    return resource


TRUTH = {
    "ACC-0170": ("data_mismatch", "fixed"), "ACC-0171": ("missing_remote", "open"),
    "ACC-0171b": ("missing_local", "open"),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_every_way_to_page_finds_what_differs(master: DemoMaster, style: str) -> None:
    resource = differing(master, style)
    run = reconcile(resource)
    assert (run.state, found(resource)) == ("finished", TRUTH)
    assert adds_up(run) and run.checked == 181


def told_why(run: Run) -> str:
    told = Event.objects.get(kind="reconciliation.braked")
    assert told.data["run"] == run.pk
    return str(told.data["reason"])


@pytest.mark.parametrize("style", ["offset", "next_url", "cursor"])
@pytest.mark.parametrize("kind", ["page_loop", "page_repeat", "page_shrink", "page_lose_tail", "page_empty"])
def test_a_list_that_loses_its_rows_repairs_nothing_and_finds_no_false_missing(
    master: DemoMaster, kind: str, style: str
) -> None:
    resource = differing(master, style)
    master.faults.add(kind, collection="accounts", phase="list", **({"rows": 60} if kind == "page_shrink" else {}))
    run = reconcile(resource)
    rows = found(resource)
    shows_everything = kind == "page_shrink" and style != "offset"
    if shows_everything:  # these follow links, not totals
        assert (run.state, rows) == ("finished", TRUTH)
        return
    assert run.state == "braked" and run.fixed == 0
    assert rows.pop("ACC-0171b", None) in (None, TRUTH["ACC-0171b"])
    assert rows == {"ACC-0170": ("data_mismatch", "open"), "ACC-0171": ("missing_remote", "open")}
    assert told_why(run) in run.problem and adds_up(run)


def test_pages_that_overlap_find_exactly_what_differs(master: DemoMaster) -> None:
    resource = differing(master)
    master.faults.add("page_overlap", collection="accounts", phase="list")
    run = reconcile(resource)
    assert (run.state, found(resource)) == ("finished", TRUTH)
    assert run.remote_rows > 180


def test_an_object_that_changes_while_two_pages_show_it_is_counted_once(
    master: DemoMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = differing(master)
    master.faults.add("page_overlap", collection="accounts", phase="list", rows=1)
    read = ResourceClient.list_page

    def then_edited(client: ResourceClient, *args: Any, **options: Any) -> Any:
        page = read(client, *args, **options)
        master.edit("accounts", str(page.objects[-1].external_id), city=f"Moved {page.objects[-1].external_id}")
        return page

    monkeypatch.setattr(ResourceClient, "list_page", then_edited)
    run = reconcile(resource)
    assert adds_up(run) and run.duplicate_key == 0
    assert found(resource)["ACC-0050"] == ("data_mismatch", "fixed")


def test_pages_that_skip_rows_cost_reads_and_find_nothing_false(master: DemoMaster) -> None:
    resource = differing(master)
    master.faults.add("page_skip", collection="accounts", phase="list", rows=2)
    run = reconcile(resource)
    assert found(resource) == TRUTH
    assert "left out" in run.problem


def test_a_next_page_on_another_host_is_not_followed(master: DemoMaster) -> None:
    resource = differing(master, "next_url")
    master.faults.add("page_other_host", collection="accounts", phase="list")
    run = reconcile(resource)
    assert run.state == "failed" and "another host" in run.problem
    assert not found(resource)


def test_a_mass_deletion_holds_the_brake_and_is_listed_row_by_row(master: DemoMaster) -> None:
    resource = differing(master)
    for number in range(1, 41):
        master.delete("accounts", f"ACC-{number:04}")
    run = reconcile(resource)
    assert (run.state, run.fixed, run.missing_remote) == ("braked", 0, 41)
    assert "41 seem to be missing" in told_why(run)
    assert Discrepancy.objects.open().filter(kind="data_mismatch").count() == 1


def test_deleted_objects_that_the_list_still_shows_are_missing(master: DemoMaster) -> None:
    master.reset((accounts(60, tombstone=("deleted", True), list_tombstones=True), shifts(1)))
    resource, _ = agreed(master, tombstone={"/deleted": True})
    master.delete("accounts", "ACC-0005")
    run = reconcile(resource)
    assert (run.state, found(resource)) == ("finished", {"ACC-0005": ("missing_remote", "open")})


def test_a_list_of_stubs_reads_each_object(master: DemoMaster) -> None:
    master.reset((accounts(60, stub_rows=True), shifts(1)))
    resource, _ = agreed(master, list={**ACCOUNTS["list"], "stub": True})
    master.edit("accounts", "ACC-0005", city="Elsewhere")
    assert reconcile(resource).fixed == 1


def test_a_run_waits_while_the_remote_is_down_and_goes_on(master: DemoMaster) -> None:
    resource = differing(master)
    run = runs.start(resource, actor=WORKER)
    rule = master.faults.add("status", status=503, phase="detail")
    stopped = engine.run_slice(run.pk, seconds=20)
    assert (stopped.goes_on, stopped.run.state, stopped.run.phase) == (False, "running", "confirming")
    assert stopped.run.problem and not Discrepancy.objects.exists()
    master.faults.remove(rule.number)
    assert engine.run_slice(run.pk, seconds=20).worked is False, "it pauses, so that a failing remote is not hammered"
    Run.objects.update(lease_until=None)
    assert engine.run_slice(run.pk, seconds=20).run.state == "finished"
    assert found(resource) == TRUTH
