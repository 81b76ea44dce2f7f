"""Pushes of which nobody knows whether they arrived: read back, and never applied twice."""

from datetime import timedelta
from typing import Any

import pytest

from syncportal.demo import DemoMaster
from syncportal.sync.models import Conflict, Record, SyncLog
from syncportal.sync.states import Status
from tests.factories import (
    ACCOUNTS,
    NEW_ACCOUNT,
    NEW_SHIFT,
    SHIFTS,
    Clock,
    create,
    delete,
    drain,
    edit,
    job_of,
    make_resource,
    take,
)
from tests.sync.scene import die_over, until_quiet

pytestmark = pytest.mark.django_db(transaction=True)
UNKNOWN: list[dict[str, Any]] = [
    {"kind": "timeout_after"},
    {"kind": "reset_after"},
    {"kind": "truncate"},
    {"kind": "status", "status": 500, "apply": True},
    {"kind": "status", "status": 504, "apply": True},
    {"kind": "status", "status": 503, "retry_after": "7", "apply": True},
]


@pytest.mark.parametrize("fault", UNKNOWN, ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}")
@pytest.mark.parametrize("what", ["update", "create", "delete"])
def test_an_unknown_outcome_is_read_back_and_never_applied_twice(
    master: DemoMaster, clock: Clock, what: str, fault: dict[str, Any]
) -> None:
    if (what, fault["kind"]) == ("delete", "truncate"):
        pytest.skip("an answer to a deletion has no body to cut")
    kind = SHIFTS if what == "create" and fault["kind"] == "reset_after" else ACCOUNTS
    resource = make_resource(master, kind)
    if what == "create":
        record = create(resource, NEW_SHIFT if kind is SHIFTS else NEW_ACCOUNT)
    else:
        [record] = take(master, resource, "ACC-0001")
        edit(record, city="Lund") if what == "update" else delete(record)
    options = dict(fault)
    master.faults.add(options.pop("kind"), phase="write", times=1, **options)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.in_doubt) == (Status.RETRY_PENDING, True)
    until_quiet(clock)
    job = job_of(record)
    assert (job.status, job.in_doubt, job.sends) == (Status.SYNCED, False, [])
    assert len(master.writes()) == 1
    record.refresh_from_db()
    assert record.external_id and (record.deleted_at is not None) is (what == "delete")


@pytest.mark.parametrize("fault", ["timeout_before", "reset_before"])
def test_an_unknown_outcome_that_never_arrived_is_sent_again(
    master: DemoMaster, record: Record, clock: Clock, fault: str
) -> None:
    edit(record, city="Lund")
    master.faults.add(fault, phase="write", times=1)
    until_quiet(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)
    keys = {request.idempotency_key for request in master.requests(method="PUT")}
    assert len(keys) == 1, "the same key for an unchanged re-send"


def test_an_edit_gets_a_new_idempotency_key(master: DemoMaster, record: Record, clock: Clock) -> None:
    for city in ("Lund", "Turku"):
        edit(record, city=city)
        drain(clock)
        clock.forward(1)
    assert len({write.idempotency_key for write in master.writes()}) == 2


@pytest.mark.parametrize("conditional", [True, False])
def test_a_write_that_arrives_late_is_known_for_ours(master: DemoMaster, clock: Clock, conditional: bool) -> None:
    """The first write is delivered after the second attempt has read back; the newest edit wins all the same."""
    precondition = ACCOUNTS["precondition"] if conditional else {"send": "none"}
    resource = make_resource(master, precondition=precondition, idempotency_header=None)
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.faults.add("timeout_before", phase="write", times=1)
    drain(clock)
    edit(record, city="Turku")
    clock.to(job_of(record).due_at)
    if conditional:
        master.faults.script(["reset_before"], phase="write")
    drain(clock)
    assert master.writes() == [], "without conditional writes nothing is settled yet" if not conditional else ""
    master.edit("accounts", "ACC-0001", city="Lund")  # the late delivery of our own first write
    until_quiet(clock)
    assert job_of(record).status == Status.SYNCED
    assert not Conflict.objects.exists()
    assert master.get("accounts", "ACC-0001")["city"] == "Turku"


def test_without_conditional_writes_a_resend_waits_until_the_first_can_no_longer_arrive(
    master: DemoMaster, clock: Clock
) -> None:
    resource = make_resource(master, precondition={"send": "none"}, idempotency_header=None)
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.faults.add("timeout_before", phase="write", times=1)
    sent_at = clock.now
    drain(clock)
    clock.to(job_of(record).due_at)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.reason, job.attempts) == (Status.RETRY_PENDING, "settling", 1)
    assert job.due_at >= sent_at + timedelta(seconds=30)
    until_quiet(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


def test_a_dead_workers_job_is_read_back_before_it_is_sent(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    die_over(record, clock)
    assert (job_of(record).status, job_of(record).in_doubt) == (Status.RETRY_PENDING, True)
    drain(clock)
    assert [request.method for request in master.requests()] == ["GET", "PUT"]
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


def test_a_stale_holders_result_is_dropped_and_kept_in_the_log(
    master: DemoMaster, record: Record, clock: Clock
) -> None:
    from syncportal.sync import transitions

    edit(record, city="Lund")
    master.faults.add("latency", latency_ms=150, times=1)
    done = []

    def keep_going() -> bool:
        if not done and master.requests():
            transitions.rescue(now=clock.now + timedelta(hours=1))
            done.append(True)
        return len(done) == 0

    drain(clock, keep_going=keep_going)
    job = job_of(record)
    assert (job.status, job.reason) == (Status.RETRY_PENDING, "worker_died")
    assert SyncLog.objects.get().outcome == "discarded"
    clock.forward(7200)
    drain(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


def test_a_read_back_that_cannot_be_trusted_does_not_claim_that_nothing_was_sent(
    master: DemoMaster, record: Record, clock: Clock
) -> None:
    edit(record, city="Lund")
    master.faults.add("reset_after", phase="update", times=1)
    drain(clock)
    clock.to(job_of(record).due_at)
    master.faults.add("html", phase="detail")
    drain(clock)
    job = job_of(record)
    assert (job.status, job.in_doubt) == (Status.VALIDATION_FAILED, True)
    assert job.detail.startswith("It is still unknown whether an earlier write arrived")
