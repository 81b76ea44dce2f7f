"""What operations get to know of undos: an alert for each that failed, one log line for each outcome, the numbers."""

from datetime import timedelta
from typing import Any

import pytest
import structlog

from rollback import looking, metrics, operate, workers
from rollback.models import CompensatingTask
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.ops.alerts import evaluate
from syncportal.ops.alerts.models import Alert
from syncportal.sync import resolve
from syncportal.sync.models import Conflict, Event
from tests.rollback.scene import ADDRESS, Scene
from tests.rollback.test_operate import actor, conflicting, failed

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
NAMES = {"task", "request", "group", "occurrence", "record_id", "resource_id", "attempts", "max_attempts", "force",
         "code", "reason"}  # fmt: skip


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master, {"policy": {"compensation": {"attempts": 1, "base_s": 0.01, "cap_s": 1}}})


def send(scene: Scene) -> None:
    """Send a group whose second step is refused."""
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))


def exhausted(scene: Scene) -> None:
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1)
    send(scene)


def refused(scene: Scene) -> None:
    scene.master.faults.add("status", status=422, phase="write", object_id="ACC-0001", skip=1)
    send(scene)


def gone(scene: Scene) -> None:
    scene.master.faults.add("status", status=404, phase="read", object_id="ACC-0001", skip=1)
    send(scene)


def killed(scene: Scene) -> None:
    exhausted(scene)
    CompensatingTask.objects.update(status="processing", lease_until=db_now() - timedelta(seconds=1), reason="")
    Event.objects.filter(kind="compensation.failed").delete()
    workers.work(seconds=20)


def undo_conflict(scene: Scene) -> None:
    conflicting(scene)


FAILURES = {
    "max_attempts": exhausted, "refused": refused, "gone": gone, "undo_conflict": undo_conflict, "killed": killed,
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_each_undo_that_failed_for_good_opens_an_alert_once(scene: Scene, name: str) -> None:
    with structlog.testing.capture_logs() as lines:
        FAILURES[name](scene)
    task = CompensatingTask.objects.get()
    reason = "max_attempts" if name == "killed" else name
    assert (task.status, task.reason) == ("failed_permanent", reason)
    event = Event.objects.get(kind="compensation.failed")
    told = {key: event.data[key] for key in ("task", "request", "group", "group_pk")}
    assert told == {"task": str(task.task_id), "request": task.request_id, "group": "g1",
                    "group_pk": task.step.group_id}  # fmt: skip
    assert (event.record_id, event.data["error"]["reason"]) == (task.record_id, reason)
    evaluate.evaluate(db_now())
    alert = Alert.objects.get(rule__kind="failed_undos")
    assert alert.severity == "critical"
    assert (alert.state, Event.objects.filter(kind="alert.opened", data__alert=alert.pk).count()) == ("open", 1)
    line = next(line for line in reversed(lines) if line["event"] == "compensation.failed")
    assert (line["log_level"], line["reason"], line["task"]) == ("error", reason, str(task.task_id))
    assert line.keys() >= NAMES
    assert "Porto" not in str(line)


def outcomes(lines: list[Any]) -> list[tuple[str, str]]:
    return [(line["event"], line["reason"]) for line in lines if line["event"].startswith("compensation.")]


def test_every_outcome_of_a_run_and_every_act_is_one_line(scene: Scene) -> None:
    scene.resource.config["policy"]["compensation"]["attempts"] = 2
    scene.resource.save()
    with structlog.testing.capture_logs() as lines:
        exhausted(scene)
        workers.work(seconds=20)
        task = CompensatingTask.objects.get()
        operate.retry_now(task.pk, actor=actor(scene), why="")
        scene.master.faults.clear()
        scene.master.faults.add("status", status=429, retry_after=1, phase="read", object_id="ACC-0001", times=1)
        workers.work(seconds=20)
        CompensatingTask.objects.update(next_attempt_at=db_now())
        workers.work(seconds=20)
    assert outcomes(lines) == [
        ("compensation.retry_later", ""),
        ("compensation.failed", "max_attempts"),
        ("compensation.retried", ""),
        ("compensation.postponed", ""),
        ("compensation.succeeded", ""),
    ]
    ended = next(line for line in lines if line["event"] == "compensation.succeeded")
    assert (ended["group_status"], ended["attempts"], ended["log_level"]) == ("compensated", 1, "info")


def test_what_people_end_is_told_too(scene: Scene) -> None:
    task = conflicting(scene)
    conflict = Conflict.objects.open().get()
    decision = resolve.Decision(resolve.Action.USE_REMOTE, conflict.revision, conflict.remote_version)
    with structlog.testing.capture_logs() as lines:
        resolve.resolve(conflict.pk, decision, actor=actor(scene))
    assert outcomes(lines) == [("compensation.closed", "resolved")]
    assert lines[0]["actor_id"] == scene.people["operator"].pk
    assert metrics.read(now=db_now()).ended == {f"{task.status}:resolved": 1}


def test_the_numbers_of_open_tasks_and_their_oldest(scene: Scene) -> None:
    assert metrics.as_metrics(metrics.read(now=db_now())) == {
        "compensating_tasks_open": 0.0,
        "compensating_tasks_oldest_age_seconds": 0.0,
        "compensating_tasks_waiting_for_person": 0.0,
    }
    task = failed(scene)
    look = looking.look_at(task.resource, "ACC-0001")
    scene.master.faults.clear()
    operate.force_restore(task.pk, seal=look.seal, why="w", actor=actor(scene))
    now = db_now()
    CompensatingTask.objects.update(created_at=now - timedelta(seconds=90))
    assert metrics.as_metrics(metrics.read(now=now)) == {
        "compensating_tasks_open": 1.0,
        "compensating_tasks_oldest_age_seconds": 90.0,
        "compensating_tasks_waiting_for_person": 0.0,
    }
    workers.work(seconds=20)
    numbers = metrics.as_metrics(metrics.read(now=db_now()))
    assert numbers["compensating_tasks_open"] == numbers["compensating_tasks_oldest_age_seconds"] == 0.0
    assert numbers['compensating_tasks_ended{outcome="succeeded:forced"}'] == 1.0
