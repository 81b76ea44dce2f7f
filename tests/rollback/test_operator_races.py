"""People act on compensating tasks while a worker, or the request itself, undoes: one wins, the other sees why."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import F

from rollback import looking, operate, workers
from rollback.models import CompensatingTask
from rollback.states import TaskReason, TaskStatus
from syncportal.demo import DemoMaster
from syncportal.sync.events import Actor
from syncportal.sync.models import Event, Record
from tests.factories import job_of
from tests.racing import at_once
from tests.rollback.scene import ADDRESS, Scene

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
ACTS = {"retry": ["retry"], "force": ["force"], "close": ["close"], "all": ["retry", "force", "close", "close"]}
ROUNDS = 3
REFUSALS = (operate.NotPossible, operate.StaleLook)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master)


def pair(number: int) -> tuple[str, str]:
    return f"ACC-{2 * number + 1:04d}", f"ACC-{2 * number + 2:04d}"


def act(scene: Scene, task: CompensatingTask, verb: str) -> Callable[[], Any]:
    """Return one act of an operator, who has looked at the object before."""
    who = Actor("user", scene.people["operator"].pk, "operator")
    if verb == "retry":
        return lambda: operate.retry_now(task.pk, actor=who, why="again")
    if verb == "close":
        return lambda: operate.close(task.pk, actor=who, why="enough")
    seal = looking.look_at(scene.resource, task.occurrence_id).seal
    return lambda: operate.force_restore(task.pk, seal=seal, actor=who, why="ours")


def ended_once(scene: Scene, task: CompensatingTask, before: Any) -> bool:
    """Check that the task ended one way, with everything that belongs to it; return whether it was closed."""
    task.refresh_from_db()
    record = Record.objects.get(pk=task.record_id)
    endings = Event.objects.filter(record_id=record.pk, kind__in=["compensation.succeeded", "compensation.closed"])
    assert [event.data["task"] for event in endings] == [str(task.task_id)], "it ended once"
    closed = task.reason == TaskReason.CLOSED
    assert task.status == (TaskStatus.FAILED_PERMANENT if closed else TaskStatus.SUCCEEDED)
    assert endings[0].kind == ("compensation.closed" if closed else "compensation.succeeded")
    there = scene.master.get("accounts", task.occurrence_id)
    assert there["city"] == ("Atlantis" if closed else before)
    assert (job_of(record).held_by, record.data["city"], record.version) == ("", there["city"], str(there["version"]))
    return closed


@pytest.mark.parametrize("verbs", ACTS.values(), ids=list(ACTS))
def test_an_act_and_a_worker_at_once_end_a_task_once(scene: Scene, verbs: list[str]) -> None:
    for number in range(ROUNDS):
        first, second = pair(number)
        scene.records(first, second)
        before = scene.city(first)
        scene.break_write(second)
        scene.master.faults.add("status", status=503, phase="write", object_id=first, skip=1, times=1)
        scene.caller("owner").post(ADDRESS, scene.body(first, second, city="Atlantis"))
        CompensatingTask.objects.update(next_attempt_at=F("created_at"))
        task = CompensatingTask.objects.get(occurrence_id=first)
        assert (task.status, job_of(task.record).held_by) == (TaskStatus.PENDING, f"task:{task.task_id}")
        results = at_once(lambda: workers.work(seconds=20), *(act(scene, task, verb) for verb in verbs))
        assert isinstance(results.pop(0), int), results
        assert all(isinstance(result, (*REFUSALS, looking.Look)) or result is None for result in results), results
        assert all(str(result) for result in results if isinstance(result, REFUSALS))
        workers.work(seconds=20)
        closed = ended_once(scene, task, before)
        assert closed == any(isinstance(result, looking.Look) for result in results), results
        assert sum(isinstance(result, looking.Look) for result in results) <= 1, "of two who close, one wins"


@pytest.mark.parametrize("verb", ["retry", "force", "close"])
def test_an_act_during_the_requests_own_undo_ends_a_task_once(scene: Scene, verb: str) -> None:
    for number in range(ROUNDS):
        first, second = pair(number)
        scene.records(first, second)
        before = scene.city(first)
        scene.break_write(second)
        scene.master.latency_ms = 40

        def interfere(first: str = first) -> Any:
            end = time.monotonic() + 10
            while (task := CompensatingTask.objects.filter(occurrence_id=first).first()) is None:
                assert time.monotonic() < end
                time.sleep(0.002)
            return act(scene, task, verb)()

        client, body = scene.caller("owner"), scene.body(first, second, city="Atlantis")
        answer, acted = at_once(lambda client=client, body=body: client.post(ADDRESS, body), interfere)
        scene.master.latency_ms = 0
        assert acted is None or isinstance(acted, (*REFUSALS, looking.Look)), acted
        workers.work(seconds=20)
        closed = ended_once(scene, CompensatingTask.objects.get(occurrence_id=first), before)
        assert closed == isinstance(acted, looking.Look)
        live = client.get(f"{ADDRESS}{body['requestId']}/").json()
        assert live["rolledBack"] is not closed
        assert answer.status_code in {200, 207} and answer.json()["rolledBack"] in {False, live["rolledBack"]}
