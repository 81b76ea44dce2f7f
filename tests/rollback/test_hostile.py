"""Grouped updates against hostile bodies, remotes that lie, and what happens to people and records in the middle."""

import copy
import json
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from rollback import compensate, workers
from rollback.models import CompensatingTask, Group, GroupedUpdate
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.client import Deadline
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Gate
from syncportal.sync import local
from syncportal.sync.events import Actor
from syncportal.sync.local import Edit
from syncportal.sync.models import Event, Record, SyncJob
from tests.factories import drain
from tests.rollback.scene import ADDRESS, Scene

pytestmark = pytest.mark.django_db(transaction=True)
QUICK = {"compensation": {"base_s": 0.01, "cap_s": 1}, "settle_s": 0}


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master, {"policy": QUICK})


WRONG: tuple[Any, ...] = (
    None, True, 0, -1.5, 10**400, "", "\u2028", "a\nb", "x" * 5000, [], [[]], [None], {}, {"": {}}, {"a": [1]},
)  # fmt: skip
UPDATE = ("groups", 0, "updates", 0)
PLACES: tuple[tuple[Any, ...], ...] = (
    (), ("requestId",), ("resource",), ("validateOnly",), ("groups",), ("groups", 0), ("groups", 0, "groupId"),
    ("groups", 0, "resource"), ("groups", 0, "updates"), UPDATE, (*UPDATE, "occurrenceId"), (*UPDATE, "changes"),
    (*UPDATE, "expectedVersion"), (*UPDATE, "resource"), (*UPDATE, "changes", "credit"),
)  # fmt: skip


