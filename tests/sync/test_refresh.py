"""Reading one object again: what it takes over, what it asks a person, what it leaves alone."""

import pytest
from django.utils import timezone

from syncportal.demo import DemoMaster
from syncportal.remote.models import Resource
from syncportal.sync import operate, refresh, transitions
from syncportal.sync.models import Conflict, Record, SyncJob
from syncportal.sync.states import Status
from tests.factories import NEW_ACCOUNT, PERSON, create, delete, drain, edit, job_of, make_resource, take
from tests.sync.scene import read

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_refresh_takes_what_the_remote_changed_and_keeps_what_is_only_here(
    master: DemoMaster, record: Record
) -> None:
    assert read(record) == "unchanged"
    master.edit("accounts", "ACC-0001", notes="theirs")
    edit(record, city="Lund")
    assert read(record) == "updated"
    record.refresh_from_db()
    assert (record.data["notes"], record.data["city"], record.version) == ("theirs", "Lund", "2")
    assert job_of(record).status == Status.PENDING
    drain()
    assert master.get("accounts", "ACC-0001")["city"] == "Lund"


@pytest.mark.parametrize("status", [Status.ERROR, Status.DEAD_LETTER, Status.VALIDATION_FAILED, Status.SYNCED])
def test_a_refresh_keeps_the_status(master: DemoMaster, record: Record, status: str) -> None:
    SyncJob.objects.filter(pk=record.pk).update(status=status)
    master.edit("accounts", "ACC-0001", notes="theirs")
    assert read(record) == "updated"
    assert job_of(record).status == status


def test_a_refresh_of_both_sides_changed_asks_a_person(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    assert read(record) == "conflict"
    assert (job_of(record).status, Conflict.objects.get().fields) == (Status.VERSION_CONFLICT, ["/city"])
    master.edit("accounts", "ACC-0001", city="Oulu")
    assert read(record) == "conflict"
    assert Conflict.objects.get().remote["city"] == "Oulu", "the remote side is renewed"


def test_a_refresh_settles_what_was_in_doubt(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.faults.add("html", phase="write", times=1)
    drain()
    assert (job_of(record).status, job_of(record).in_doubt) == (Status.VALIDATION_FAILED, True)
    assert read(record) == "updated"
    record.refresh_from_db()
    assert (job_of(record).in_doubt, record.base["city"]) == (False, "Lund")


def test_running_and_held_records_are_busy(master: DemoMaster, record: Record) -> None:
    transitions.hold([record.pk], holder="group 1", now=timezone.now())
    assert read(record) == "busy"
    transitions.release([record.pk], holder="group 1", now=timezone.now())
    edit(record, city="Lund")
    drain(keep_going=lambda: False)
    transitions.claim_many(job_of(record).remote_id, limit=1, holder="h", now=timezone.now(), lease_s=90)
    assert read(record) == "busy"


def test_an_object_that_is_gone_is_confirmed_before_a_person_is_asked(master: DemoMaster, record: Record) -> None:
    master.faults.add("status", status=404, phase="detail", times=1)
    assert read(record) == "unchanged"
    master.delete("accounts", "ACC-0001")
    assert read(record) == "conflict"
    assert Conflict.objects.get().reason == "deleted_remote"


def test_an_object_that_we_want_gone_or_never_sent_is_no_conflict_when_it_is_missing(
    master: DemoMaster, record: Record
) -> None:
    own = make_resource(master, create={"method": "PUT", "path": "/accounts/{0}", "id": "client"})
    fresh = create(own, {"id": "MINE-1", **NEW_ACCOUNT})
    delete(record)
    master.delete("accounts", "ACC-0001")
    assert [read(record), read(fresh)] == ["unchanged", "unchanged"]
    drain()
    record.refresh_from_db()
    assert record.deleted_at is not None and not Conflict.objects.exists()
    assert read(record) == "unchanged", "deleted on both sides"
    assert master.get("accounts", "MINE-1") is not None


def test_an_older_version_is_read_twice_and_then_shown(master: DemoMaster, record: Record) -> None:
    master.edit("accounts", "ACC-0001", notes="one")
    assert read(record) == "updated"
    master.faults.add("stale_version", times=1)
    assert read(record) == "unchanged"
    master.faults.add("stale_version")
    assert read(record) == "conflict"
    assert Conflict.objects.get().reason == "stale_remote"


@pytest.mark.parametrize("fault", [{"kind": "invalid_data", "field": "active"}, {"kind": "html"}, {"kind": "wrong_id"}])
def test_an_answer_that_cannot_be_trusted_is_not_applied(master: DemoMaster, record: Record, fault: dict) -> None:
    master.edit("accounts", "ACC-0001", notes="one")
    options = dict(fault)
    master.faults.add(options.pop("kind"), **options)
    assert read(record) in {"invalid", "failed"}
    record.refresh_from_db()
    assert record.version == "1"


def test_wishes_to_read_again_are_worked_off_in_the_background(
    master: DemoMaster, resource: Resource, record: Record
) -> None:
    [other] = take(master, resource, "ACC-0002")
    transitions.hold([other.pk], holder="group 1", now=timezone.now())
    master.edit("accounts", "ACC-0001", notes="theirs")
    done = operate.request_refresh([record.pk, other.pk], actor=PERSON)
    assert done.moved == (record.pk,)
    assert refresh.refresh_requested() == 1
    assert refresh.refresh_requested() == 0
    record.refresh_from_db()
    assert record.data["notes"] == "theirs"
