"""Pulling a whole list: what is made, updated and left alone, however the list behaves."""

from contextlib import suppress
from typing import Any

import pytest
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.kernel.clock import db_now
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Resource
from syncportal.sync import pull, refresh, sweep, transitions
from syncportal.sync.models import Conflict, Event, Pull, Record, SyncJob
from syncportal.sync.states import Status
from tests.factories import NEW_ACCOUNT, create, delete, drain, edit, job_of, make_resource
from tests.sync.scene import read

pytestmark = pytest.mark.django_db(transaction=True)


def pull_all(resource: Resource) -> Any:
    return pull.run(pull.start(resource).pk)


def counts(done: Any) -> dict[str, int]:
    names = ("seen", "created", "updated", "unchanged", "busy", "invalid")
    return {name: getattr(done, name) for name in names if getattr(done, name)}


def test_a_pull_makes_records_and_pulling_again_changes_nothing(master: DemoMaster, resource: Resource) -> None:
    master.reset((accounts(120), shifts(1)))
    done = pull_all(resource)
    assert (done.state, counts(done)) == ("done", {"seen": 120, "created": 120})
    assert SyncJob.objects.filter(status=Status.SYNCED).count() == 120
    assert counts(pull_all(resource)) == {"seen": 120, "unchanged": 120}
    assert master.writes() == []
    assert sweep.sweep().dirty == 0, "what was pulled is not dirty"


def test_a_pull_takes_changes_and_leaves_busy_records_alone(master: DemoMaster, resource: Resource) -> None:
    pull_all(resource)
    one, two, three = (Record.objects.get(external_id=f"ACC-000{n}") for n in (1, 2, 3))
    for name in ("ACC-0001", "ACC-0002", "ACC-0003"):
        master.edit("accounts", name, notes="theirs")
    edit(two, city="Lund")
    transitions.hold([three.pk], holder="group 1", now=timezone.now())
    assert counts(pull_all(resource)) == {"seen": 10, "updated": 1, "unchanged": 7, "busy": 2}
    one.refresh_from_db()
    assert (one.data["notes"], one.version, job_of(one).status) == ("theirs", "2", Status.SYNCED)
    assert Event.objects.filter(kind="record.pulled").count() == 1


def test_a_pull_counts_invalid_objects_and_goes_on(master: DemoMaster, resource: Resource) -> None:
    rows = [dict(row) for row in accounts(4).rows]
    del rows[1]["email"]
    master.reset((accounts(0, rows=tuple(rows)), shifts(1)))
    assert counts(pull_all(resource)) == {"seen": 4, "created": 3, "invalid": 1}


@pytest.mark.parametrize("fault", ["page_loop", "page_repeat", "page_overlap"])
def test_a_list_that_repeats_itself_ends_and_doubles_nothing(
    master: DemoMaster, resource: Resource, fault: str
) -> None:
    from syncportal.remote.errors import RemoteError

    master.reset((accounts(120), shifts(1)))
    master.faults.add(fault, phase="list")
    started = pull.start(resource)
    with suppress(RemoteError):
        pull.run(started.pk)
    started.refresh_from_db()
    assert started.state in {"done", "failed"} and (started.state == "done" or started.problem)
    assert pull.run_waiting(seconds=1) == 0, "not again by itself"
    ids = list(Record.objects.filter(resource=resource).values_list("external_id", flat=True))
    assert len(ids) == len(set(ids)) >= 50


def test_a_pull_from_a_remote_that_is_down_pauses_between_tries(master: DemoMaster, resource: Resource) -> None:
    pull.start(resource)
    master.faults.add("status", status=500)
    assert [pull.run_waiting(seconds=1) for _ in range(3)] == [0, 0, 0]
    assert len(master.requests()) == 1


def test_a_pull_goes_on_where_it_stopped(master: DemoMaster, resource: Resource) -> None:
    from syncportal.remote.errors import RemoteError

    master.reset((accounts(120), shifts(1)))
    master.faults.add("status", status=500, phase="list", skip=1, times=1)
    started = pull.start(resource)
    with pytest.raises(RemoteError):
        pull.run(started.pk)
    started.refresh_from_db()
    assert (started.state, started.created) == ("running", 50)
    assert pull.start(resource).pk == started.pk
    done = pull.run(started.pk)
    assert (done.state, done.created) == ("done", 120)


def test_a_pull_revives_a_deleted_record_and_deletes_none(master: DemoMaster, resource: Resource) -> None:
    pull_all(resource)
    gone, kept = (Record.objects.get(external_id=f"ACC-000{n}") for n in (1, 2))
    delete(gone)
    drain()
    master.delete("accounts", "ACC-0002")
    master.create("accounts", {"id": "ACC-0001", **NEW_ACCOUNT})
    pull_all(resource)
    gone.refresh_from_db()
    assert (gone.deleted_at, gone.data["name"], job_of(gone).status) == (None, "Fresh", Status.SYNCED)
    kept.refresh_from_db()
    assert kept.deleted_at is None


def test_an_older_row_in_a_list_is_read_itself_before_anybody_is_asked(
    master: DemoMaster, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_all(resource)
    record = Record.objects.get(external_id="ACC-0001")
    lagging, _ = pull._page(client_for(resource), Pull(resource=resource))
    edit(record, city="Lund")
    drain()
    monkeypatch.setattr(pull, "_page", lambda *args: (lagging, db_now()))
    assert counts(pull_all(resource)) == {"seen": 10, "unchanged": 9, "busy": 1}
    assert refresh.refresh_requested() == 1
    assert not Conflict.objects.exists()
    assert (job_of(record).status, job_of(record).refresh_requested_at) == (Status.SYNCED, None)


def test_a_record_that_was_read_while_the_page_was_on_its_way_is_left_alone(
    master: DemoMaster, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_all(resource)
    record = Record.objects.get(external_id="ACC-0001")
    real = pull._page

    def slow_page(*args: Any) -> Any:
        page = real(*args)
        master.edit("accounts", "ACC-0001", notes="newer than the page")
        assert read(record) == "updated"
        return page

    monkeypatch.setattr(pull, "_page", slow_page)
    done = pull_all(resource)
    assert done.busy == 1 and not Conflict.objects.exists()
    record.refresh_from_db()
    assert record.data["notes"] == "newer than the page"


def test_a_tombstone_in_a_list_makes_no_record(master: DemoMaster) -> None:
    master.reset((accounts(5, tombstone=("deleted", True), list_tombstones=True), shifts(1)))
    resource = make_resource(master, tombstone={"/deleted": True})
    master.delete("accounts", "ACC-0001")
    assert counts(pull_all(resource))["created"] == 4


@pytest.mark.db
def test_no_writer_of_records_leaves_a_record_dirty(master: DemoMaster, resource: Resource) -> None:
    pull_all(resource)
    create(resource, {**NEW_ACCOUNT, "name": 'Åsa \u2028 "quoted" \\ 😀'})
    edit(Record.objects.get(external_id="ACC-0002"), city="Łódź")
    master.edit("accounts", "ACC-0003", notes="théirs")
    drain()
    pull_all(resource)
    read(Record.objects.get(external_id="ACC-0003"))
    assert sweep.sweep().dirty == 0
