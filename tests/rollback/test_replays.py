"""The same request again: while it runs, after its process died, from somebody else, with another body."""

from datetime import timedelta
from typing import Any

import pytest

from rollback import decide, workers
from rollback.models import CompensatingTask, Group, GroupedUpdate
from rollback.states import GroupStatus
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.sync.models import SyncJob
from tests.api.world import put_into
from tests.rollback.scene import ADDRESS, Scene

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master)


def interrupted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Send a request whose process dies when everything is sent and nothing decided; return its body."""
    scene.records("ACC-0001", "ACC-0002")
    body = scene.body("ACC-0001", "ACC-0002", request_id="dies")

    def dies(*args: object, **named: object) -> bool:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(decide, "apply", dies)
        assert scene.caller("owner").post(ADDRESS, body).status_code == 500
    assert [write.object_id for write in scene.master.writes()] == ["ACC-0001", "ACC-0002"]
    assert Group.objects.get().status == GroupStatus.RUNNING
    return body


def test_while_it_runs_its_replay_is_told_to_wait_and_its_abuse_is_named(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = interrupted(scene, monkeypatch)
    client = scene.caller("owner")
    again = client.post(ADDRESS, body)
    assert (again.status_code, again.json()["code"], again["Retry-After"]) == (409, "request_in_progress", "1")
    other = client.post(ADDRESS, scene.body("ACC-0001", request_id="dies", city="Oslo"))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    theirs = scene.caller("operator").post(ADDRESS, body)
    assert (theirs.status_code, theirs.json()["code"]) == (409, "record_busy")
    live = client.get(f"{ADDRESS}dies/").json()
    assert (live["status"], live["rolledBack"]) == ("running", None)
    assert [result["status"] for result in live["groups"][0]["results"]] == ["applied", "unknown"]
    assert (GroupedUpdate.objects.count(), len(scene.master.writes())) == (1, 2)


def test_after_its_process_died_it_is_undone_and_its_replay_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [scene.city(name) for name in ("ACC-0001", "ACC-0002")]
    body = interrupted(scene, monkeypatch)
    client = scene.caller("owner")
    Group.objects.update(lease_until=db_now() - timedelta(seconds=1))
    assert client.post(ADDRESS, body).status_code == 409, "nobody knows yet what becomes of it"
    workers.work(seconds=20)
    again = client.post(ADDRESS, body)
    assert (again.status_code, again["Idempotent-Replayed"]) == (207, "true")
    told = again.json()
    assert (told["status"], told["rolledBack"], told["reconciliationTaskCount"]) == ("compensated", True, 0)
    assert told["groups"][0]["error"]["code"] == "interrupted"
    assert [scene.city(name) for name in ("ACC-0001", "ACC-0002")] == before
    assert set(SyncJob.objects.values_list("status", "held_by")) == {("SYNCED", "")}
    assert GroupedUpdate.objects.count() == 1


def test_somebody_elses_request_of_the_same_name_is_another_one(scene: Scene) -> None:
    scene.records("ACC-0001")
    mine, theirs = scene.body("ACC-0001", request_id="r"), scene.body("ACC-0001", request_id="r", city="Oslo")
    assert scene.caller("owner").post(ADDRESS, mine).status_code == 200
    answer = scene.caller("operator").post(ADDRESS, theirs)
    assert (answer.status_code, "Idempotent-Replayed" in answer, scene.city("ACC-0001")) == (200, False, "Oslo")
    assert sorted(GroupedUpdate.objects.values_list("user__username", "request_id")) == [("operator", "r"),
                                                                                         ("owner", "r")]  # fmt: skip
    for who, body in (("owner", mine), ("operator", theirs)):
        assert scene.caller(who).post(ADDRESS, body)["Idempotent-Replayed"] == "true"
        shown = scene.caller(who).get(f"{ADDRESS}r/").json()
        assert shown["groups"][0]["results"][0]["version"] == {"owner": "2", "operator": "3"}[who]
    assert scene.caller("other").get(f"{ADDRESS}r/").status_code == 404
    assert scene.caller("viewer").get(f"{ADDRESS}r/").json()["groups"][0]["results"][0]["version"] == "3", "the newest"


def test_a_request_that_was_refused_is_not_remembered(scene: Scene) -> None:
    [record] = scene.records("ACC-0001")
    client, body = scene.caller("owner"), scene.body("ACC-0001", request_id="r")
    put_into(record, "ERROR")
    assert client.post(ADDRESS, body).json()["code"] == "record_busy"
    put_into(record, "SYNCED")
    assert client.post(ADDRESS, scene.body("ACC-0001", request_id="r", tier="tin")).status_code == 422
    answer = client.post(ADDRESS, body)
    assert (answer.status_code, "Idempotent-Replayed" in answer) == (200, False)


def test_a_replay_tells_what_became_of_it_since(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    client, body = scene.caller("owner"), scene.body("ACC-0001", "ACC-0002")
    first = client.post(ADDRESS, body).json()
    assert (first["status"], first["reconciliationQueued"]) == ("compensating", True)
    CompensatingTask.objects.update(next_attempt_at=db_now())
    workers.work(seconds=20)
    sent = len(scene.master.writes())
    again = client.post(ADDRESS, body)
    assert (again.status_code, again.json()["status"], again.json()["rolledBack"]) == (207, "compensated", True)
    assert (again["Idempotent-Replayed"], len(scene.master.writes())) == ("true", sent)
