"""Compensations reach a worker: rung for when due, worked off without a pool, quiet while a remote is blocked."""

from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
import structlog
from django.db.models import F
from django_q.models import OrmQ

from rollback import compensate, journal, workers
from rollback.models import CompensatingTask, Group
from rollback.states import GroupStatus, TaskStatus
from rollback.undo import Client
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.ops import duties, ticks
from syncportal.ops.models import WorkerState
from syncportal.ops.supervisor import PoolNews
from syncportal.remote import limits
from syncportal.remote.errors import Misconfiguration
from syncportal.remote.models import Resource
from syncportal.remote.spec import RemoteSpec
from syncportal.sync.models import Record
from syncportal.sync.slots import NoSlot
from tests.rollback.scene import ADDRESS, Scene

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
RUNNING = PoolNews(WorkerState.RUNNING, 1.0, 0)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master)


def waiting(scene: Scene) -> CompensatingTask:
    """Leave a task whose first run failed and which is due now."""
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    CompensatingTask.objects.update(next_attempt_at=F("created_at"))
    OrmQ.objects.all().delete()
    return CompensatingTask.objects.get()


def test_the_tick_rings_for_a_due_task_and_not_for_one_that_waits(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(scene)
    monkeypatch.setattr(duties, "overdue", lambda now: [])
    CompensatingTask.objects.update(next_attempt_at=db_now() + timedelta(seconds=30))
    ticks.Ticker("host", 1).tick(RUNNING)
    assert OrmQ.objects.count() == 0
    CompensatingTask.objects.update(next_attempt_at=db_now())
    ticks.Ticker("host", 1).tick(RUNNING)
    assert OrmQ.objects.count() == 1


def test_nobody_is_rung_for_while_the_remote_is_paused_and_no_attempt_is_burnt(scene: Scene) -> None:
    task = waiting(scene)
    limits.pause(scene.resource.remote_id, reason="unauthorized", detail="", now=db_now())
    assert not workers.ring_for_due(db_now())
    workers.work(seconds=20)
    task.refresh_from_db()
    assert (task.status, task.attempts) == (TaskStatus.PENDING, 1)
    limits.resume(scene.resource.remote_id, now=db_now())
    assert workers.ring_for_due(db_now())


def test_tasks_of_a_blocked_remote_do_not_stand_in_the_way_of_others(scene: Scene) -> None:
    waiting(scene)
    now = db_now()
    assert len(journal.due_tasks(now=now, limit=1)) == 1
    assert journal.due_tasks(now=now, limit=1, blocked={scene.resource.remote_id}) == []
    assert len(journal.due_tasks(now=now, limit=1, blocked={scene.resource.remote_id + 1})) == 1


def test_a_remote_without_a_free_slot_is_waited_for_once_whatever_waits_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.records("ACC-0001", "ACC-0002", "ACC-0003")
    scene.break_write("ACC-0003")
    scene.master.faults.add("status", status=503, phase="write", apply=True, object_id="ACC-0001", skip=1, times=1)
    scene.master.faults.add("status", status=503, phase="write", apply=True, object_id="ACC-0002", skip=1, times=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002", "ACC-0003"))
    CompensatingTask.objects.update(next_attempt_at=F("created_at"))
    assert len(journal.due_tasks(now=db_now(), limit=9)) == 2
    asked: list[int] = []

    def full(remote: RemoteSpec, *clients: Client, want: int) -> AbstractContextManager[int]:
        asked.append(remote.remote_id)
        raise NoSlot

    with monkeypatch.context() as patch:
        patch.setattr(compensate, "slots", full)
        assert (workers.work(seconds=20), asked) == (0, [scene.resource.remote_id])
    assert workers.work(seconds=20) == 2


def test_a_remote_that_cannot_be_called_at_all_puts_the_task_off_and_says_why(scene: Scene) -> None:
    task = waiting(scene)
    attempts = task.attempts

    def unusable(resource: Resource) -> Client:
        raise Misconfiguration("No credential is stored.")

    with structlog.testing.capture_logs() as lines:
        compensate.run_due(seconds=20, client_of=unusable)
    task.refresh_from_db()
    assert (task.status, task.attempts, task.last_error["detail"]) == ("pending", attempts, "No credential is stored.")
    assert task.next_attempt_at > db_now() + timedelta(seconds=50)
    assert not workers.ring_for_due(db_now())
    assert [(line["event"], line["code"]) for line in lines] == [("compensation.postponed", "cannot_start")]


def test_working_off_without_a_pool_undoes_what_is_due(scene: Scene) -> None:
    waiting(scene)
    assert ticks.work_off().compensated == 1
    assert Group.objects.get().status == GroupStatus.COMPENSATED
    assert scene.city("ACC-0001") != "Porto"


def test_a_group_whose_request_died_is_taken_over_by_the_duty(scene: Scene) -> None:
    scene.records("ACC-0001")
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001"))
    long_ago = db_now() - timedelta(minutes=5)
    Group.objects.update(status=GroupStatus.RUNNING, lease_until=long_ago, decided_at=None)
    assert workers.ring_for_due(db_now())
    assert "1 groups taken over" in workers.duty(db_now())
    assert Group.objects.get().status == GroupStatus.COMPENSATING
    assert Record.objects.get().steps.get().task.status == TaskStatus.PENDING
