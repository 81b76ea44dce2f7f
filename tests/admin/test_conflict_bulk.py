"""Many conflicts decided at once: preview by field, frozen views, per-row outcomes."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

from syncportal.bulk.models import BulkOperation
from syncportal.sync import conflict_acts, conflict_store, records
from syncportal.sync.conflict_store import Opening
from syncportal.sync.models import Conflict, Record
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status
from tests.admin.conftest import World
from tests.factories import T0, delete, drain, edit, job_of

LIST = "/admin/sync/conflict/"


@pytest.fixture
def conflicts(world: World) -> list[Conflict]:
    """Four conflicts: three over the city, one of them over the credit as well, and a deletion."""
    for record, mine in zip(world.records[:3], ({"notes": "Call."}, {}, {"credit": 300}), strict=True):
        edit(record, city="Bergen", **mine)
        world.master.edit("accounts", str(record.external_id), {"city": "Oslo", "credit": 500})
    delete(world.records[3])
    world.master.edit("accounts", str(world.records[3].external_id), {"city": "Oslo"})
    drain()
    return [Conflict.objects.get(record=record) for record in world.records[:4]]


def choose(client: Client, action: str, conflicts: list[Conflict]) -> Any:
    data = {"action": action, "_selected_action": [row.pk for row in conflicts], "index": "0"}
    return client.post(LIST, data, follow=True)


def start(client: Client) -> Any:
    return client.post(f"/admin/bulk/bulkoperation/{BulkOperation.objects.latest('pk').pk}/start/", follow=True)


def outcomes() -> dict[int, tuple[str, str]]:
    rows = BulkOperation.objects.latest("pk").rows.values_list("target_id", "state", "outcome")
    return {target: (state, outcome) for target, state, outcome in rows}


def test_the_preview_counts_by_field_and_names_what_is_left_out(world: World, conflicts: list[Conflict]) -> None:
    preview = choose(world.client("ops"), "remote_wins", conflicts).context["preview"]
    assert preview.taken == 3
    assert {part.label.split(" ")[0]: part.count for part in preview.details} == {"city": 3, "credit": 1}
    assert [(part.count, part.why) for part in preview.left_out] == [(1, "deleted here; a person must decide")]
    assert Conflict.objects.open().count() == 4, "nothing is decided by looking"


@pytest.mark.parametrize(("action", "city"), [("remote_wins", "Oslo"), ("local_wins", "Bergen")])
def test_one_side_wins_disputed_fields_and_keeps_the_rest(
    world: World, conflicts: list[Conflict], action: str, city: str
) -> None:
    client = world.client("ops")
    choose(client, action, conflicts)
    assert "3 resolved, 1 skipped: 1 deleted here; a person must decide" in start(client).content.decode()
    drain()
    first = world.master.get("accounts", "ACC-0001")
    assert first is not None and (first["city"], first["notes"], first["credit"]) == (city, "Call.", 500)
    for record in world.records[:3]:
        assert job_of(record).status in (Status.SYNCED, Status.SKIPPED)
        there = world.master.get("accounts", str(record.external_id))
        assert there is not None and there["city"] == Record.objects.get(pk=record.pk).data["city"] == city
    assert {row.resolved_by for row in Conflict.objects.filter(state="resolved")} == {world.people["ops"]}


def test_what_moved_since_the_preview_is_skipped_and_says_so(world: World, conflicts: list[Conflict]) -> None:
    client = world.client("ops")
    choose(client, "local_wins", conflicts[:3])
    edit(world.records[0], city="Tartu")
    Conflict.objects.filter(pk=conflicts[1].pk).update(state="resolved", resolution="use_remote")
    start(client)
    assert outcomes() == {
        conflicts[0].pk: ("skipped", "skipped because it moved since the preview"),
        conflicts[1].pk: ("skipped", "resolved meanwhile"),
        conflicts[2].pk: ("done", "resolved; being sent"),
    }
    assert Conflict.objects.get(pk=conflicts[0].pk).state == "open"


def test_owners_decide_their_own_and_viewers_none(world: World, conflicts: list[Conflict]) -> None:
    client = world.client("olga")
    answer = choose(client, "remote_wins", conflicts)
    assert answer.context["preview"].taken == 2, "others' rows are not in an owner's list"
    start(client)
    assert Conflict.objects.open().count() == 2
    shown = world.client("vera").get(LIST).content.decode()
    assert "Let the remote win" not in shown


@pytest.mark.skipif(connection.vendor != "sqlite", reason="counts SQLite's own steps")
def test_choosing_many_costs_an_owner_in_proportion(world: World) -> None:
    rows = [RecordState(0, world.resource.pk, f"MANY-{number}", {"city": "Lund"}, {"city": "Turku"}, "1", 2,
                        Intent.UPDATE, world.people["olga"].pk, None) for number in range(400)]  # fmt: skip
    ids = records.insert(rows, now=T0)
    opened = [
        Opening(record_id=pk, resource_id=world.resource.pk, reason="concurrent_edit", base={}, local={}, remote={},
                fields=(), revision=2, remote_version="2") for pk in ids
    ]  # fmt: skip
    with transaction.atomic():
        found = list(conflict_store.open_or_renew(opened, now=T0).values())
    steps = _steps(lambda: conflict_acts.own_among(world.people["olga"], found))
    assert steps < 100 * len(found), "not every id for every record"


def _steps(work: Callable[[], object]) -> int:
    """Return how many instructions the database spent on something."""
    counted: list[int] = []
    connection.ensure_connection()
    connection.connection.set_progress_handler(lambda: counted.append(1), 10)
    try:
        work()
    finally:
        connection.connection.set_progress_handler(None, 10)
    return 10 * len(counted)
