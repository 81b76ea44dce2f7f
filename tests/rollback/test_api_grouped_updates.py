"""POST /grouped-updates/: one effect, one true answer, and every refusal says why."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from rollback import workers
from rollback.models import CompensatingTask, GroupedUpdate
from rollback.states import TaskStatus
from syncportal.access.keys import Scope
from syncportal.demo import DemoMaster
from syncportal.remote import configuration, limits
from syncportal.remote.models import Gate
from syncportal.sync.models import Record, SyncJob
from tests.factories import edit
from tests.rollback.scene import ADDRESS, TASKS, Scene

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master)


def pointers(answer: Any) -> dict[str, str]:
    return {error["pointer"]: error["code"] for error in answer.json()["errors"]}


def test_the_requests_id_goes_to_the_remote_with_every_step(master: DemoMaster) -> None:
    scene = Scene(master, {"policy": {"parallel": 2}})
    scene.records("ACC-0001", "ACC-0002")
    body = scene.body("ACC-0001", "ACC-0002", request_id="r1")
    assert scene.caller("owner").post(ADDRESS, body, headers={"X-Request-ID": "trace-9"}).status_code == 200
    assert [write.request_id for write in master.writes()] == ["trace-9", "trace-9"]


def test_an_applied_group_answers_200_and_moves_the_records(scene: Scene) -> None:
    one, two = scene.records("ACC-0001", "ACC-0002")
    answer = scene.caller("owner").post(ADDRESS, scene.body("ACC-0002", "ACC-0001", request_id="r1"))
    assert answer.status_code == 200, answer.content
    shown = answer.json()
    assert (shown["requestId"], shown["status"], shown["rolledBack"]) == ("r1", "applied", None)
    assert shown["isolation"] == "none"
    assert [result["occurrenceId"] for result in shown["groups"][0]["results"]] == ["ACC-0002", "ACC-0001"]
    assert shown["groups"][0]["results"][0]["version"] == str(scene.master.get("accounts", "ACC-0002")["version"])
    assert (scene.city("ACC-0001"), scene.city("ACC-0002")) == ("Porto", "Porto")
    for record in (one, two):
        record.refresh_from_db()
        assert (record.data["city"], record.base["city"], record.job.held_by) == ("Porto", "Porto", "")


def test_a_group_that_fails_in_the_middle_is_undone_and_says_so(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002", "ACC-0003")
    before = scene.city("ACC-0001")
    scene.break_write("ACC-0002")
    answer = scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002", "ACC-0003"))
    assert answer.status_code == 207, answer.content
    shown = answer.json()
    assert (shown["status"], shown["rolledBack"], shown["reconciliationQueued"]) == ("rolled_back", True, False)
    group = shown["groups"][0]
    assert [result["status"] for result in group["results"]] == ["undone", "failed", "untouched"]
    assert (group["error"]["occurrenceId"], group["error"]["httpStatus"]) == ("ACC-0002", 422)
    assert group["reconciliationTasks"] == []
    assert scene.city("ACC-0001") == before


def test_an_undo_that_fails_is_queued_and_healed_by_the_worker(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    before = scene.city("ACC-0001")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1, times=1)
    client = scene.caller("owner")
    answer = client.post(ADDRESS, scene.body("ACC-0001", "ACC-0002", request_id="r"))
    assert answer.status_code == 207
    shown = answer.json()
    assert (shown["status"], shown["rolledBack"]) == ("compensating", False)
    assert (shown["reconciliationQueued"], shown["reconciliationTaskCount"]) == (True, 1)
    task = shown["groups"][0]["reconciliationTasks"][0]
    assert (task["status"], task["occurrenceId"]) == ("pending", "ACC-0001")
    assert client.get(f"{TASKS}{task['taskId']}/").json()["attempts"] == 1
    assert scene.caller("operator").post(f"{TASKS}{task['taskId']}/retry/", {}).status_code == 200
    workers.work(seconds=20)
    healed = client.get(f"{ADDRESS}r/").json()
    assert (healed["status"], healed["rolledBack"], healed["reconciliationQueued"]) == ("compensated", True, False)
    assert scene.city("ACC-0001") == before


def test_the_same_request_again_answers_the_live_state_and_sends_nothing(scene: Scene) -> None:
    scene.records("ACC-0001")
    client, body = scene.caller("owner"), scene.body("ACC-0001")
    first = client.post(ADDRESS, body)
    sent = len(scene.master.writes())
    second = client.post(ADDRESS, body)
    assert (second.status_code, second.json()) == (200, first.json())
    assert second["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert len(scene.master.writes()) == sent
    body["groups"][0]["updates"][0]["changes"] = {"city": "Oslo"}
    other = client.post(ADDRESS, body)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(scene.master.writes()) == sent


def test_a_replay_answers_even_when_the_record_would_refuse_the_change_by_now(scene: Scene) -> None:
    [record] = scene.records("ACC-0001")
    body = scene.body("ACC-0001")
    scene.caller("owner").post(ADDRESS, body)
    Record.objects.filter(pk=record.pk).update(owner=scene.people["other"])
    answer = scene.caller("owner").post(ADDRESS, body)
    assert (answer.status_code, answer["Idempotent-Replayed"]) == (200, "true")


def test_a_replay_answers_even_when_the_configuration_would_refuse_the_change_by_now(scene: Scene) -> None:
    scene.records("ACC-0001")
    body = scene.body("ACC-0001")
    first = scene.caller("owner").post(ADDRESS, body)
    sent = len(scene.master.writes())
    resource = scene.resource
    resource.config = resource.config | {"read_only": [*resource.config["read_only"], "/city"]}
    configuration.save_resource(remote=resource.remote, slug=resource.slug, name=resource.name, config=resource.config)
    refused = scene.caller("owner").post(ADDRESS, body | {"requestId": "new"})
    assert (refused.status_code, pointers(refused)) == (422, {"/groups/0/updates/0/changes/city": "read_only"})
    again = scene.caller("owner").post(ADDRESS, body)
    assert (again.status_code, again.json(), again["Idempotent-Replayed"]) == (200, first.json(), "true")
    body["groups"][0]["updates"][0]["changes"] = {"city": "Oslo"}
    other = scene.caller("owner").post(ADDRESS, body)
    assert (other.status_code, pointers(other)) == (422, {"/groups/0/updates/0/changes/city": "read_only"})
    assert len(scene.master.writes()) == sent


def test_the_idempotency_key_header_is_the_request_id(scene: Scene) -> None:
    scene.records("ACC-0001")
    client, body = scene.caller("owner"), scene.body("ACC-0001")
    wrong = client.post(ADDRESS, body, HTTP_IDEMPOTENCY_KEY="another")
    assert wrong.status_code == 422
    assert pointers(wrong)["/requestId"] == "idempotency_key_mismatch"
    assert not GroupedUpdate.objects.exists()
    del body["requestId"]
    made = client.post(ADDRESS, body, HTTP_IDEMPOTENCY_KEY="k-1")
    assert (made.status_code, made.json()["requestId"]) == (200, "k-1")
    assert client.post(ADDRESS, body, HTTP_IDEMPOTENCY_KEY="k-1")["Idempotent-Replayed"] == "true"
    same = client.post(ADDRESS, body | {"requestId": "k-1"}, HTTP_IDEMPOTENCY_KEY="k-1")
    assert same["Idempotent-Replayed"] == "true"
    assert client.post(ADDRESS, body, HTTP_IDEMPOTENCY_KEY="a\tb").status_code == 400


def test_without_a_request_id_the_server_makes_one(scene: Scene) -> None:
    scene.records("ACC-0001")
    body = scene.body("ACC-0001")
    del body["requestId"]
    answer = scene.caller("owner").post(ADDRESS, body)
    assert answer.status_code == 200
    assert GroupedUpdate.objects.get().request_id == answer.json()["requestId"]


@pytest.mark.db
def test_sixteen_requests_at_once_with_one_request_id_have_one_effect_and_one_answer(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    scene.master.latency_ms = 30
    body = scene.body("ACC-0001", "ACC-0002", request_id="once")
    clients = [scene.caller("owner") for _ in range(16)]

    def ask(client: Any) -> Any:
        try:
            return client.post(ADDRESS, body)
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, clients))
    assert {answer.status_code for answer in found} <= {200, 409}, [answer.content for answer in found]
    done = [answer.json() for answer in found if answer.status_code == 200]
    assert done
    assert all(one == done[0] for one in done)
    for refused in (answer for answer in found if answer.status_code == 409):
        assert (refused.json()["code"], int(refused["Retry-After"])) == ("request_in_progress", 1)
    assert GroupedUpdate.objects.count() == 1
    assert [write.object_id for write in scene.master.writes()].count("ACC-0001") == 1
    assert scene.caller("owner").post(ADDRESS, body).json() == done[0]


def test_sixteen_different_requests_at_once_all_come_through(scene: Scene) -> None:
    names = [f"ACC-{number:04d}" for number in range(1, 33)]
    scene.records(*names)
    scene.master.latency_ms = 20
    bodies = [scene.body(*names[at : at + 2]) for at in range(0, 32, 2)]
    clients = [scene.caller("owner") for _ in bodies]

    def ask(pair: Any) -> Any:
        try:
            return pair[0].post(ADDRESS, pair[1])
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, zip(clients, bodies, strict=True)))
    assert [answer.status_code for answer in found] == [200] * 16, [answer.content for answer in found]


def test_200_updates_are_accepted_and_201_are_not(scene: Scene) -> None:
    names = [f"ACC-{number:04d}" for number in range(1, 202)]
    scene.records(*names)
    client = scene.caller("owner")
    refused = client.post(ADDRESS, scene.body(*names))
    assert (refused.status_code, refused.json()["code"]) == (413, "too_many_updates")
    assert not GroupedUpdate.objects.exists()
    answer = client.post(ADDRESS, scene.body(*names[:200]))
    assert answer.status_code == 200, answer.content[:500]
    assert {result["status"] for result in answer.json()["groups"][0]["results"]} == {"applied"}
    assert scene.city("ACC-0200") == "Porto"


def test_everything_that_is_wrong_is_listed_at_once_and_nothing_is_stored(scene: Scene) -> None:
    scene.records("ACC-0001")
    Record.objects.filter(external_id="ACC-0001").update(owner=scene.people["owner"])
    body = {
        "requestId": 7,
        "resource": scene.resource.slug,
        "validateOnly": "yes",
        "extra": 1,
        "groups": [
            {"groupId": "g1", "updates": []},
            {
                "groupId": "g1",
                "updates": [
                    {"occurrenceId": "ACC-0001", "changes": {"tier": "tin", "name": 5}},
                    {"occurrenceId": "ACC-0001", "changes": {"city": "Porto"}},
                    {"occurrenceId": "ACC-0002", "changes": {"city": "Porto"}, "resource": "nothing"},
                    {"occurrenceId": 5, "changes": {}, "expectedVersion": True},
                    {"occurrenceId": "ACC-0009", "changes": {"updated_at": "now"}},
                    "not an object",
                ],
            },
            "not a group",
        ],
    }
    answer = scene.caller("owner").post(ADDRESS, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    found = pointers(answer)
    at = "/groups/1/updates"
    assert found.keys() >= {
        "/requestId", "/validateOnly", "/extra", "/groups/0/updates", "/groups/1/groupId", f"{at}/0/changes/tier",
        f"{at}/0/changes/name", f"{at}/1/occurrenceId", f"{at}/2/resource", f"{at}/3/occurrenceId",
        f"{at}/3/changes", f"{at}/3/expectedVersion", f"{at}/4/changes/updated_at", f"{at}/4/occurrenceId", f"{at}/5",
        "/groups/2",
    }  # fmt: skip
    assert found[f"{at}/1/occurrenceId"] == "duplicate"
    assert found[f"{at}/2/resource"] == "unknown_resource"
    assert found[f"{at}/4/occurrenceId"] == "not_found"
    assert not GroupedUpdate.objects.exists()
    assert scene.master.writes() == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "json_syntax"), (b"[]", "type"), (b"null", "type"), (b'"x"', "type"), (b"", "required"),
        (b'{"a": NaN}', "json_not_a_number"), (b'{"a": 1, "a": 2}', "json_duplicate_key"), (b"\xff", "json_encoding"),
        (b"[" * 50_000, "json_too_deep"), (b'{"groups": {}}', "required"), (b'{"groups": []}', "required"),
    ],
)  # fmt: skip
def test_a_malformed_body_is_a_422_with_a_pointer(scene: Scene, body: bytes, code: str) -> None:
    answer = scene.caller("owner").generic("POST", ADDRESS, body, content_type="application/json")
    assert (answer.status_code, answer["Content-Type"]) == (422, "application/problem+json"), answer.content
    assert code in pointers(answer).values()


def test_a_wrong_expected_version_rejects_that_group_only(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    body = scene.body("ACC-0001")
    body["groups"][0]["updates"][0]["expectedVersion"] = "999"
    body["groups"].append({"groupId": "g2", "updates": [{"occurrenceId": "ACC-0002", "changes": {"city": "Porto"}}]})
    answer = scene.caller("owner").post(ADDRESS, body)
    assert answer.status_code == 207
    shown = answer.json()
    assert [group["status"] for group in shown["groups"]] == ["rejected", "applied"]
    assert shown["groups"][0]["error"]["code"] == "version_mismatch"
    assert (shown["status"], shown["rolledBack"]) == ("rejected", True)
    assert scene.city("ACC-0001") != "Porto"


def test_a_record_with_unsynced_edits_is_busy_and_the_answer_says_so(scene: Scene) -> None:
    one, _ = scene.records("ACC-0001", "ACC-0002")
    edit(one, city="Oslo")
    answer = scene.caller("owner").post(ADDRESS, scene.body("ACC-0002", "ACC-0001"))
    shown = answer.json()
    assert (answer.status_code, shown["code"]) == (409, "record_busy")
    assert int(answer["Retry-After"]) > 0
    [busy] = shown["records"]
    assert (busy["record"], busy["occurrenceId"], busy["status"]) == (one.pk, "ACC-0001", "PENDING")
    assert "changes of its own" in busy["reason"]
    assert "ACC-0001 (PENDING)" in shown["detail"]
    assert pointers(answer) == {"/groups/0/updates/1/occurrenceId": "record_busy"}
    assert not GroupedUpdate.objects.exists()
    assert not SyncJob.objects.exclude(held_by="").exists()


def test_validate_only_checks_and_stores_nothing(scene: Scene) -> None:
    scene.records("ACC-0001")
    body = scene.body("ACC-0001") | {"validateOnly": True}
    answer = scene.caller("owner").post(ADDRESS, body)
    assert (answer.status_code, answer.json()["valid"]) == (200, True)
    assert answer.json()["groups"] == [{"groupId": "g1", "updates": 1}]
    body["groups"][0]["updates"][0]["changes"] = {"tier": "tin"}
    assert scene.caller("owner").post(ADDRESS, body).status_code == 422
    assert not GroupedUpdate.objects.exists()
    assert scene.master.requests() == []


def test_a_paused_remote_is_a_503_and_nothing_was_written(scene: Scene) -> None:
    scene.records("ACC-0001")
    limits.pause(scene.resource.remote_id, reason="by_hand", detail="", now=scene.people["owner"].date_joined)
    answer = scene.caller("owner").post(ADDRESS, scene.body("ACC-0001"))
    assert (answer.status_code, answer.json()["code"]) == (503, "remote_unavailable")
    assert int(answer["Retry-After"]) > 0
    assert not GroupedUpdate.objects.exists()
    assert Gate.objects.get(remote=scene.resource.remote_id).paused


def test_a_person_changes_own_records_only_and_sees_own_requests_only(scene: Scene) -> None:
    scene.records("ACC-0001")
    scene.records("ACC-0002", owner="other")
    answer = scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    assert answer.status_code == 422
    assert pointers(answer) == {"/groups/0/updates/1/occurrenceId": "not_found"}
    assert (
        scene.caller("operator").post(ADDRESS, scene.body("ACC-0001", "ACC-0002", request_id="ops")).status_code == 200
    )
    assert (
        scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", request_id="mine", city="Oslo")).status_code == 200
    )

    def seen(name: str) -> list[str]:
        return [row["requestId"] for row in scene.caller(name).get(ADDRESS).json()["results"]]

    assert (seen("owner"), seen("other"), seen("operator")) == (["mine"], [], ["mine", "ops"])
    assert scene.caller("owner").get(f"{ADDRESS}ops/").status_code == 404
    assert scene.caller("operator").get(f"{ADDRESS}mine/").json()["requestId"] == "mine"


def test_sending_needs_the_scope_and_the_right(scene: Scene) -> None:
    scene.records("ACC-0001")
    assert scene.caller("owner", Scope.READ).post(ADDRESS, scene.body("ACC-0001")).status_code == 403
    assert scene.caller("viewer").post(ADDRESS, scene.body("ACC-0001")).status_code == 403
    assert scene.caller("owner", Scope.READ, Scope.WRITE).post(ADDRESS, scene.body("ACC-0001")).status_code == 200


def test_request_ids_may_be_anything_printable(scene: Scene) -> None:
    scene.records("ACC-0001")
    client, name = scene.caller("owner"), "a/b c?ü"
    assert client.post(ADDRESS, scene.body("ACC-0001", request_id=name)).status_code == 200
    assert client.get(f"{ADDRESS}a%2Fb%20c%3F%C3%BC/").json()["requestId"] == name


def test_lists_are_filtered(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002", "ACC-0003")
    scene.break_write("ACC-0002")
    client = scene.caller("owner")
    client.post(ADDRESS, scene.body("ACC-0001", request_id="good"))
    client.post(ADDRESS, scene.body("ACC-0003", "ACC-0002", request_id="bad"))

    def found(query: str) -> list[str]:
        answer = client.get(f"{ADDRESS}?{query}")
        assert answer.status_code == 200, answer.content
        return [row["requestId"] for row in answer.json()["results"]]

    assert found("status=applied") == ["good"]
    assert found("status=rolled_back") == ["bad"]
    assert found("requestId=good") == ["good"]
    assert found("occurrenceId=ACC-0003") == ["bad"]
    assert client.get(f"{ADDRESS}?nothing=1").status_code == 400
    tasks = client.get(f"{TASKS}?status=succeeded&requestId=bad&groupId=g1&occurrenceId=ACC-0003").json()["results"]
    assert [task["resource"] for task in tasks] == [scene.resource.slug]
    assert client.get(f"{TASKS}?status=pending").json()["results"] == []
    assert scene.caller("other").get(TASKS).json()["results"] == []


def test_a_task_is_retried_by_operations_only(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002")
    scene.master.faults.add("status", status=503, phase="write", object_id="ACC-0001", skip=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    task = CompensatingTask.objects.get()
    address = f"{TASKS}{task.task_id}/"
    assert scene.caller("other").get(address).status_code == 404
    assert scene.caller("other").post(f"{address}retry/", {}).status_code == 404
    assert scene.caller("owner").get(address).json()["lastError"]["code"]
    assert scene.caller("owner").post(f"{address}retry/", {}).status_code == 403
    assert scene.caller("operator", Scope.READ, Scope.WRITE).post(f"{address}retry/", {}).status_code == 403
    answer = scene.caller("operator", Scope.READ, Scope.OPERATE).post(f"{address}retry/", {})
    assert (answer.status_code, answer.json()["attempts"]) == (200, 0)
    CompensatingTask.objects.update(status=TaskStatus.SUCCEEDED)
    refused = scene.caller("operator").post(f"{address}retry/", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_retryable")
