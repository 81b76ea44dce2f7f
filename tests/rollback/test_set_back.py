"""A database clock that is set back by an hour: no undo, no dead request and no settling waits an hour longer."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from rollback import compensate, journal, workers
from rollback.models import CompensatingTask, Group
from syncportal.demo import DemoMaster
from syncportal.sync.models import SyncJob
from tests.factories import Clock
from tests.rollback.scene import ADDRESS, Scene
from tests.rollback.test_replays import interrupted

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
HOUR = 3600
SETTLE_S = 30


@pytest.fixture
def clock() -> Clock:
    return Clock()


def waiting(scene: Scene, **fault: Any) -> CompensatingTask:
    """Leave a task whose first run failed and which waits."""
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1, **fault)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    return CompensatingTask.objects.get()


def work(clock: Clock) -> int:
    return workers.work(seconds=20, clock=clock)


def test_an_undo_waits_as_long_as_it_had_to(master: DemoMaster, clock: Clock) -> None:
    task = waiting(Scene(master))
    assert task.next_attempt_at is not None
    wait = task.next_attempt_at - task.updated_at
    clock.forward(-HOUR)
    assert work(clock) == 0
    task.refresh_from_db()
    assert (task.next_attempt_at, task.attempts) == (clock.now + wait, 1)
    clock.forward(wait.total_seconds())
    assert work(clock) == 1
    assert Group.objects.get().status == "compensated"


def test_a_request_that_died_is_undone_at_once(
    master: DemoMaster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(master)
    before = master.get("accounts", "ACC-0001")["city"]
    interrupted(scene, monkeypatch)
    clock.forward(-HOUR)
    assert compensate.anything_waits(clock.now)
    assert workers.look_after(clock=clock).startswith("1 groups taken over")
    assert work(clock) == 2
    assert (Group.objects.get().status, scene.city("ACC-0001")) == ("compensated", before)
    assert set(SyncJob.objects.values_list("status", "held_by")) == {("SYNCED", "")}


def test_a_task_of_a_dead_worker_is_taken_back(master: DemoMaster, clock: Clock) -> None:
    task = waiting(Scene(master))
    assert journal.claim_task(task.pk, now=clock.now) is not None
    clock.forward(-HOUR)
    assert compensate.anything_waits(clock.now)
    assert work(clock) == 1
    task.refresh_from_db()
    assert (task.status, Group.objects.get().status) == ("succeeded", "compensated")


def test_a_write_that_only_time_settles_is_waited_for_once_more_and_no_hour(master: DemoMaster, clock: Clock) -> None:
    scene = Scene(master, {"precondition": None, "policy": {"settle_s": SETTLE_S}})
    task = waiting(scene, apply=True)
    [sent] = task.outstanding
    assert datetime.fromisoformat(sent["sent_at"]) > clock.now - timedelta(minutes=1)
    clock.forward(-HOUR)
    begun = clock.now
    for _ in range(6):
        work(clock)
        task.refresh_from_db()
        if task.status == "succeeded":
            break
        clock.to(task.next_attempt_at)
    assert task.status == "succeeded"
    assert timedelta(seconds=SETTLE_S) <= clock.now - begun <= timedelta(seconds=3 * SETTLE_S)


def test_nothing_moves_while_the_clock_goes_on(master: DemoMaster, clock: Clock) -> None:
    task = waiting(Scene(master))
    clock.to(task.updated_at)
    clock.forward(0.5)
    work(clock)
    due = task.next_attempt_at
    task.refresh_from_db()
    assert task.next_attempt_at == due
