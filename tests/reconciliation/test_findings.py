"""What single differences are found as, why, and what repairing them does."""

from collections.abc import Iterator
from typing import Any

import pytest

from reconciliation import fixing, repairs, runs
from reconciliation.api.shapes import discrepancy
from reconciliation.models import Discrepancy
from reconciliation.summary import csv_lines
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.configuration import save_remote, save_resource
from syncportal.remote.models import Resource
from syncportal.sync import pull, transitions
from syncportal.sync.claims import Send
from syncportal.sync.models import Record, SyncJob
from tests.factories import NEW_ACCOUNT, create, delete, drain, edit, job_of
from tests.reconciliation.scene import adds_up, agreed, found, person, reconcile
from tests.remote.scripted import Scripted, scripted_server

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
ALERTS = {"repair": {"version_drift": "alert", "data_mismatch": "alert"}}


@pytest.fixture
def big(master: DemoMaster) -> DemoMaster:
    """Return the master with enough rows that a few changes hold no brake."""
    master.reset((accounts(60), shifts(1)))
    return master


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


def scripted(server: Scripted, rows: list[Any]) -> Resource:
    """Make a resource of a scripted server that lists these rows."""
    server.script["GET", "/things"] = (200, {"value": rows})
    config = {
        "list": {"path": "/things", "items": "/value"}, "detail": {"path": "/things/{0}"}, "id": ["/id"],
        "version": {"from": "body", "pointer": "/rev"}, "policy": {"lag_s": 0, **ALERTS},
    }  # fmt: skip
    remote = save_remote(slug="scripted", name="", base_url=server.base_url, config={}).row
    return save_resource(remote=remote, slug="things", name="", config=config).row


def cause_of(external_id: str) -> str:
    return str(Discrepancy.objects.get(external_id=external_id).cause)


def test_a_cause_comes_from_our_own_journal(big: DemoMaster) -> None:
    resource, records = agreed(big, policy=ALERTS)
    before = records["ACC-0002"].data["city"]
    for number in (2, 3):
        edit(records[f"ACC-000{number}"], city="Ours")
    drain()
    big.edit("accounts", "ACC-0001", city="Theirs")
    big.edit("accounts", "ACC-0002", city=before)
    there = big.store.held("accounts", "ACC-0003")
    there.document["city"] = "OURS"
    edit(records["ACC-0004"], city="Refused")
    SyncJob.objects.filter(pk=records["ACC-0004"].pk).update(status="ERROR", due_at=None)
    reconcile(resource)
    causes = {external_id: cause_of(external_id) for external_id in found(resource)}
    assert causes == {
        "ACC-0001": "changed_remotely", "ACC-0002": "our_write_lost", "ACC-0003": "normalised_by_remote",
        "ACC-0004": "never_pushed",
    }  # fmt: skip


def test_a_record_that_stopped_is_found_and_not_repaired(big: DemoMaster) -> None:
    resource, records = agreed(big, policy={"repair": {"data_mismatch": "push_local"}})
    edit(records["ACC-0004"], city="Refused")
    SyncJob.objects.filter(pk=records["ACC-0004"].pk).update(status="ERROR", due_at=None)
    run = reconcile(resource)
    assert (run.fixed, run.needing_action, job_of(records["ACC-0004"]).status) == (0, 1, "ERROR")
    row = Discrepancy.objects.get()
    assert repairs.preview([row.pk], direction="push_local").left_out == {row.pk: "error"}


@pytest.mark.parametrize("state", ["PROCESSING", "in_doubt", "held", "VERSION_CONFLICT", "young"])
def test_what_is_under_way_is_not_judged(big: DemoMaster, state: str) -> None:
    resource, records = agreed(big, policy={**ALERTS, "lag_s": 3600 if state == "young" else 0})
    record = records["ACC-0001"]
    if state == "young":
        edit(record, city="Just sent")
        drain()
    big.edit("accounts", "ACC-0001", city="Elsewhere")
    jobs = SyncJob.objects.filter(pk=record.pk)
    if state == "PROCESSING":
        jobs.update(status=state, lease_until="2100-01-01T00:00:00Z")
    elif state == "in_doubt":
        jobs.update(in_doubt=True)
    elif state == "held":
        jobs.update(held_by="group:1")
    elif state == "VERSION_CONFLICT":
        jobs.update(status=state)
    run = reconcile(resource)
    assert (run.busy, found(resource)) == (1, {}) and adds_up(run)


def test_a_change_made_past_us_is_pushed_and_not_overwritten(big: DemoMaster) -> None:
    resource, records = agreed(big)
    Record.objects.filter(pk=records["ACC-0001"].pk).update(data={**records["ACC-0001"].data, "city": "By SQL"})
    run = reconcile(resource)
    assert (run.busy, run.fixed, found(resource)) == (1, 0, {})
    drain()
    assert big.get("accounts", "ACC-0001")["city"] == "By SQL"