def put(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    body = at = copy.deepcopy(body)
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return body


def test_a_wrong_kind_of_value_at_any_place_is_a_problem_with_a_pointer_and_leaves_no_trace(scene: Scene) -> None:
    scene.records("ACC-0001")
    client, good = scene.caller("operator"), scene.body("ACC-0001") | {"validateOnly": True}
    refused = 0
    for place in PLACES:
        for value in WRONG:
            answer = client.post(ADDRESS, json.dumps(put(good, place, value)), content_type="application/json")
            assert answer.status_code in (200, 207, 422), (place, value)
            if answer.status_code == 422:
                refused += 1
                document = answer.json()
                assert (document["code"], document["status"]) == ("invalid", 422)
                assert all(one["detail"] and one["pointer"].startswith(("/", "")) for one in document["errors"])
                assert document["errors"]
    assert refused > 150
    assert scene.master.writes() == []
    assert not Group.objects.exclude(status="rejected").exists()
    assert not SyncJob.objects.exclude(held_by="").exists()


def settle(limit: int = 8) -> None:
    """Let the worker go on until nothing is due any more."""
    for _ in range(limit):
        CompensatingTask.objects.filter(status="pending").update(next_attempt_at=F("created_at"))
        if not workers.work(seconds=20):
            return


LIES: dict[str, dict[str, Any]] = {
    "error_200": {}, "no_content": {}, "empty": {}, "html": {}, "nan": {}, "huge_integer": {}, "duplicate_keys": {},
    "deep": {}, "nul": {}, "surrogate": {}, "stale_version": {}, "wrong_version": {}, "wrong_id": {},
    "invalid_data": {}, "truncate": {}, "reset_before": {}, "reset_after": {}, "redirect": {"apply": True},
    "utf16": {}, "status": {"status": 503, "apply": True},
}  # fmt: skip


def test_whatever_a_remote_answers_the_group_is_applied_or_proven_undone(scene: Scene) -> None:
    for number, (kind, settings) in enumerate(LIES.items()):
        names = [f"ACC-{2 * number + n:04d}" for n in (1, 2)]
        scene.records(*names)
        before = [scene.city(name) for name in names]
        scene.master.faults.add(kind, object_id=names[1], phase="write", times=1, **settings)
        wanted = f"New {number}"
        answer = scene.caller("owner").post(ADDRESS, scene.body(*names, city=wanted))
        now = [scene.city(name) for name in names]
        if answer.json()["rolledBack"]:
            assert now == before, kind
        settle()
        group = Group.objects.latest("id")
        now = [scene.city(name) for name in names]
        assert (group.status, now) in (
            ("applied", [wanted, wanted]), ("rolled_back", before), ("compensated", before),
        ), kind  # fmt: skip
        jobs = SyncJob.objects.filter(record__external_id__in=names)
        assert {(job.status, job.held_by, job.in_doubt) for job in jobs} == {("SYNCED", "", False)}, kind
        assert [Record.objects.get(external_id=name).data["city"] for name in names] == now, kind


def test_a_credential_refused_in_the_middle_pauses_the_remote_and_no_undo_is_burnt_on_it(scene: Scene) -> None:
    names = ["ACC-0001", "ACC-0002", "ACC-0003", "ACC-0004"]
    scene.records(*names)
    before = [scene.city(name) for name in names]
    scene.master.faults.add("status", status=401, skip=6)
    answer = scene.caller("owner").post(ADDRESS, scene.body(*names))
    shown = answer.json()
    assert (answer.status_code, shown["status"], shown["rolledBack"]) == (207, "compensating", False)
    assert shown["groups"][0]["error"]["code"] == "unauthorized"
    assert shown["reconciliationTaskCount"] == 2
    assert len(scene.master.requests()) == 7
    gate = Gate.objects.get(remote=scene.resource.remote_id)
    assert (gate.paused, gate.pause_reason) == (True, "unauthorized")
    paused = Event.objects.get(kind="remote.paused")
    assert "401" in paused.data["detail"]
    assert not workers.ring_for_due(db_now())
    assert workers.work(seconds=20) == 0
    assert set(CompensatingTask.objects.values_list("status", "attempts")) == {("pending", 0)}
    assert scene.caller("owner").post(ADDRESS, scene.body("ACC-0009")).status_code in (422, 503)
    scene.master.faults.clear()
    limits.resume(scene.resource.remote_id, now=db_now())
    settle()
    assert (Group.objects.get().status, [scene.city(name) for name in names]) == ("compensated", before)


def test_failing_groups_open_the_breaker_like_failing_pushes(scene: Scene) -> None:
    names = [f"ACC-{n:04d}" for n in range(1, 7)]
    scene.records(*names)
    scene.master.faults.add("status", status=503)
    client = scene.caller("owner")
    assert client.post(ADDRESS, scene.body(*names)).json()["status"] == "rejected"
    assert Event.objects.filter(kind="breaker.opened").count() == 1
    refused = client.post(ADDRESS, scene.body(*names))
    assert (refused.status_code, refused.json()["code"]) == (503, "remote_unavailable")
    assert GroupedUpdate.objects.count() == 1


def test_what_fails_while_the_breaker_is_open_is_no_attempt_of_the_undo(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    task = CompensatingTask.objects.get()
    assert task.attempts == 1
    client = client_for(scene.resource)
    Gate.objects.update_or_create(
        remote=scene.resource.remote,
        defaults={"breaker": "open", "opened_at": db_now(), "open_until": db_now() + timedelta(minutes=1)},
    )
    compensate.run_task(task.pk, client, deadline=Deadline(5))
    task.refresh_from_db()
    assert (task.status, task.attempts, task.last_error["httpStatus"]) == ("pending", 1, None)


def test_a_person_who_is_shut_out_in_the_middle_keeps_the_promise_of_the_request(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    before = scene.city("ACC-0001")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    client, body = scene.caller("owner"), scene.body("ACC-0001", "ACC-0002", request_id="r")
    assert client.post(ADDRESS, body).json()["status"] == "compensating"
    scene.people["owner"].is_active = False
    scene.people["owner"].save()
    assert client.post(ADDRESS, body).status_code == 401
    assert client.get(f"{ADDRESS}r/").status_code == 401
    settle()
    assert (Group.objects.get().status, scene.city("ACC-0001")) == ("compensated", before)
    assert scene.caller("operator").get(f"{ADDRESS}r/").json()["rolledBack"] is True


def test_a_record_deleted_while_it_is_held_is_undone_first_and_deleted_then(scene: Scene) -> None:
    [record, _] = scene.records("ACC-0001", "ACC-0002")
    before = scene.city("ACC-0001")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    local.save(Edit(record.pk, {}, delete=True), actor=Actor("user", scene.people["owner"].pk, "owner"))
    assert drain().settled == 0
    settle()
    job = SyncJob.objects.get(pk=record.pk)
    assert (job.status, job.held_by, Group.objects.get().status) == ("PENDING", "", "compensated")
    assert scene.city("ACC-0001") == before
    drain()
    job.refresh_from_db()
    assert (job.status, scene.master.get("accounts", "ACC-0001")) == ("SYNCED", None)
