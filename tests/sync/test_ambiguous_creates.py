"""Creates of which nobody knows whether they made an object: one object in the end, or a person is asked."""

from datetime import timedelta

import pytest

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.models import Resource
from syncportal.sync import operate
from syncportal.sync.models import Record
from syncportal.sync.states import Status
from tests.factories import (
    ACCOUNTS,
    NEW_ACCOUNT,
    NEW_SHIFT,
    PERSON,
    SHIFTS,
    Clock,
    create,
    delete,
    drain,
    edit,
    job_of,
    make_resource,
)
from tests.sync.scene import die_over, until_quiet

pytestmark = pytest.mark.django_db(transaction=True)


def blind(master: DemoMaster) -> Resource:
    """Return a resource with nothing to settle an ambiguous create by."""
    return make_resource(master, idempotency_header=None)


def test_an_ambiguous_create_with_nothing_to_settle_it_by_asks_a_person(master: DemoMaster, clock: Clock) -> None:
    record = create(blind(master), NEW_ACCOUNT)
    master.faults.add("reset_after", phase="create", times=1)
    until_quiet(clock)
    job = job_of(record)
    assert (job.status, job.reason, job.in_doubt) == (Status.ERROR, "create_unknown", True)
    assert len(master.writes()) == 1
    edit(record, city="Lund")
    until_quiet(clock)
    assert job_of(record).reason == "create_unknown", "an edit does not make it less ambiguous"
    with pytest.raises(operate.LinkRefused):
        operate.link(record.pk, " ", actor=PERSON)
    operate.link(record.pk, "ACC-0011", actor=PERSON)
    until_quiet(clock)
    record.refresh_from_db()
    assert (job_of(record).status, record.external_id) == (Status.SYNCED, "ACC-0011")
    assert [write.method for write in master.writes()] == ["POST", "PUT"]
    assert master.get("accounts", "ACC-0011")["city"] == "Lund"


def test_an_ambiguous_create_can_be_sent_again_on_a_persons_word(master: DemoMaster, clock: Clock) -> None:
    record = create(blind(master), NEW_ACCOUNT)
    master.faults.add("reset_before", phase="create", times=1)
    until_quiet(clock)
    assert job_of(record).reason == "create_unknown"
    operate.requeue([record.pk], actor=PERSON, forget_sends=True)
    until_quiet(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


def test_only_an_ambiguous_create_can_be_forgotten(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("html", phase="write", times=1)
    drain(clock)
    assert job_of(record).status == Status.VALIDATION_FAILED
    done = operate.requeue([record.pk], actor=PERSON, forget_sends=True)
    assert done.moved == () and job_of(record).in_doubt


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("kind", ["key", "lookup"])
def test_an_ambiguous_create_that_was_edited_meanwhile_makes_one_object(
    master: DemoMaster, clock: Clock, kind: str, arrived: bool
) -> None:
    """Also when a worker dies before it sends: what it claimed but never sent must not be taken for sent."""
    resource = make_resource(master, ACCOUNTS if kind == "key" else SHIFTS)
    record = create(resource, NEW_ACCOUNT if kind == "key" else NEW_SHIFT)
    master.faults.add("reset_after" if arrived else "reset_before", phase="create", times=1)
    drain(clock)
    edit(record, **({"email": "other@example.org"} if kind == "key" else {"code": "NEW-2"}))
    clock.to(job_of(record).due_at)
    die_over(record, clock)
    until_quiet(clock)
    record.refresh_from_db()
    assert job_of(record).status == Status.SYNCED
    held = master.get("accounts" if kind == "key" else "shifts", record.external_id)
    assert (held.get("email"), held.get("code")) in {("other@example.org", None), (None, "NEW-2")}
    assert len(master.store.listed("accounts" if kind == "key" else "shifts")) == 11


@pytest.mark.parametrize("write_answer", ["empty", "stub"])
@pytest.mark.parametrize("fault", ["timeout_before", "status", "html"])
def test_a_create_whose_check_afterwards_fails_is_not_sent_again(
    master: DemoMaster, clock: Clock, write_answer: str, fault: str
) -> None:
    master.reset((accounts(10), shifts(10, write_answer=write_answer)))
    record = create(make_resource(master, SHIFTS), NEW_SHIFT)
    settings = {"status": 500} if fault == "status" else {}
    master.faults.add(fault, phase="read", times=1, **settings)
    drain(clock)
    assert job_of(record).in_doubt
    if job_of(record).status == Status.VALIDATION_FAILED:
        operate.requeue([record.pk], actor=PERSON)
    until_quiet(clock)
    assert job_of(record).status == Status.SYNCED
    assert len(master.writes()) == 1


def test_an_id_that_the_answer_told_is_kept_even_if_the_check_fails(master: DemoMaster, clock: Clock) -> None:
    master.reset((accounts(10, write_answer="stub"), shifts(1)))
    record = create(blind(master), NEW_ACCOUNT)
    master.faults.add("status", status=500, phase="detail", times=1)
    until_quiet(clock)
    record.refresh_from_db()
    assert (job_of(record).status, record.external_id, len(master.writes())) == (Status.SYNCED, "ACC-0011", 1)


def test_deleting_an_ambiguous_create_settles_it_first(master: DemoMaster, resource: Resource, clock: Clock) -> None:
    record = create(resource, NEW_ACCOUNT)
    master.faults.add("reset_after", phase="create", times=1)
    drain(clock)
    delete(record)
    until_quiet(clock)
    record.refresh_from_db()
    assert record.deleted_at is not None
    assert [write.method for write in master.writes()] == ["POST", "DELETE"]


def test_deleting_an_ambiguous_create_under_our_own_id_waits_until_it_can_no_longer_arrive(
    master: DemoMaster, clock: Clock
) -> None:
    own = {"method": "PUT", "path": "/accounts/{0}", "id": "client"}
    record = create(make_resource(master, create=own, idempotency_header=None), {"id": "MINE-1", **NEW_ACCOUNT})
    sent_at = clock.now
    master.faults.add("timeout_before", phase="write", times=1)
    drain(clock)
    delete(record)
    while job_of(record).status in {Status.PENDING, Status.RETRY_PENDING} and clock.now < sent_at + timedelta(
        seconds=29
    ):
        clock.to(min(job_of(record).due_at, sent_at + timedelta(seconds=29)))
        drain(clock)
    assert job_of(record).status == Status.RETRY_PENDING, "a late delivery would make an object that nobody knows"
    master.create("accounts", {"id": "MINE-1", **NEW_ACCOUNT})
    until_quiet(clock)
    record.refresh_from_db()
    assert record.deleted_at is not None
    assert master.get("accounts", "MINE-1") is None