def test_an_object_that_a_create_of_ours_may_have_made_is_not_missing_here(big: DemoMaster) -> None:
    resource, _ = agreed(big)
    record = create(resource, {**NEW_ACCOUNT, "name": "On its way"})
    [claim] = transitions.claim_many(
        resource.remote_id, limit=1, holder="w", now=job_of(record).due_at, lease_s=90, record_ids=[record.pk]
    )
    assert isinstance(claim.current, Send)
    big.create("accounts", {"id": "ACC-9", **NEW_ACCOUNT, "name": "On its way"})
    big.create("accounts", {"id": "ACC-8", **NEW_ACCOUNT, "name": "Somebody else's", "email": "s@example.org"})
    run = reconcile(resource)
    assert found(resource) == {"ACC-8": ("missing_local", "open")} and run.busy == 1


def test_two_objects_under_one_id_are_a_duplicate_key(server: Scripted) -> None:
    one, other = {"id": "1", "title": "One", "rev": 1}, {"id": "1", "title": "Other", "rev": 2}
    resource = scripted(server, [one, {"id": "2", "title": "Two", "rev": 1}])
    pull.run(pull.start(resource).pk)
    server.script["GET", "/things"] = (200, {"value": [one, other, {"id": "2", "title": "Two", "rev": 1}]})
    server.script["GET", "/things/1"] = (200, one)
    run = reconcile(resource)
    assert (found(resource), run.duplicate_key, adds_up(run)) == ({"1": ("duplicate_key", "open")}, 1, True)
    row = Discrepancy.objects.select_related("resource").get()
    assert discrepancy(row)["cause"] == "unknown" and ",duplicate_key,unknown," in "".join(csv_lines([row]))
    with pytest.raises(fixing.NotFixed) as refused:
        fixing.fix(Discrepancy.objects.get().pk, direction="take_remote", actor=person())
    assert refused.value.code == "not_possible"
    server.script["GET", "/things"] = (200, {"value": [one, one, {"id": "2", "title": "Two", "rev": 1}]})
    again = reconcile(resource)
    assert (again.closed, found(resource)) == (1, {"1": ("duplicate_key", "closed")})


def test_rows_that_are_no_objects_are_one_finding_that_closes(server: Scripted) -> None:
    good = {"id": "2", "title": "Two", "rev": 1}
    resource = scripted(server, [good])
    pull.run(pull.start(resource).pk)
    server.script["GET", "/things"] = (200, {"value": ["text", {"title": "No id"}, good]})
    run = reconcile(resource)
    assert (found(resource), run.invalid_remote) == ({"": ("invalid_remote", "open")}, 1) and adds_up(run)
    assert "row 1 is no object" in Discrepancy.objects.get().detail
    server.script["GET", "/things"] = (200, {"value": [good]})
    assert (reconcile(resource).closed, found(resource)) == (1, {"": ("invalid_remote", "closed")})


def test_accepting_that_an_object_is_gone_deletes_the_record_here_only(big: DemoMaster) -> None:
    resource, records = agreed(big)
    big.delete("accounts", "ACC-0001")
    reconcile(resource)
    fixing.fix(Discrepancy.objects.get().pk, direction="take_remote", actor=person())
    record = Record.objects.get(pk=records["ACC-0001"].pk)
    assert record.deleted_at is not None and job_of(record).status == "SYNCED"
    again = reconcile(resource)
    assert (again.matched, again.checked) == (59, 59)


@pytest.mark.parametrize("direction", ["take_remote", "push_local"])
def test_an_object_that_we_deleted_and_that_is_there_again(big: DemoMaster, direction: str) -> None:
    resource, records = agreed(big)
    content = {name: value for name, value in records["ACC-0001"].data.items() if name not in ("version", "updated_at")}
    delete(records["ACC-0001"])
    drain()
    big.create("accounts", content)
    reconcile(resource)
    row = Discrepancy.objects.get()
    assert (row.kind, row.record_id) == ("missing_local", records["ACC-0001"].pk)
    fixing.fix(row.pk, direction=direction, actor=person())
    drain()
    record = Record.objects.get(pk=row.record_id)
    kept = direction == "take_remote"
    assert (record.deleted_at is None, big.get("accounts", "ACC-0001") is not None) == (kept, kept)
    assert reconcile(resource).missing_local == 0


def test_a_plan_is_exactly_what_is_done(big: DemoMaster) -> None:
    resource, _ = agreed(big)
    for number in (1, 2, 3):
        big.edit("accounts", f"ACC-000{number}", city="Elsewhere")
    plan = reconcile(resource, dry_run=True)
    assert plan.planned == 3 and not Record.objects.filter(data__city="Elsewhere").exists()
    big.edit("accounts", "ACC-0002", city="Later")
    big.edit("accounts", "ACC-0004", city="Elsewhere")
    assert runs.apply_plan(plan.pk, actor=person()) == 3
    assert fixing.work_off(seconds=20) == 3
    assert sorted(Record.objects.filter(data__city="Elsewhere").values_list("external_id", flat=True)) == [
        "ACC-0001", "ACC-0003",
    ]  # fmt: skip
    skipped = Discrepancy.objects.open().get()
    assert skipped.external_id == "ACC-0002" and "changed at the remote" in skipped.outcome
