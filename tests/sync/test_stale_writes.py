"""Pushes that meet what somebody else did to the object: merged, skipped, or for a person."""

from collections.abc import Callable

import pytest

from syncportal.demo import DemoMaster, accounts
from syncportal.sync.models import Conflict, Event, Record
from syncportal.sync.states import Status
from tests.factories import Clock, delete, drain, edit, job_of, make_resource, take

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_missing_object_is_confirmed_and_then_for_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.delete("accounts", "ACC-0001")
    drain(clock)
    conflict = Conflict.objects.get()
    assert (job_of(record).status, conflict.reason, conflict.remote) == (
        Status.VERSION_CONFLICT, "deleted_remote", None,
    )  # fmt: skip
    assert [request.method for request in master.requests()] == ["PUT", "GET"]


def test_an_object_that_is_missing_only_once_is_no_conflict(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=404, phase="update", times=1)
    drain(clock)
    assert not Conflict.objects.exists()
    assert job_of(record).status == Status.ERROR


def test_a_stale_write_is_merged_with_a_change_of_other_fields(
    master: DemoMaster, record: Record, clock: Clock
) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", notes="theirs")
    assert drain(clock).by_verb == {"rebase": 1, "complete": 1}
    record.refresh_from_db()
    held = master.get("accounts", "ACC-0001")
    assert (held["city"], held["notes"], job_of(record).status) == ("Lund", "theirs", Status.SYNCED)
    assert record.data["notes"] == "theirs"
    assert Event.objects.get(kind="sync.merged").data["merged_fields"] == ["/notes"]


def test_a_stale_write_over_the_same_field_waits_for_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    drain(clock)
    conflict = Conflict.objects.get()
    assert (conflict.reason, conflict.fields, conflict.remote_version) == ("precondition_failed", ["/city"], "2")
    assert (conflict.base["city"], conflict.local["city"], conflict.remote["city"]) == (
        record.data["city"], "Lund", "Turku",
    )  # fmt: skip
    assert master.get("accounts", "ACC-0001")["city"] == "Turku"
    assert Event.objects.filter(kind="sync.conflict").count() == 1


def test_the_same_edit_made_on_both_sides_is_skipped(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Lund")
    drain(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SKIPPED, 1)


def test_a_deletion_against_a_change_is_always_for_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    delete(record)
    master.edit("accounts", "ACC-0001", notes="theirs")
    drain(clock)
    assert Conflict.objects.get().reason == "deleted_local"
    assert master.get("accounts", "ACC-0001") is not None


def test_endless_conflicting_changes_end_with_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    for number in range(12):
        master.edit("accounts", "ACC-0001", notes=f"{number}")
        drain(clock, keep_going=once())
        if job_of(record).status == Status.VERSION_CONFLICT:
            break
    assert job_of(record).status == Status.VERSION_CONFLICT
    assert number == 3, "at most three rebases in a row"


def once() -> Callable[[], bool]:
    """Return a `keep_going` that lets one round of claims happen."""
    left = [True]
    return lambda: bool(left and left.pop())


def test_without_conditional_writes_the_object_is_compared_before_it_is_written(
    master: DemoMaster, clock: Clock
) -> None:
    resource = make_resource(master, precondition={"send": "none"})
    one, two = take(master, resource, "ACC-0001", "ACC-0002")
    edit(one, city="Lund")
    edit(two, city="Lund")
    master.edit("accounts", "ACC-0002", city="Turku")
    drain(clock)
    assert [job_of(row).status for row in (one, two)] == [Status.SYNCED, Status.VERSION_CONFLICT]
    assert master.get("accounts", "ACC-0002")["city"] == "Turku"


def test_precondition_that_the_probe_found_ignored_is_not_relied_upon(master: DemoMaster, clock: Clock) -> None:
    master.reset((accounts(10, precondition="ignored"),))
    resource = make_resource(master)
    resource.guarantees = {"conditional_writes": "no"}
    resource.save()
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    drain(clock)
    assert Conflict.objects.get().reason == "concurrent_edit"
