"""What operators do to tasks and groups: each act says who and why, and none overwrites what nobody looked at."""

import uuid

import pytest

from rollback import looking, metrics, operate, workers
from rollback.models import CompensatingTask, Group
from rollback.states import GroupStatus, TaskReason, TaskStatus
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.sync import conflict_store, resolve
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict, Event, Record
from tests.factories import drain, edit
from tests.rollback.scene import ADDRESS, Scene

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master, {"policy": {"compensation": {"attempts": 1, "base_s": 0.01, "cap_s": 1}}})


def actor(scene: Scene) -> Actor:
    return Actor("user", scene.people["operator"].pk, "operator")


def failed(scene: Scene) -> CompensatingTask:
    """Send a group whose second step is refused and whose first cannot be undone."""
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1)
    answer = scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    assert answer.json()["status"] == "needs_attention", answer.content
    task = CompensatingTask.objects.get()
    assert (task.status, task.reason) == (TaskStatus.FAILED_PERMANENT, TaskReason.MAX_ATTEMPTS)
    return task


def conflicting(scene: Scene) -> CompensatingTask:
    """Send a group whose first step is changed by somebody else before it can be undone."""
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    scene.resource.config["policy"]["compensation"]["attempts"] = 5
    scene.resource.save()
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    scene.master.edit("accounts", "ACC-0001", city="Elsewhere")
    task = CompensatingTask.objects.get()
    operate.retry_now(task.pk, actor=actor(scene), why="")
    workers.work(seconds=20)
    task.refresh_from_db()
    assert (task.status, task.reason) == (TaskStatus.FAILED_PERMANENT, TaskReason.UNDO_CONFLICT)
    return task


def told(kind: str) -> Event:
    return Event.objects.filter(kind=kind).latest("id")


def group_status() -> str:
    return Group.objects.get().status


def test_a_failed_undo_alerts_operations_and_is_counted(scene: Scene) -> None:
    task = failed(scene)
    assert told("compensation.failed").data["task"] == str(task.task_id)
    numbers = metrics.read(now=db_now())
    assert (numbers.open, numbers.waiting_for_person) == (0, 1)
    assert numbers.ended == {"failed_permanent:max_attempts": 1}
    assert metrics.as_metrics(numbers)['compensating_tasks_ended{outcome="failed_permanent:max_attempts"}'] == 1.0


def test_retry_now_heals_when_the_cause_is_gone(scene: Scene) -> None:
    task = failed(scene)
    scene.master.faults.clear()
    operate.retry_now(task.pk, actor=actor(scene), why="the master is back")
    assert group_status() == GroupStatus.COMPENSATING
    assert (told("compensation.retried").data["why"], told("compensation.retried").actor_label) == (
        "the master is back", "operator",
    )  # fmt: skip
    workers.work(seconds=20)
    assert group_status() == GroupStatus.COMPENSATED
    assert scene.city("ACC-0001") != "Porto"
    record = Record.objects.get(external_id="ACC-0001")
    assert (record.job.held_by, record.data["city"]) == ("", scene.city("ACC-0001"))
    with pytest.raises(operate.NotPossible):
        operate.retry_now(task.pk, actor=actor(scene), why="")


def test_an_undo_conflict_is_not_retried_but_decided(scene: Scene) -> None:
    task = conflicting(scene)
    with pytest.raises(operate.NotPossible):
        operate.retry_now(task.pk, actor=actor(scene), why="")
    conflict = Conflict.objects.open().get()
    assert (conflict.reason, conflict.fields) == ("undo_conflict", ["/city"])
    decision = resolve.Decision(resolve.Action.USE_REMOTE, conflict.revision, conflict.remote_version)
    resolve.resolve(conflict.pk, decision, actor=actor(scene))
    task.refresh_from_db()
    assert Record.objects.get(external_id="ACC-0001").job.held_by == ""
    assert (task.status, task.reason) == (TaskStatus.FAILED_PERMANENT, TaskReason.RESOLVED)
    closed = told("compensation.closed")
    assert (closed.actor_label, closed.data["reason"]) == ("operator", "resolved")
    assert group_status() == GroupStatus.NEEDS_ATTENTION
    assert Record.objects.get(external_id="ACC-0001").data["city"] == "Elsewhere"
    assert metrics.read(now=db_now()).waiting_for_person == 0


