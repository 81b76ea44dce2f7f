"""Every way to decide about an undo that somebody's change stopped ends its task and its hold."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from rollback import operate, workers
from rollback.models import CompensatingTask, Group
from syncportal.demo import DemoMaster
from syncportal.sync import local
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict, Record, SyncJob
from syncportal.sync.states import AGREED
from tests.factories import drain, edit
from tests.rollback.scene import ADDRESS, Scene
from tests.rollback.test_operate import actor, conflicting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    made = Scene(master, {"policy": {"compensation": {"attempts": 1, "base_s": 0.01, "cap_s": 1}}})
    made.people["admin"].is_staff = True
    made.people["admin"].save()
    return made


def decide(scene: Scene, **body: Any) -> Any:
    """Decide the only open conflict as the record's owner, by the API, as it stands now."""
    client, conflict = scene.caller("owner"), Conflict.objects.open().get()
    shown = client.get(f"/api/v1/conflicts/{conflict.pk}/").json()
    seen = {"revision": shown["revision"], "remoteVersion": shown["remoteVersion"]}
    return client.post(f"/api/v1/conflicts/{conflict.pk}/resolve/", {**seen, **body})


def ended(scene: Scene, *, city: str | None) -> None:
    """Let the worker push, and check that both sides agree and nothing of the group is left over."""
    drain()
    task, there = CompensatingTask.objects.get(), scene.master.get("accounts", "ACC-0001")
    job = SyncJob.objects.get(pk=task.record_id)
    assert (task.status, task.reason) == ("failed_permanent", "resolved")
    assert (job.held_by, job.status in AGREED, job.in_doubt) == ("", True, False)
    assert (there and there["city"]) == city
    assert Group.objects.get().status == "needs_attention"
    assert not Conflict.objects.open().exists()


CHOICES: dict[str, tuple[dict[str, Any], Callable[[str], str]]] = {
    "use remote": ({"action": "use_remote"}, lambda before: "Elsewhere"),
    "push local": ({"action": "push_local"}, lambda before: before),
    "merge, theirs": ({"action": "merge", "fields": {"/city": "remote"}}, lambda before: "Elsewhere"),
    "merge, ours": ({"action": "merge", "fields": {"/city": "local"}}, lambda before: before),
    "merge, typed": ({"action": "merge", "fields": {"/city": {"value": "Third"}}}, lambda before: "Third"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_each_way_out_ends_the_task_and_reaches_the_remote(scene: Scene, name: str) -> None:
    task = conflicting(scene)
    body, wanted = CHOICES[name]
    answer = decide(scene, **body)
    assert answer.status_code == 200, answer.content
    record = Record.objects.get(pk=task.record_id)
    ended(scene, city=wanted(task.snapshot["city"]))
    record.refresh_from_db()
    assert record.data["city"] == wanted(task.snapshot["city"])


@pytest.mark.parametrize("action", ["use_remote", "push_local"])
def test_a_deletion_asked_for_meanwhile_is_decided_with_it(scene: Scene, action: str) -> None:
    task = conflicting(scene)
    record = Record.objects.get(pk=task.record_id)
    local.save(local.Edit(record.pk, {}, delete=True), actor=Actor("user", scene.people["owner"].pk, "owner"))
    client = Client()
    client.force_login(scene.people["admin"])
    page = client.get(reverse("admin:sync_conflict_change", args=[Conflict.objects.open().get().pk]))
    for words in ("A grouped update was being undone", "Keep the object", "Delete it anyway"):
        assert words in page.content.decode()
    assert decide(scene, action=action).status_code == 200
    ended(scene, city="Elsewhere" if action == "use_remote" else None)


def test_an_edit_made_meanwhile_is_part_of_the_decision(scene: Scene) -> None:
    task = conflicting(scene)
    edit(Record.objects.get(pk=task.record_id), notes="while it waited")
    assert decide(scene, action="merge", fields={"/city": "remote"}).status_code == 200
    ended(scene, city="Elsewhere")
    assert scene.master.get("accounts", "ACC-0001")["notes"] == "while it waited"


def test_a_decision_about_what_changed_once_more_overwrites_nothing(scene: Scene) -> None:
    conflicting(scene)
    scene.master.edit("accounts", "ACC-0001", city="Once more")
    assert decide(scene, action="push_local").status_code == 200
    drain()
    assert scene.city("ACC-0001") == "Once more"
    conflict = Conflict.objects.open().get()
    assert (conflict.reason, conflict.remote["city"]) == ("precondition_failed", "Once more")
    assert SyncJob.objects.get(pk=conflict.record_id).held_by == ""


def test_a_conflict_is_decided_once_when_an_operator_closed_the_task_before(scene: Scene) -> None:
    task = conflicting(scene)
    conflict = Conflict.objects.open().get()
    operate.close(task.pk, why="theirs is right", actor=actor(scene))
    client = scene.caller("owner")
    body = {"action": "push_local", "revision": conflict.revision, "remoteVersion": conflict.remote_version}
    answer = client.post(f"/api/v1/conflicts/{conflict.pk}/resolve/", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "already_resolved")
    drain()
    assert scene.city("ACC-0001") == "Elsewhere"


@pytest.mark.parametrize("action", ["use_remote", "push_local"])
def test_closing_an_undo_whose_object_is_gone_leaves_the_question_to_the_records_owner(
    scene: Scene, action: str
) -> None:
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    scene.master.delete("accounts", "ACC-0001")
    task = CompensatingTask.objects.get()
    operate.retry_now(task.pk, actor=actor(scene), why="")
    workers.work(seconds=20)
    task.refresh_from_db()
    assert (task.status, task.reason) == ("failed_permanent", "gone")
    client = Client()
    client.force_login(scene.people["admin"])
    act = reverse("admin:rollback_compensatingtask_do", args=[task.pk, "close"])
    text = client.post(act, {"why": "gone for good"}, follow=True).content.decode()
    assert "The object no longer exists; the record finds that out by itself" in text
    drain()
    assert Conflict.objects.open().get().reason == "deleted_remote"
    assert decide(scene, action=action).status_code == 200
    drain()
    record, job = Record.objects.get(pk=task.record_id), SyncJob.objects.get(pk=task.record_id)
    assert (job.held_by, job.status in AGREED, job.in_doubt) == ("", True, False)
    assert (record.deleted_at is None) == (action == "push_local")
    assert (scene.master.get("accounts", str(record.external_id)) is None) == (action == "use_remote")
