"""What the snapshots find: a group that cannot be carried out is rejected with nothing written, the others go on."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from rollback import looking, operate, workers
from rollback.models import CompensatingTask, Group, GroupedUpdate, Step
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict, Record, SyncJob, SyncLog
from tests.api.world import failed_task
from tests.rollback.scene import ADDRESS, Scene

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master)


def two_groups(scene: Scene) -> dict[str, Any]:
    """Return a request whose first group reads what is broken and whose second is in order."""
    body = scene.body("ACC-0001", "ACC-0002")
    body["groups"].append({"groupId": "g2", "updates": [{"occurrenceId": "ACC-0003", "changes": {"city": "Porto"}}]})
    return body


FOUND: dict[str, tuple[dict[str, Any], str]] = {
    "gone (404)": ({"kind": "status", "status": 404}, "missing"),
    "gone (410)": ({"kind": "status", "status": 410}, "missing"),
    "refused (400)": ({"kind": "status", "status": 400}, "rejected"),
    "broken (500)": ({"kind": "status", "status": 500}, "server_fault"),
    "busy (429)": ({"kind": "status", "status": 429, "retry_after": 1}, "throttled"),
    "cut off": ({"kind": "reset_before"}, "timeout"),
    "half an answer": ({"kind": "truncate"}, "timeout"),
    "no JSON": ({"kind": "html"}, "invalid_response"),
    "what the schema refuses": ({"kind": "invalid_data"}, "invalid_response"),
    "another object": ({"kind": "wrong_id"}, "invalid_response"),
    "an older version": ({"kind": "stale_version"}, "invalid_response"),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_snapshot_that_fails_rejects_its_group_and_writes_nothing(scene: Scene, name: str) -> None:
    scene.master.edit("accounts", "ACC-0002", notes="so that there is an older version")
    records = scene.records("ACC-0001", "ACC-0002", "ACC-0003")
    fault, code = FOUND[name]
    scene.master.faults.add(phase="read", object_id="ACC-0002", **fault)
    answer = scene.caller("owner").post(ADDRESS, two_groups(scene))
    first, second = answer.json()["groups"]
    assert (answer.status_code, first["status"], first["rolledBack"]) == (207, "rejected", True), answer.content
    assert (first["error"]["occurrenceId"], second["status"]) == ("ACC-0002", "applied")
    assert first["error"]["code"] == code
    assert [result["status"] for result in first["results"]] == ["untouched", "failed"]
    assert [write.object_id for write in scene.master.writes(actor="client")] == ["ACC-0003"]
    assert set(SyncJob.objects.values_list("status", "held_by")) == {("SYNCED", "")}
    read = SyncLog.objects.filter(record=records[1], outcome="rejected")
    assert read.exists(), "the exchange that decided it is kept"


def test_an_object_that_says_of_itself_that_it_is_deleted_rejects_its_group(master: DemoMaster) -> None:
    scene = Scene(master, {"tombstone": {"/notes": "deleted"}})
    scene.records("ACC-0001", "ACC-0002", "ACC-0003")
    master.edit("accounts", "ACC-0002", notes="deleted")
    told = scene.caller("owner").post(ADDRESS, two_groups(scene)).json()
    assert (told["groups"][0]["status"], told["groups"][0]["error"]["code"]) == ("rejected", "missing")
    assert [write.object_id for write in master.writes(actor="client")] == ["ACC-0003"]


def test_what_others_changed_since_is_taken_in_and_outlives_the_group(scene: Scene) -> None:
    [record, *_] = scene.records("ACC-0001", "ACC-0002")
    scene.master.edit("accounts", "ACC-0001", notes="by somebody else")
    assert scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002")).status_code == 200
    record.refresh_from_db()
    there = scene.master.get("accounts", "ACC-0001")
    assert (there["notes"], there["city"]) == ("by somebody else", "Porto")
    assert (record.data["notes"], record.base["notes"], record.version) == ("by somebody else",) * 2 + (
        str(there["version"]),
    )
    assert not Conflict.objects.exists()


def test_a_change_that_does_not_fit_what_others_made_of_the_object_is_rejected_as_invalid(master: DemoMaster) -> None:
    rule = {"if": {"properties": {"tier": {"const": "gold"}}}, "then": {"properties": {"credit": {"minimum": 100}}}}
    scene = Scene(master, {"schema": {"type": "object", **rule}})
    master.edit("accounts", "ACC-0001", tier="silver", credit=500)
    [record] = scene.records("ACC-0001")
    master.edit("accounts", "ACC-0001", tier="gold")
    told = scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", credit=5)).json()
    assert (told["status"], told["groups"][0]["error"]["code"]) == ("rejected", "invalid"), told
    assert "/credit" in told["groups"][0]["error"]["detail"]
    assert master.get("accounts", "ACC-0001")["credit"] == 500
    record.refresh_from_db()
    assert (record.data["credit"], SyncJob.objects.get().held_by) == (500, "")


@pytest.mark.db
def test_the_database_itself_refuses_what_must_never_be(scene: Scene) -> None:
    [record] = scene.records("ACC-0001")
    task = failed_task(record, scene.people["owner"])
    other = failed_task(record, scene.people["owner"], request_id="another")
    request, group, step = task.step.group.request, task.step.group, task.step
    CompensatingTask.objects.filter(pk=other.pk).update(status="pending", reason="")

    def refused(rows: Any, **changes: Any) -> bool:
        try:
            with transaction.atomic():
                rows.update(**changes)
        except IntegrityError:
            return True
        return False

    mine = CompensatingTask.objects.filter(pk=task.pk)
    assert refused(mine, status="pending"), "two open tasks of one record"
    assert refused(mine, status="done") and refused(Group.objects.filter(pk=group.pk), status="half")
    assert refused(mine, lease_until=db_now()), "a lease that nobody holds"
    assert refused(mine, status="processing"), "held without a lease"
    assert refused(Group.objects.filter(pk=group.pk), status="running"), "running without a lease"
    assert refused(Step.objects.filter(pk=step.pk), status="maybe")
    assert refused(GroupedUpdate.objects.filter(request_id="another"), request_id=request.request_id)
    assert not refused(mine, status="succeeded")


def test_records_are_not_taken_away_from_under_a_task(scene: Scene) -> None:
    [record] = scene.records("ACC-0001")
    failed_task(record, scene.people["owner"])
    with pytest.raises(IntegrityError), transaction.atomic():
        Record.objects.filter(pk=record.pk)._raw_delete(using="default")  # type: ignore[attr-defined]


# --- reads that lag behind


@pytest.mark.parametrize(("times", "status"), [(1, "applied"), (2, "rejected")])
def test_a_snapshot_older_than_what_we_know_is_read_once_more(scene: Scene, times: int, status: str) -> None:
    scene.master.edit("accounts", "ACC-0001", notes="so that there is an older version")
    scene.records("ACC-0001")
    scene.master.faults.add("stale_version", phase="read", object_id="ACC-0001", times=times)
    told = scene.caller("owner").post(ADDRESS, scene.body("ACC-0001")).json()
    assert told["status"] == status, told
    assert len([heard for heard in scene.master.requests() if heard.method == "GET"]) == 2


def test_an_undo_does_not_believe_a_read_that_is_older_than_our_own_write(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    before = scene.city("ACC-0001")
    scene.break_write("ACC-0002")
    scene.master.faults.add("stale_version", phase="read", object_id="ACC-0001", skip=1, times=2)
    told = scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002")).json()
    assert (told["status"], told["rolledBack"], scene.city("ACC-0001")) == ("compensating", False, "Porto")
    CompensatingTask.objects.update(next_attempt_at=db_now())
    workers.work(seconds=20)
    assert (Group.objects.get().status, scene.city("ACC-0001")) == ("compensated", before)


def test_a_person_may_force_a_restore_at_a_remote_whose_versions_went_back(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    before = scene.city("ACC-0001")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    Step.objects.filter(occurrence_id="ACC-0001").update(applied_version="900")
    task, who = CompensatingTask.objects.get(), Actor("user", scene.people["operator"].pk, "operator")
    CompensatingTask.objects.update(next_attempt_at=db_now())
    workers.work(seconds=20)
    task.refresh_from_db()
    assert (task.status, task.last_error["code"], scene.city("ACC-0001")) == ("pending", "older", "Porto")
    seal = looking.look_at(scene.resource, "ACC-0001").seal
    operate.force_restore(task.pk, seal=seal, why="restored from a backup", actor=who)
    workers.work(seconds=20)
    assert (Group.objects.get().status, scene.city("ACC-0001")) == ("compensated", before)
