"""Records over HTTP, as the contract says."""

import pytest

from syncportal.access.keys import Scope
from syncportal.sync.models import Conflict, Record, SyncJob
from tests.api.world import World, in_conflict, put_into, stored
from tests.factories import ACCOUNTS, NEW_ACCOUNT, make_remote, make_resource

RECORDS = "/api/v1/records/"
SHAPE = {
    "id", "resource", "externalId", "data", "base", "status", "statusReason", "revision", "version", "attempts",
    "maxAttempts", "nextAttemptAt", "lastError", "owner", "intent", "inDoubt", "heldBy", "syncedAt", "deletedAt",
    "createdAt", "updatedAt",
}  # fmt: skip


def url(record: Record, verb: str = "") -> str:
    return f"{RECORDS}{record.pk}/{verb}"


def test_a_record_has_exactly_the_contracts_members_and_an_etag(world: World) -> None:
    answer = world.caller("owner").get(url(world.record))
    assert answer.status_code == 200
    assert set(answer.json()) == SHAPE
    assert answer["ETag"] == '"1"'
    assert answer["X-Request-ID"]
    shown = answer.json()
    assert (shown["resource"], shown["externalId"], shown["owner"]) == (world.resource.slug, "A", "owner")
    assert (shown["status"], shown["version"], shown["nextAttemptAt"]) == ("SYNCED", "3", None)
    assert shown["createdAt"].endswith("Z")
    assert shown["data"]["updated_at"] == "2026-01-01T00:00:00Z"


def test_a_new_record_is_answered_at_once_and_waits_for_the_worker(world: World) -> None:
    answer = world.caller("owner").post(RECORDS, {"resource": world.resource.slug, "data": NEW_ACCOUNT})
    assert answer.status_code == 201, answer.content
    shown = answer.json()
    assert (shown["status"], shown["intent"], shown["owner"], shown["externalId"]) == (
        "PENDING",
        "create",
        "owner",
        None,
    )
    assert answer["Location"] == f"http://testserver{RECORDS}{shown['id']}/"
    assert world.caller("owner").get(answer["Location"]).json()["data"] == NEW_ACCOUNT


def test_a_patch_merges_and_null_removes(world: World) -> None:
    record = stored(world.resource, "C", owner=world.people["owner"], city="Rome")
    answer = world.caller("owner").patch(url(record), {"data": {"name": "Eve", "city": None}})
    assert answer.status_code == 200, answer.content
    shown = answer.json()
    assert (shown["data"]["name"], "city" in shown["data"], shown["status"]) == ("Eve", False, "PENDING")
    assert shown["base"]["city"] == "Rome"
    assert (shown["revision"], answer["ETag"]) == (2, '"2"')
    assert shown["nextAttemptAt"] is not None


