"""An edit taken back while an earlier send may still arrive settles by itself, and the late send is refused."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Conflict as StaleWrite
from syncportal.remote.gateway import client_for
from syncportal.sync import transitions
from syncportal.sync.models import Record
from syncportal.sync.states import Status
from tests.factories import ACCOUNTS, SHIFTS, Clock, drain, edit, job_of, make_resource, take

pytestmark = pytest.mark.django_db(transaction=True)


def taken_back(master: DemoMaster, kind: dict[str, Any], field: str) -> tuple[Record, dict[str, Any], Clock]:
    """Let a worker claim an edit and die; take the edit back. Returns what the dead worker may have sent, too."""
    name = "accounts" if kind is ACCOUNTS else "shifts"
    [record] = take(master, make_resource(master, kind), sorted(row["id"] for row in master.store.all(name))[0])
    before = record.data[field]
    edit(record, **{field: "Elsewhere"})
    clock = Clock(timezone.now() + timedelta(milliseconds=1))
    [claim] = transitions.claim_many(record.resource.remote_id, limit=1, holder="dead", now=clock(), lease_s=90)
    with transaction.atomic():
        transitions.rescue(now=clock.forward(91))
    edit(record, **{field: before})
    return record, claim.data, clock


@pytest.mark.parametrize(("kind", "field"), [(ACCOUNTS, "city"), (SHIFTS, "title")], ids=["replace", "merge"])
def test_a_late_send_is_refused_after_its_edit_was_taken_back(
    master: DemoMaster, kind: dict[str, Any], field: str
) -> None:
    record, late, clock = taken_back(master, kind, field)
    base, version = dict(record.base), record.version
    drain(clock)
    job = job_of(record)
    assert (job.status, job.reason, job.in_doubt, job.sends) == (Status.SYNCED, "fenced", False, [])
    [write] = master.writes()
    assert write.after[field] == base[field], "the fence changes nothing"
    record.refresh_from_db()
    assert record.version != version and record.data == record.base
    with pytest.raises(StaleWrite):
        client_for(record.resource).update(
            str(record.external_id), data=late, base=base, expected_version=version, deadline=Deadline(5)
        )
    assert len(master.writes()) == 1


def test_where_an_equal_write_moves_no_version_only_time_settles_it(master: DemoMaster) -> None:
    master.reset((accounts(3, no_change_bumps=False), shifts(1)))
    record, _, clock = taken_back(master, ACCOUNTS, "city")
    clock.now -= timedelta(seconds=85)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.reason, job.in_doubt) == (Status.RETRY_PENDING, "settling", True)
    clock.to(job.due_at)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.in_doubt, job.sends) == (Status.SYNCED, False, [])


def test_a_remote_that_refuses_the_fence_leaves_no_error(master: DemoMaster) -> None:
    record, _, clock = taken_back(master, ACCOUNTS, "city")
    master.faults.add("status", phase="write", status=422)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.in_doubt, job.sends) == (Status.SYNCED, False, [])


def test_a_fence_whose_answer_is_lost_is_found_out(master: DemoMaster) -> None:
    record, _, clock = taken_back(master, ACCOUNTS, "city")
    master.faults.add("reset_after", phase="write", times=1)
    drain(clock)
    assert (job_of(record).status, job_of(record).in_doubt) == (Status.RETRY_PENDING, True)
    clock.to(job_of(record).due_at)
    drain(clock)
    assert (job_of(record).status, job_of(record).in_doubt) == (Status.SYNCED, False)
    assert len(master.writes()) == 1