def test_a_decision_that_is_not_taken_leaves_the_task_and_the_hold(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = conflicting(scene)
    conflict = Conflict.objects.open().get()
    stale = resolve.Decision(resolve.Action.USE_REMOTE, conflict.revision + 1, conflict.remote_version)
    with pytest.raises(resolve.StaleView):
        resolve.resolve(conflict.pk, stale, actor=actor(scene))

    def dies(*args: object, **named: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(conflict_store, "close", dies)
    fresh = resolve.Decision(resolve.Action.PUSH_LOCAL, conflict.revision, conflict.remote_version)
    with pytest.raises(RuntimeError):
        resolve.resolve(conflict.pk, fresh, actor=actor(scene))
    task.refresh_from_db()
    assert task.reason == TaskReason.UNDO_CONFLICT
    assert Record.objects.get(external_id="ACC-0001").job.held_by == f"task:{task.task_id}"


def test_a_forced_restore_overwrites_what_was_looked_at(scene: Scene) -> None:
    task = conflicting(scene)
    before = task.snapshot["city"]
    look = looking.look_at(task.resource, "ACC-0001")
    with pytest.raises(operate.NotPossible):
        operate.force_restore(task.pk, seal=look.seal, why="  ", actor=actor(scene))
    operate.force_restore(task.pk, seal=look.seal, why="Elsewhere was a slip", actor=actor(scene))
    assert (Conflict.objects.get().state, Conflict.objects.get().resolution) == ("resolved", "forced")
    workers.work(seconds=20)
    task.refresh_from_db()
    assert (task.status, task.reason, scene.city("ACC-0001")) == (TaskStatus.SUCCEEDED, TaskReason.FORCED, before)
    record = Record.objects.get(external_id="ACC-0001")
    assert (record.job.held_by, record.job.status, record.data["city"]) == ("", "SYNCED", before)
    assert group_status() == GroupStatus.COMPENSATED
    event = told("compensation.forced")
    assert (event.data["why"], event.data["before"]["city"]) == ("Elsewhere was a slip", "Elsewhere")


def test_a_forced_restore_needs_the_present_look(scene: Scene) -> None:
    task = conflicting(scene)
    look = looking.look_at(task.resource, "ACC-0001")
    scene.master.edit("accounts", "ACC-0001", city="Third")
    with pytest.raises(operate.StaleLook) as stale:
        operate.force_restore(task.pk, seal=look.seal, why="w", actor=actor(scene))
    assert stale.value.look.shown is not None
    assert stale.value.look.shown.data["city"] == "Third"
    task.refresh_from_db()
    assert task.status == TaskStatus.FAILED_PERMANENT


def test_a_change_after_the_forced_decision_asks_a_person_again(scene: Scene) -> None:
    task = conflicting(scene)
    look = looking.look_at(task.resource, "ACC-0001")
    operate.force_restore(task.pk, seal=look.seal, why="w", actor=actor(scene))
    scene.master.edit("accounts", "ACC-0001", city="Third")
    workers.work(seconds=20)
    task.refresh_from_db()
    assert (task.status, task.reason) == (TaskStatus.FAILED_PERMANENT, TaskReason.UNDO_CONFLICT)
    assert scene.city("ACC-0001") == "Third"


def test_closing_gives_the_record_back_as_the_remote_shows_it(scene: Scene) -> None:
    task = failed(scene)
    with pytest.raises(operate.NotPossible):
        operate.close(task.pk, why="", actor=actor(scene))
    operate.close(task.pk, why="Porto is fine", actor=actor(scene))
    task.refresh_from_db()
    record = Record.objects.get(external_id="ACC-0001")
    assert (task.status, task.reason) == (TaskStatus.FAILED_PERMANENT, TaskReason.CLOSED)
    assert (record.job.held_by, record.job.status, record.data["city"]) == ("", "SYNCED", "Porto")
    assert group_status() == GroupStatus.NEEDS_ATTENTION
    assert told("compensation.closed").data["why"] == "Porto is fine"
    for act in (operate.why_no_act, operate.why_no_retry):
        assert act(task)


def test_closing_an_undo_conflict_closes_the_conflict_too(scene: Scene) -> None:
    task = conflicting(scene)
    operate.close(task.pk, why="theirs is right", actor=actor(scene))
    assert (Conflict.objects.get().state, Conflict.objects.get().resolution) == ("resolved", "closed")
    record = Record.objects.get(external_id="ACC-0001")
    assert (record.job.held_by, record.job.status, record.data["city"]) == ("", "SYNCED", "Elsewhere")


def test_an_edit_made_while_held_is_pushed_after_closing(scene: Scene) -> None:
    task = failed(scene)
    edit(Record.objects.get(external_id="ACC-0001"), notes="while held")
    assert drain().settled == 0
    scene.master.faults.clear()
    operate.close(task.pk, why="fine", actor=actor(scene))
    drain()
    assert (scene.master.get("accounts", "ACC-0001")["notes"], scene.city("ACC-0001")) == ("while held", "Porto")


def test_closing_what_cannot_be_read_leaves_the_record_in_doubt_and_it_finds_out(scene: Scene) -> None:
    task = failed(scene)
    scene.master.faults.add("status", status=503, phase="read")
    look = operate.close(task.pk, why="give up", actor=actor(scene))
    assert look.shown is None
    record = Record.objects.get(external_id="ACC-0001")
    assert (record.job.held_by, record.job.status, record.job.in_doubt) == ("", "PENDING", True)
    scene.master.faults.clear()
    drain()
    record = Record.objects.get(external_id="ACC-0001")
    assert (record.job.in_doubt, record.data["city"]) == (False, "Porto")
    assert record.job.status in {"SYNCED", "SKIPPED"}


def test_a_group_is_sent_again_once(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002", times=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    group = Group.objects.get()
    assert group.status == GroupStatus.ROLLED_BACK
    name = str(uuid.uuid4())
    first = operate.send_again(group.pk, request_id=name, why="mended", actor=actor(scene))
    again = operate.send_again(group.pk, request_id=name, why="mended", actor=actor(scene))
    assert first.request is not None
    assert (again.request, again.replayed) == (first.request, True)
    assert first.request.groups.get().status == GroupStatus.APPLIED
    assert (scene.city("ACC-0001"), scene.city("ACC-0002")) == ("Porto", "Porto")
    assert Event.objects.filter(kind="group.sent_again").count() == 1
    with pytest.raises(operate.NotPossible):
        operate.send_again(first.request.groups.get().pk, request_id="x", why="", actor=actor(scene))