def test_merge_patch_media_type_is_taken(world: World) -> None:
    answer = world.caller("owner").patch(
        url(world.record), b'{"data": {"name": "Eve"}}', content_type="application/merge-patch+json"
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("tag", ['"7"', '"0", "9"', 'W/"1"', "nonsense"])
def test_a_stale_if_match_is_412_and_changes_nothing(world: World, tag: str) -> None:
    client = world.caller("owner")
    for answer in (
        client.patch(url(world.record), {"data": {"name": "Eve"}}, HTTP_IF_MATCH=tag),
        client.delete(url(world.record), HTTP_IF_MATCH=tag),
    ):
        assert answer.status_code == 412
        assert answer.json()["code"] == "revision_moved"
        assert answer.json()["revision"] == 1
    world.record.refresh_from_db()
    assert (world.record.revision, world.record.intent) == (1, "update")


@pytest.mark.parametrize("tag", ['"1"', '"5", "1"', "*", "1"])
def test_a_fresh_if_match_passes(world: World, tag: str) -> None:
    answer = world.caller("owner").patch(url(world.record), {"data": {"name": "Eve"}}, HTTP_IF_MATCH=tag)
    assert answer.status_code == 200


def test_delete_marks_the_record_and_shows_it(world: World) -> None:
    answer = world.caller("owner").delete(url(world.record))
    assert answer.status_code == 200
    assert (answer.json()["intent"], answer.json()["status"], answer.json()["deletedAt"]) == ("delete", "PENDING", None)


def test_a_deleted_record_is_hidden_from_lists_and_cannot_be_changed(world: World) -> None:
    client = world.caller("owner")
    made = client.post(RECORDS, {"resource": world.resource.slug, "data": NEW_ACCOUNT}).json()["id"]
    client.delete(f"{RECORDS}{made}/")
    assert client.get(f"{RECORDS}{made}/").json()["deletedAt"] is not None
    assert made not in [row["id"] for row in client.get(RECORDS).json()["results"]]
    assert [row["id"] for row in client.get(RECORDS, {"deleted": "true"}).json()["results"]] == [made]
    answer = client.patch(f"{RECORDS}{made}/", {"data": {"name": "x"}})
    assert (answer.status_code, answer.json()["code"]) == (410, "record_gone")


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_an_edit_in_conflict_is_kept_and_names_the_conflict(world: World, method: str) -> None:
    conflict = in_conflict(world.record)
    answer = getattr(world.caller("owner"), method)(url(world.record), {"data": {"name": "Eve"}})
    assert answer.status_code == 202
    assert answer.json()["conflict"] == conflict.pk
    assert set(answer.json()) == SHAPE | {"conflict"}
    conflict.refresh_from_db()
    assert conflict.revision == answer.json()["revision"] == 3


def test_every_problem_of_a_bad_edit_is_named_with_its_place(world: World) -> None:
    answer = world.caller("owner").patch(
        url(world.record), {"data": {"email": 5, "tier": "wood", "id": "Z", "version": 9}}
    )
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert {(error["pointer"]) for error in answer.json()["errors"]} >= {"/data/email", "/data/tier", "/data/id"}
    world.record.refresh_from_db()
    assert world.record.revision == 1


def test_a_bad_new_record_is_refused_with_places(world: World) -> None:
    client = world.caller("owner")
    answer = client.post(RECORDS, {"resource": world.resource.slug, "data": {"name": ""}})
    assert answer.status_code == 422
    assert "/data/email" in {error["pointer"] for error in answer.json()["errors"]}
    for body, at in (
        ({"data": {}}, "/resource"),
        ({"resource": "nowhere", "data": {}}, "/resource"),
        ({"resource": world.resource.slug}, "/data"),
        ({"resource": world.resource.slug, "data": []}, "/data"),
        ({"resource": world.resource.slug, "data": None}, "/data"),
    ):
        answer = client.post(RECORDS, body)
        assert answer.status_code == 422, body
        assert [error["pointer"] for error in answer.json()["errors"]] == [at]


def test_only_operators_set_the_owner(world: World) -> None:
    for name in ("owner", "viewer"):
        answer = world.caller(name).patch(url(world.record), {"owner": "other"})
        assert answer.status_code == 403
    answer = world.caller("owner").post(
        RECORDS, {"resource": world.resource.slug, "data": NEW_ACCOUNT, "owner": "other"}
    )
    assert answer.status_code == 403
    assert (
        world.caller("operator", Scope.READ, Scope.WRITE).patch(url(world.record), {"owner": "other"}).status_code
        == 403
    )
    answer = world.caller("operator").patch(url(world.record), {"owner": "other"})
    assert (answer.status_code, answer.json()["owner"]) == (200, "other")
    assert world.caller("operator").patch(url(world.record), {"owner": None}).json()["owner"] is None
    answer = world.caller("operator").patch(url(world.record), {"owner": "no such person"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/owner")


def test_an_owner_and_data_change_together_or_not_at_all(world: World) -> None:
    answer = world.caller("operator").patch(url(world.record), {"owner": "other", "data": {"tier": "wood"}})
    assert answer.status_code == 422
    world.record.refresh_from_db()
    assert world.record.owner == world.people["owner"]


@pytest.mark.parametrize("status", ["ERROR", "DEAD_LETTER", "VALIDATION_FAILED", "RETRY_PENDING"])
def test_retry_requeues_what_stopped(world: World, status: str) -> None:
    put_into(world.record, status, attempts=4, detail="It failed.")
    assert world.caller("owner").get(url(world.record)).json()["lastError"] == "It failed."
    answer = world.caller("owner").post(url(world.record, "retry/"))
    assert (answer.status_code, answer.json()["status"], answer.json()["attempts"]) == (200, "PENDING", 0)


@pytest.mark.parametrize("status", ["SYNCED", "PENDING", "VERSION_CONFLICT"])
def test_retry_of_anything_else_is_409(world: World, status: str) -> None:
    put_into(world.record, status)
    answer = world.caller("owner").post(url(world.record, "retry/"))
    assert (answer.status_code, answer.json()["code"], answer.json()["recordStatus"]) == (
        409,
        "not_requeueable",
        status,
    )


def test_an_ambiguous_create_is_linked_or_sent_again(world: World) -> None:
    client = world.caller("owner")
    body = {"resource": world.resource.slug, "data": NEW_ACCOUNT}
    made = [client.post(RECORDS, body).json()["id"] for _ in range(2)]
    assert client.post(f"{RECORDS}{made[0]}/retry/", {"sendAgain": True}).json()["code"] == "not_in_doubt"
    for record_id in made:
        put_into(Record.objects.get(pk=record_id), "ERROR", reason="create_unknown", in_doubt=True)
    assert client.post(f"{RECORDS}{made[0]}/retry/", {"sendAgain": True, "linkTo": "Z"}).status_code == 422
    assert client.post(f"{RECORDS}{made[0]}/retry/", {"linkTo": "A"}).status_code == 422
    assert client.post(f"{RECORDS}{made[0]}/retry/", {"linkTo": "Z"}).json()["externalId"] == "Z"
    again = client.post(f"{RECORDS}{made[1]}/retry/", {"sendAgain": True})
    assert (again.status_code, again.json()["status"]) == (200, "PENDING")


def test_a_composite_id_is_its_parts_joined(world: World) -> None:
    parts = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    resource = make_resource(
        make_remote("http://127.0.0.1:9/api"), ACCOUNTS, id=["/a", "/b"], schema=parts, create={
            "method": "PUT", "path": "/x/{0}/{1}", "id": "client"}, detail={"path": "/x/{0}/{1}"},
    )  # fmt: skip
    body = {"resource": resource.slug, "data": {"a": "x|y", "b": "z"}}
    answer = world.caller("owner").post(RECORDS, body)
    assert (answer.status_code, answer.json()["externalId"]) == (201, "x%7Cy|z")
    found = world.caller("owner").get(RECORDS, {"externalId": "x%7Cy|z"}).json()["results"]
    assert [row["id"] for row in found] == [answer.json()["id"]]
    assert world.caller("owner").post(RECORDS, body).status_code == 422


def test_an_open_conflict_stays_the_only_one(world: World) -> None:
    in_conflict(world.record)
    world.caller("owner").patch(url(world.record), {"data": {"name": "Eve"}})
    assert Conflict.objects.filter(record=world.record).count() == 1
    assert SyncJob.objects.get(pk=world.record.pk).status == "VERSION_CONFLICT"
