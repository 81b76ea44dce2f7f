"""Conflicts over HTTP: three sides, one decision, never on a stale view."""

import pytest

from syncportal.sync.models import Record
from tests.api.world import World, in_conflict

CONFLICTS = "/api/v1/conflicts/"
SHAPE = {
    "id", "record", "resource", "externalId", "reason", "state", "revision", "remoteVersion", "fields", "owner",
    "createdAt", "resolution", "resolvedBy", "resolvedAt",
}  # fmt: skip
FRESH = {"revision": 2, "remoteVersion": "4"}


def test_a_conflict_shows_its_three_sides(world: World) -> None:
    conflict = in_conflict(world.record)
    shown = world.caller("owner").get(f"{CONFLICTS}{conflict.pk}/").json()
    assert set(shown) == SHAPE
    assert (shown["state"], shown["owner"], shown["externalId"], shown["revision"]) == ("open", "owner", "A", 2)
    assert shown["fields"][0] == {
        "pointer": "/email", "base": "ada@example.org", "local": "local@example.org", "remote": "remote@example.org",
        "inConflict": True,
    }  # fmt: skip
    assert not any(field["inConflict"] for field in shown["fields"][1:])


@pytest.mark.parametrize(
    ("decision", "status", "email"),
    [
        ({"action": "use_remote"}, "SYNCED", "remote@example.org"),
        ({"action": "push_local"}, "PENDING", "local@example.org"),
        ({"action": "merge", "fields": {"/email": "remote"}}, "PENDING", "remote@example.org"),
        ({"action": "merge", "fields": {"/email": {"value": "new@example.org"}}}, "PENDING", "new@example.org"),
    ],
)
def test_each_way_out(world: World, decision: dict, status: str, email: str) -> None:
    conflict = in_conflict(world.record)
    answer = world.caller("owner").post(f"{CONFLICTS}{conflict.pk}/resolve/", {**decision, **FRESH})
    assert answer.status_code == 200, answer.content
    shown = answer.json()
    assert (shown["state"], shown["resolution"], shown["resolvedBy"]) == ("resolved", decision["action"], "owner")
    record = Record.objects.select_related("job").get(pk=world.record.pk)
    assert (record.job.status, record.data["email"], record.version) == (status, email, "4")


@pytest.mark.parametrize(
    "seen", [{"revision": 1, "remoteVersion": "4"}, {"revision": 2, "remoteVersion": "3"}, {"revision": 2}]
)
def test_a_stale_view_is_answered_with_the_fresh_values(world: World, seen: dict) -> None:
    conflict = in_conflict(world.record)
    answer = world.caller("owner").post(f"{CONFLICTS}{conflict.pk}/resolve/", {"action": "push_local", **seen})
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_view")
    fresh = answer.json()
    assert fresh["fields"][0]["remote"] == "remote@example.org"
    again = {"action": "push_local", "revision": fresh["revision"], "remoteVersion": fresh["remoteVersion"]}
    assert world.caller("owner").post(f"{CONFLICTS}{conflict.pk}/resolve/", again).status_code == 200


def test_a_record_changed_past_us_shows_what_is_there_now(world: World) -> None:
    conflict = in_conflict(world.record)
    record = Record.objects.get(pk=world.record.pk)
    Record.objects.filter(pk=record.pk).update(data={**record.data, "name": "Zed"}, revision=9)
    shown = world.caller("owner").get(f"{CONFLICTS}{conflict.pk}/").json()
    assert shown["revision"] == 9
    assert {field["pointer"]: field["local"] for field in shown["fields"]}["/name"] == "Zed"
    decision = {"action": "push_local", "revision": 9, "remoteVersion": "4"}
    stale = world.caller("owner").post(f"{CONFLICTS}{conflict.pk}/resolve/", decision)
    assert (stale.status_code, stale.json()["revision"]) == (409, 10), "what was changed past us counts as an edit"
    assert {field["pointer"]: field["local"] for field in stale.json()["fields"]}["/name"] == "Zed"
    decision["revision"] = 10
    assert world.caller("owner").post(f"{CONFLICTS}{conflict.pk}/resolve/", decision).status_code == 200


def test_the_second_decision_is_409(world: World) -> None:
    conflict = in_conflict(world.record)
    address = f"{CONFLICTS}{conflict.pk}/resolve/"
    assert world.caller("owner").post(address, {"action": "use_remote", **FRESH}).status_code == 200
    answer = world.caller("operator").post(address, {"action": "push_local", **FRESH})
    assert (answer.status_code, answer.json()["code"]) == (409, "already_resolved")
    assert (answer.json()["resolution"], answer.json()["resolvedBy"]) == ("use_remote", "owner")


@pytest.mark.parametrize(
    ("decision", "at"),
    [
        ({"action": "merge"}, "/fields/~1email"),
        ({"action": "merge", "fields": {"/email": "local", "/nothing": "local"}}, "/fields/~1nothing"),
        ({"action": "merge", "fields": {"/email": {"wrong": 1}}}, "/fields/~1email"),
        ({"action": "merge", "fields": {"/email": {"value": 5}}}, "/fields/~1email"),
        ({"action": "merge", "fields": {"email": "local"}}, "/fields/~1email"),
        ({"action": "merge", "fields": []}, "/fields"),
        ({"action": "use_remote", "fields": {"/email": "local"}}, "/fields"),
        ({"action": "explode"}, "/action"),
        ({"action": "use_remote", "revision": "x"}, "/revision"),
        ({"action": "use_remote", "note": "x"}, "/note"),
    ],
)
def test_an_impossible_decision_is_422_with_its_place(world: World, decision: dict, at: str) -> None:
    conflict = in_conflict(world.record)
    answer = world.caller("owner").post(f"{CONFLICTS}{conflict.pk}/resolve/", {**FRESH, **decision})
    assert answer.status_code == 422, answer.content
    assert at in {error["pointer"] for error in answer.json()["errors"]}
    conflict.refresh_from_db()
    assert conflict.state == "open"


def test_a_deletion_cannot_be_merged(world: World) -> None:
    conflict = in_conflict(world.record)
    type(conflict).objects.filter(pk=conflict.pk).update(remote=None, remote_version=None, reason="deleted_remote")
    body = {"action": "merge", "revision": 2, "remoteVersion": None, "fields": {}}
    answer = world.caller("owner").post(f"{CONFLICTS}{conflict.pk}/resolve/", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/action")
    body = {"action": "use_remote", "revision": 2, "remoteVersion": None}
    assert world.caller("owner").post(f"{CONFLICTS}{conflict.pk}/resolve/", body).status_code == 200


def test_filters_narrow_the_list(world: World) -> None:
    mine, theirs = in_conflict(world.record), in_conflict(world.others)
    client = world.caller("operator")

    def found(**query: object) -> list[int]:
        answer = client.get(CONFLICTS, query)
        assert answer.status_code == 200, answer.content
        return [row["id"] for row in answer.json()["results"]]

    assert found(state="open") == [theirs.pk, mine.pk]
    assert found(state="resolved") == []
    assert found(owner="owner") == found(record=world.record.pk) == [mine.pk]
    assert found(resource=world.resource.slug, reason="concurrent_edit") == [theirs.pk, mine.pk]


def test_a_viewer_looks_and_does_not_decide(world: World) -> None:
    conflict = in_conflict(world.record)
    assert world.caller("viewer").get(f"{CONFLICTS}{conflict.pk}/").status_code == 200
    answer = world.caller("viewer").post(f"{CONFLICTS}{conflict.pk}/resolve/", {"action": "use_remote", **FRESH})
    assert answer.status_code == 403
