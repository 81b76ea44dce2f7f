"""Reading a request: everything that is wrong is listed, with its place, before anything happens."""

from typing import Any

import pytest

from rollback.plan import InvalidPlan, Plan, TooManySteps, read
from tests.factories import spec_of

SPECS = {"accounts": spec_of(), "others": spec_of()}


def body(*updates: Any, **changes: Any) -> dict[str, Any]:
    """Return a request with one group."""
    given = list(updates) or [{"occurrenceId": "A", "changes": {"city": "Porto"}}]
    return {"requestId": "r", "resource": "accounts", "groups": [{"groupId": "g", "updates": given}], **changes}


def update(name: Any = "A", **changes: Any) -> dict[str, Any]:
    """Return one update."""
    return {"occurrenceId": name, "changes": {"city": "Porto"}, **changes}


def problems(found: Any) -> set[tuple[str, str]]:
    """Return place and code of everything that is wrong."""
    with pytest.raises(InvalidPlan) as refused:
        read(found, specs=SPECS)
    return {(problem.pointer, problem.code) for problem in refused.value.problems}


def plan(found: Any) -> Plan:
    """Return the plan."""
    return read(found, specs=SPECS)


def test_a_request_becomes_its_groups_and_steps_in_order() -> None:
    given = body(update("B"), update("A", resource="others", expectedVersion="7"))
    group = plan(given).groups[0]
    assert [(s.resource, s.occurrence_id, s.expected_version) for s in group.steps] == [
        ("accounts", "B", None), ("others", "A", "7"),
    ]  # fmt: skip


def test_a_whole_number_is_taken_as_a_version() -> None:
    assert plan(body(update(expectedVersion=7))).groups[0].steps[0].expected_version == "7"


def test_everything_that_is_wrong_is_listed_at_once() -> None:
    given = {
        "requestId": 5,
        "validateOnly": "yes",
        "more": 1,
        "groups": [
            {"groupId": "g", "resource": "nowhere", "updates": [update(), update(expectedVersion=[1])]},
            {"groupId": "g", "resource": "accounts", "updates": []},
            {"groupId": "h", "resource": "accounts", "updates": [update("B", changes={"updated_at": "x"}), 3]},
        ],
    }
    assert problems(given) == {
        ("/requestId", "type"),
        ("/validateOnly", "type"),
        ("/more", "unknown_key"),
        ("/groups/0/updates/0", "unknown_resource"),
        ("/groups/0/updates/1", "unknown_resource"),
        ("/groups/0/updates/1/occurrenceId", "duplicate"),
        ("/groups/0/updates/1/expectedVersion", "type"),
        ("/groups/1/groupId", "duplicate"),
        ("/groups/1/updates", "required"),
        ("/groups/2/updates/0/changes/updated_at", "read_only"),
        ("/groups/2/updates/1", "type"),
    }


@pytest.mark.parametrize("found", [None, [], "x", 3, True])
def test_a_request_that_is_no_object_is_refused(found: Any) -> None:
    assert problems(found) == {("", "type")}


@pytest.mark.parametrize("groups", [None, [], {}, "g"])
def test_a_request_without_groups_is_refused(groups: Any) -> None:
    assert problems(body(groups=groups)) == {("/groups", "required")}


@pytest.mark.parametrize("name", [None, 3, "", "x" * 501, "a\nb", ["A"]])
def test_an_object_is_named_by_printable_text(name: Any) -> None:
    assert problems(body(update(name))) == {("/groups/0/updates/0/occurrenceId", "type")}


@pytest.mark.parametrize("changes", [None, {}, [], "x"])
def test_an_update_changes_something(changes: Any) -> None:
    assert problems(body(update(changes=changes))) == {("/groups/0/updates/0/changes", "required")}


@pytest.mark.parametrize("version", [True, "", [], 1.5, "x" * 256])
def test_a_version_is_text(version: Any) -> None:
    assert problems(body(update(expectedVersion=version))) == {("/groups/0/updates/0/expectedVersion", "type")}


def test_an_unknown_resource_on_the_update_is_pointed_at_there() -> None:
    assert problems(body(update(resource="nowhere"))) == {("/groups/0/updates/0/resource", "unknown_resource")}


def test_the_same_object_in_two_groups_is_a_duplicate() -> None:
    given = body()
    given["groups"].append({"groupId": "h", "updates": [update()]})
    assert problems(given) == {("/groups/1/updates/0/occurrenceId", "duplicate")}


def test_the_same_id_in_two_resources_is_none() -> None:
    assert len(plan(body(update(), update(resource="others"))).groups[0].steps) == 2


def test_the_id_of_an_object_cannot_be_changed() -> None:
    assert problems(body(update(changes={"id": "B"}))) == {("/groups/0/updates/0/changes/id", "read_only")}


def test_two_hundred_updates_are_taken_and_one_more_is_too_many() -> None:
    two_hundred = [update(f"o{n}") for n in range(200)]
    assert len(plan(body(*two_hundred)).groups[0].steps) == 200
    with pytest.raises(TooManySteps):
        plan(body(*two_hundred, update("one more")))


def test_too_many_are_counted_over_all_groups() -> None:
    groups = [{"groupId": f"g{n}", "updates": [update(f"{n}-{m}") for m in range(101)]} for n in range(2)]
    with pytest.raises(TooManySteps):
        plan(body(groups=groups))


def test_equal_requests_have_one_hash_whatever_the_order_of_their_keys() -> None:
    given = body()
    assert plan(given).body_hash == plan(dict(reversed(given.items()))).body_hash
    assert plan(given).body_hash != plan(body(update("B"))).body_hash
