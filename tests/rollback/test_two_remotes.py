"""One group over resources of two remotes: all or nothing across both, each with limits of its own."""

from typing import Any

import pytest

from rollback import workers
from rollback.models import CompensatingTask, Group, GroupedUpdate
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.models import Resource, SlotLease
from syncportal.sync.models import SyncJob
from tests.factories import SHIFTS, make_resource, take
from tests.rollback.scene import ADDRESS, Scene

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    made = Scene(master)
    made.records("ACC-0001")
    return made


@pytest.fixture
def shifts(scene: Scene) -> Resource:
    resource = make_resource(scene.master, SHIFTS)
    take(scene.master, resource, "SH-0001", owner=scene.people["owner"])
    return resource


def body(scene: Scene, shifts: Resource) -> dict[str, Any]:
    updates = [
        {"occurrenceId": "ACC-0001", "changes": {"city": "Porto"}},
        {"resource": shifts.slug, "occurrenceId": "SH-0001", "changes": {"seats": 77}},
    ]
    return {"resource": scene.resource.slug, "groups": [{"groupId": "both", "updates": updates}]}


def seats(scene: Scene) -> Any:
    return scene.master.get("shifts", "SH-0001")["seats"]


def test_it_is_applied_at_both(scene: Scene, shifts: Resource) -> None:
    answer = scene.caller("owner").post(ADDRESS, body(scene, shifts))
    assert (answer.status_code, answer.json()["status"]) == (200, "applied"), answer.content
    assert (scene.city("ACC-0001"), seats(scene)) == ("Porto", 77)
    assert not SlotLease.objects.exists()


def test_a_refusal_at_one_is_undone_at_the_other(scene: Scene, shifts: Resource) -> None:
    before = scene.city("ACC-0001"), seats(scene)
    scene.master.faults.add("status", status=422, phase="write", object_id="SH-0001")
    told = scene.caller("owner").post(ADDRESS, body(scene, shifts)).json()
    assert (told["status"], told["rolledBack"]) == ("rolled_back", True)
    assert (scene.city("ACC-0001"), seats(scene)) == before


def test_an_undo_waits_for_its_own_remote_only(scene: Scene, shifts: Resource) -> None:
    before = scene.city("ACC-0001"), seats(scene)
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    scene.master.faults.add("status", status=503, phase="write", object_id="SH-0001", times=2, apply=True)
    assert scene.caller("owner").post(ADDRESS, body(scene, shifts)).json()["reconciliationTaskCount"] == 2
    limits.pause(shifts.remote_id, reason="by_hand", detail="", now=db_now())
    CompensatingTask.objects.update(next_attempt_at=db_now())
    workers.work(seconds=20)
    assert dict(CompensatingTask.objects.values_list("occurrence_id", "status")) == {
        "ACC-0001": "succeeded", "SH-0001": "pending",
    }  # fmt: skip
    assert (scene.city("ACC-0001"), Group.objects.get().status) == (before[0], "compensating")
    limits.resume(shifts.remote_id, now=db_now())
    workers.work(seconds=20)
    assert (scene.city("ACC-0001"), seats(scene), Group.objects.get().status) == (*before, "compensated")
    assert not SyncJob.objects.exclude(held_by="").exists()


def test_one_that_is_paused_keeps_the_whole_request_out(scene: Scene, shifts: Resource) -> None:
    limits.pause(shifts.remote_id, reason="by_hand", detail="", now=db_now())
    answer = scene.caller("owner").post(ADDRESS, body(scene, shifts))
    assert (answer.status_code, answer.json()["code"]) == (503, "remote_unavailable")
    assert shifts.slug in answer.json()["detail"]
    assert (GroupedUpdate.objects.count(), scene.master.requests()) == (0, [])
