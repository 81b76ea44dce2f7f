"""Which records a grouped update may take: all of its groups or none, whatever else is going on with them."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from rollback.models import CompensatingTask, Group, GroupedUpdate
from syncportal.demo import DemoMaster
from syncportal.sync.models import Record, SyncJob
from tests.api.world import in_conflict, put_into
from tests.factories import make_remote, make_resource
from tests.racing import at_once
from tests.rollback.scene import ADDRESS, Scene

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master)


def bypassed(record: Record) -> None:
    """Change a record as SQL does, past all saving."""
    Record.objects.filter(pk=record.pk).update(data=record.data | {"city": "Past us"})


STATES: dict[str, tuple[Callable[[Record], Any], str, str]] = {
    "an open conflict": (in_conflict, "VERSION_CONFLICT", "changes of its own under way (version conflict)"),
    "waiting for a retry": (lambda record: put_into(record, "RETRY_PENDING"), "RETRY_PENDING", "under way"),
    "refused by the remote": (lambda record: put_into(record, "ERROR"), "ERROR", "under way"),
    "given up": (lambda record: put_into(record, "DEAD_LETTER"), "DEAD_LETTER", "under way"),
    "invalid": (lambda record: put_into(record, "VALIDATION_FAILED"), "VALIDATION_FAILED", "under way"),
    "in doubt": (lambda record: put_into(record, "SYNCED", in_doubt=True), "SYNCED", "is not settled yet"),
    "changed past us": (bypassed, "SYNCED", "edits that were not pushed yet"),
    "of a running group": (lambda record: put_into(record, "SYNCED", held_by="group:7"), "SYNCED", "Another group"),
}


@pytest.mark.parametrize("name", STATES)
def test_one_busy_record_in_the_last_group_keeps_the_whole_request_out(scene: Scene, name: str) -> None:
    busy, _ = scene.records("ACC-0001", "ACC-0002")
    make, status, words = STATES[name]
    make(busy)
    before = list(SyncJob.objects.order_by("pk").values("pk", "status", "held_by", "in_doubt"))
    body = scene.body("ACC-0002")
    body["groups"].append({"groupId": "g2", "updates": [{"occurrenceId": "ACC-0001", "changes": {"city": "Porto"}}]})
    answer = scene.caller("owner").post(ADDRESS, body)
    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (409, "record_busy", "2")
    [told] = answer.json()["records"]
    assert (told["record"], told["status"], words in told["reason"]) == (busy.pk, status, True), told
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/groups/1/updates/0/occurrenceId"]
    assert list(SyncJob.objects.order_by("pk").values("pk", "status", "held_by", "in_doubt")) == before
    assert (GroupedUpdate.objects.count(), scene.master.writes()) == (0, [])


def test_a_record_under_an_open_compensating_task_is_not_taken(scene: Scene) -> None:
    one, _ = scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1)
    client = scene.caller("owner")
    assert client.post(ADDRESS, scene.body("ACC-0001", "ACC-0002")).json()["status"] == "compensating"
    sent = len(scene.master.writes())
    answer = client.post(ADDRESS, scene.body("ACC-0001", city="Oslo"))
    [told] = answer.json()["records"]
    assert (answer.status_code, told["reason"]) == (409, "Another compensating task holds it.")
    task = CompensatingTask.objects.get()
    assert SyncJob.objects.get(pk=one.pk).held_by == f"task:{task.task_id}"
    assert (Group.objects.count(), len(scene.master.writes())) == (1, sent)


@pytest.mark.db
def test_groups_that_overlap_in_any_order_never_lock_each_other_out(scene: Scene) -> None:
    known = [f"ACC-{n:04d}" for n in range(1, 5)]
    scene.records(*known)
    names = [*known, "ACC-0005", "ACC-0006"]  # two are unknown here until a group touches them

    def client(number: int) -> Callable[[], list[int]]:
        chance, caller = random.Random(number), scene.caller("operator")

        def send() -> list[int]:
            found = []
            for turn in range(5):
                chosen = chance.sample(names, 3)
                body = scene.body(*chosen, request_id=f"{number}-{turn}", city=f"City {number}-{turn}")
                for _ in range(40):
                    answer = caller.post(ADDRESS, body)
                    found.append(answer.status_code)
                    if answer.status_code != 409:
                        break
            return found

        return send

    results = at_once(*(client(number) for number in range(6)))
    statuses = {status for found in results for status in found}
    assert {200} <= statuses <= {200, 409}, results
    assert set(Group.objects.values_list("status", flat=True)) == {"applied"}
    assert set(SyncJob.objects.values_list("held_by", "status", "in_doubt")) == {("", "SYNCED", False)}
    assert Record.objects.present().count() == len(names)
    for name in names:
        record, there = Record.objects.get(external_id=name), scene.master.get("accounts", name)
        last = Group.objects.filter(steps__occurrence_id=name).order_by("decided_at").last()
        assert last is not None
        assert (record.data["city"], there["city"]) == (f"City {last.request.request_id}",) * 2, connection.vendor
        written = [write for write in scene.master.writes() if write.object_id == name]
        assert len(written) == Group.objects.filter(steps__occurrence_id=name).count()


CANNOT = {
    "no credential": {"kind": "basic", "credential": "env:NOBODY_SET_THIS"},
    "a sign-in that fails": {"kind": "login", "credential": "env:A_LOGIN", "token_path": "/nowhere", "token_body": {},
                             "token_pointer": "/token"},
}  # fmt: skip


@pytest.mark.parametrize("name", CANNOT)
def test_a_remote_that_we_cannot_sign_in_at_is_a_503_and_nothing_was_stored(
    scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_LOGIN", "user:password")
    scene.resource = make_resource(make_remote(scene.master.api_url, auth=CANNOT[name]))
    scene.records("ACC-0001")
    answer = scene.caller("owner").post(ADDRESS, scene.body("ACC-0001"))
    assert (answer.status_code, answer.json()["code"]) == (503, "remote_unavailable"), answer.content
    assert int(answer["Retry-After"]) > 0 and "password" not in answer.content.decode()
    assert (GroupedUpdate.objects.count(), scene.master.writes()) == (0, [])
    assert not SyncJob.objects.exclude(held_by="").exists()
