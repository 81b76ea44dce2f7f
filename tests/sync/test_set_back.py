"""A database clock that is set back by an hour: what waits, waits no hour longer."""

from datetime import timedelta

import pytest
from django.utils import timezone

from syncportal.demo import DemoMaster
from syncportal.sync import sweep, transitions
from syncportal.sync.models import SyncJob
from tests.factories import Clock, drain, edit, job_of, make_resource, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]
HOUR = 3600


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(timezone.now() + timedelta(seconds=5))
    monkeypatch.setattr(sweep, "db_now", made)
    return made


def test_saved_edits_are_due_and_retries_wait_as_long_as_they_had_to(master: DemoMaster, clock: Clock) -> None:
    saved, failing = take(master, make_resource(master), "ACC-0001", "ACC-0002")
    master.faults.add("status", status=500, object_id="ACC-0002", times=1)
    edit(failing, city="Lund")
    drain(clock)
    wait = job_of(failing).due_at - job_of(failing).updated_at
    edit(saved, city="Lund")
    clock.forward(-HOUR)
    assert drain(clock).settled == 0
    sweep.sweep()
    assert (job_of(saved).due_at, job_of(failing).due_at) == (clock.now, clock.now + wait)
    assert drain(clock).settled == 1
    clock.forward(wait.total_seconds())
    assert drain(clock).settled == 1
    assert set(SyncJob.objects.values_list("status", flat=True)) == {"SYNCED"}


def test_a_job_of_a_dead_worker_is_taken_back(master: DemoMaster, clock: Clock) -> None:
    row = take(master, make_resource(master), "ACC-0001")[0]
    edit(row, city="Lund")
    claimed = transitions.claim_many(row.resource.remote_id, limit=1, holder="dead", now=clock.now, lease_s=90)
    clock.forward(-HOUR)
    assert (len(claimed), sweep.sweep().rescued) == (1, 1)
    drain(clock)
    assert job_of(row).status == "SYNCED" and len(master.writes()) == 1


def test_nothing_moves_while_the_clock_goes_on(master: DemoMaster, clock: Clock) -> None:
    row = take(master, make_resource(master), "ACC-0001")[0]
    master.faults.add("status", status=500)
    edit(row, city="Lund")
    drain(clock)
    before = job_of(row).due_at
    clock.forward(1)
    sweep.sweep()
    assert job_of(row).due_at == before
