"""Lists: pages, filters, scope, and a constant number of queries."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from syncportal.sync.models import Record
from tests.api.world import World, exchange, happened, in_conflict, put_into, stored

LISTS = ["resources", "records", "conflicts", "sync-logs", "events"]


def follow(client, address: str, **query: object) -> list[dict]:
    found = []
    while address:
        answer = client.get(address, query)
        assert answer.status_code == 200, answer.content
        found += answer.json()["results"]
        address, query = answer.json()["next"], {}
    return found


def test_pages_show_every_row_once_while_others_come_and_go(world: World) -> None:
    rows = [stored(world.resource, f"N{number}", owner=world.people["owner"]) for number in range(7)]
    client = world.caller("owner")
    first = client.get("/api/v1/records/", {"pageSize": 3}).json()
    assert first["previous"] is None
    stored(world.resource, "newer", owner=world.people["owner"])
    Record.objects.filter(pk=rows[6].pk).delete()
    seen = [row["externalId"] for row in first["results"]]
    second = client.get(first["next"]).json()
    seen += [row["externalId"] for row in second["results"]]
    third = client.get(second["next"]).json()
    seen += [row["externalId"] for row in third["results"]]
    assert seen == ["N6", "N5", "N4", "N3", "N2", "N1", "N0", "A"]
    assert third["next"] is None
    back = client.get(third["previous"]).json()
    assert back["results"] == second["results"]
    front = client.get(back["previous"]).json()
    assert [row["externalId"] for row in front["results"]] == ["newer", "N5", "N4"]
    assert front["previous"] is None


@pytest.mark.parametrize("name", LISTS)
def test_every_list_has_the_same_frame(world: World, name: str) -> None:
    answer = world.caller("operator").get(f"/api/v1/{name}/", {"pageSize": 1})
    assert answer.status_code == 200
    assert {"next", "previous", "results"} <= set(answer.json())


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"pageSize": "201"}, "pageSize"), ({"pageSize": "0"}, "pageSize"), ({"pageSize": "x"}, "pageSize"),
        ({"nothing": "1"}, "nothing"), ({"resourcce": "x"}, "resourcce"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(world: World, name: str, query: dict, parameter: str) -> None:
    answer = world.caller("operator").get(f"/api/v1/{name}/", query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_query")
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize(
    ("address", "query", "parameter"),
    [
        ("records", {"status": "HAPPY"}, "status"), ("records", {"resource": "nowhere"}, "resource"),
        ("records", {"updatedAfter": "yesterday"}, "updatedAfter"), ("records", {"deleted": "perhaps"}, "deleted"),
        ("records", {"externalId": "a\x00b"}, "externalId"), ("records", {"cursor": "%%%"}, "cursor"),
        ("records", {"cursor": "bzp4"}, "cursor"), ("records", {"cursor": "é"}, "cursor"),
        ("conflicts", {"state": "odd"}, "state"), ("conflicts", {"record": "1.5"}, "record"),
        ("conflicts", {"record": "-1"}, "record"), ("sync-logs", {"after": "x"}, "after"),
        ("sync-logs", {"record": "9" * 30}, "record"), ("events", {"after": "-1"}, "after"),
        ("events", {"after": "9" * 30}, "after"),
        *((route, {name: moment}, name) for route, name in (("records", "updatedBefore"), ("sync-logs", "after"),
                                                            ("grouped-updates", "createdAfter"))
          for moment in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-14:00")),
    ],
)  # fmt: skip
def test_a_bad_value_is_named(world: World, address: str, query: dict, parameter: str) -> None:
    answer = world.caller("operator").get(f"/api/v1/{address}/", query)
    assert answer.status_code == 400, answer.content
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


def test_record_filters(world: World) -> None:
    put_into(world.record, "ERROR")
    Record.objects.filter(pk=world.others.pk).update(updated_at=timezone.now() - timedelta(days=9))
    client = world.caller("operator")

    def found(query: dict) -> set[str]:
        return {row["externalId"] for row in follow(client, "/api/v1/records/", **query)}

    assert found({}) == {"A", "B"}
    assert found({"status": "ERROR"}) == {"A"}
    assert found({"status": ["ERROR", "SYNCED"]}) == {"A", "B"}
    assert found({"owner": "other"}) == found({"externalId": "B"}) == {"B"}
    week_ago = (timezone.now() - timedelta(days=7)).isoformat()
    assert found({"updatedAfter": week_ago}) == {"A"}
    assert found({"updatedBefore": week_ago}) == {"B"}
    assert found({"search": "ad"}) == {"A", "B"}
    assert found({"search": "B"}) == {"B"}
    assert found({"resource": world.resource.slug, "status": "ERROR", "owner": "other"}) == set()


def test_sync_log_filters(world: World) -> None:
    old = exchange(world.record, at=timezone.now() - timedelta(days=2), outcome="retry_later")
    new = exchange(world.others)
    client = world.caller("operator")

    def found(**query: object) -> list[int]:
        return [row["id"] for row in follow(client, "/api/v1/sync-logs/", **query)]

    assert found() == [new.pk, old.pk]
    assert found(record=world.record.pk) == found(outcome="retry_later") == [old.pk]
    assert found(after=(timezone.now() - timedelta(days=1)).isoformat()) == [new.pk]


def test_owners_see_their_own_rows_only(world: World) -> None:
    for record in (world.record, world.others):
        in_conflict(record)
        exchange(record)
        happened(record)
    client = world.caller("owner")
    assert {row["externalId"] for row in follow(client, "/api/v1/records/")} == {"A"}
    assert {row["record"] for row in follow(client, "/api/v1/conflicts/")} == {world.record.pk}
    assert {row["record"] for row in follow(client, "/api/v1/sync-logs/")} == {world.record.pk}
    assert {row["record"] for row in follow(client, "/api/v1/events/")} == {world.record.pk}
    for name in ("viewer", "operator", "admin"):
        assert len(follow(world.caller(name), "/api/v1/records/")) == 2
    for name in ("nobody",):
        assert follow(world.caller(name), "/api/v1/records/") == []


@pytest.mark.parametrize("name", LISTS)
def test_a_page_costs_the_same_number_of_queries_however_long(world: World, name: str) -> None:
    def fill(count: int, start: int) -> None:
        for number in range(start, start + count):
            record = stored(world.resource, f"N{number}", owner=world.people["owner"])
            in_conflict(record)
            exchange(record)
            happened(record)

    client = world.caller("operator")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"/api/v1/{name}/", {"pageSize": 200}).status_code == 200
        return len(captured)

    client.get("/api/v1/resources/")  # notes the key's use
    fill(2, 0)
    few = queries()
    fill(10, 100)
    assert queries() == few <= 12


def test_a_timeline_merges_everything_newest_first_in_pages(world: World) -> None:
    now = timezone.now()
    for minutes in range(5):
        happened(world.record, at=now - timedelta(minutes=minutes))
        exchange(world.record, at=now - timedelta(minutes=minutes))
    in_conflict(world.record)
    happened(world.others)
    client = world.caller("owner")
    address = f"/api/v1/records/{world.record.pk}/timeline/"
    whole = client.get(address, {"pageSize": 200}).json()["results"]
    assert [entry["type"] for entry in whole[:3]] == ["conflict", "syncLog", "event"]
    assert len(whole) == 11
    assert [entry["at"] for entry in whole] == sorted((entry["at"] for entry in whole), reverse=True)
    assert all(entry[entry["type"]] and sum(entry[k] is not None for k in ("event", "syncLog", "conflict")) == 1
               for entry in whole)  # fmt: skip
    assert follow(client, address, pageSize=3) == whole
    for bad in ("zzz", "bzox", "MjAyNi0wMS0wMSBldmVudCAx"):
        assert client.get(address, {"cursor": bad}).status_code == 400
    assert client.get(address, {"status": "x"}).status_code == 400


def test_a_resource_tells_its_schema_and_whether_it_can_be_reached(world: World) -> None:
    from syncportal.kernel.clock import db_now
    from syncportal.remote import limits

    client = world.caller("owner")
    address = f"/api/v1/resources/{world.resource.slug}/"
    shown = client.get(address).json()
    assert (shown["breaker"], shown["blockedUntil"], shown["createId"]) == ("closed", None, "server")
    assert shown["schema"]["properties"]["email"]
    assert shown["idPointers"] == ["/id"]
    limits.pause(world.resource.remote_id, reason="by_hand", detail="Maintenance.", now=db_now())
    shown = client.get(address).json()
    assert (shown["breaker"], shown["blockedReason"]) == ("paused", "Maintenance.")
    assert client.get("/api/v1/resources/nowhere/").status_code == 404


def test_the_next_address_keeps_the_filters(world: World) -> None:
    stored(world.resource, "C", owner=world.people["owner"])
    answer = world.caller("operator").get("/api/v1/records/", {"pageSize": 1, "status": "SYNCED"}).json()
    assert parse_qs(urlsplit(answer["next"]).query)["status"] == ["SYNCED"]
