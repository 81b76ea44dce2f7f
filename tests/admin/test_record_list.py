"""The list of records: scope, filters, search, bulk acts, number of queries."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from syncportal.sync import records, transitions
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.screens import bulk, record_list
from syncportal.sync.states import Intent, Status
from tests.admin.conftest import World

LIST = "/admin/sync/record/"


def set_status(record: Record, status: Status, **changes: object) -> None:
    due = timezone.now() if status in (Status.PENDING, Status.RETRY_PENDING) else None
    SyncJob.objects.filter(pk=record.pk).update(**{"status": status, "due_at": due, **changes})


def shown(world: World, who: str, query: str = "") -> list[str]:
    answer = world.client(who).get(LIST + query)
    assert answer.status_code == 200
    return sorted(row.external_id for row in answer.context["cl"].result_list)


def test_owners_see_their_own_records_and_others_all(world: World) -> None:
    everything = [f"ACC-000{number}" for number in range(1, 7)]
    assert shown(world, "olga") == everything[:2]
    assert shown(world, "otto") == []
    for who in ("ops", "vera", "anna"):
        assert shown(world, who) == everything
    assert world.client("nobody").get(LIST).status_code == 403


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("?status=ERROR", ["ACC-0003"]),
        ("?status=stopped", ["ACC-0003", "ACC-0004"]),
        ("?status=moving", ["ACC-0005"]),
        ("?status=nonsense", ["ACC-0001", "ACC-0002", "ACC-0003", "ACC-0004", "ACC-0005"]),
        ("?age=due", ["ACC-0005"]),
        ("?age=1d&status=DEAD_LETTER", ["ACC-0004"]),
        ("?age=7d&status=DEAD_LETTER", []),
        ("?owner=none&status=SYNCED", []),
        ("?owner=me", []),
        ("?deleted=only", ["ACC-0006"]),
        ("?deleted=with&status=SYNCED", ["ACC-0001", "ACC-0002", "ACC-0006"]),
        ("?q=ACC-0003", ["ACC-0003"]),
        ("?q=account0002@example.org", ["ACC-0002"]),
        ("?q=olga", ["ACC-0001", "ACC-0002"]),
        ("?q=broken+pipe", ["ACC-0004"]),
        ("?q=%C3%96resund", ["ACC-0001"]),
        ("?q=%27%22%25", []),
        ("?resource=nope", []),
    ],
)
def test_filters_and_search(world: World, query: str, wanted: list[str]) -> None:
    _, _, third, fourth, fifth, sixth = world.records
    set_status(third, Status.ERROR)
    set_status(fourth, Status.DEAD_LETTER, status_since=timezone.now() - timedelta(days=2), detail="broken pipe")
    set_status(fifth, Status.PENDING)
    Record.objects.filter(pk=sixth.pk).update(deleted_at=timezone.now())
    assert shown(world, "ops", query) == wanted


def test_a_search_keeps_filters_and_order(world: World) -> None:
    set_status(world.records[2], Status.ERROR)
    answer = world.client("ops").get(LIST + "?q=acc-000+example.org&status=SYNCED&o=-3")
    assert [row.external_id for row in answer.context["cl"].result_list] == [
        "ACC-0006", "ACC-0005", "ACC-0004", "ACC-0002", "ACC-0001",
    ]  # fmt: skip
    assert shown(world, "ops", f"?q={world.resource.slug}&status=ERROR") == ["ACC-0003"]
    assert shown(world, "olga", "?q=example.org") == ["ACC-0001", "ACC-0002"]


def test_of_very_much_the_first_is_listed_and_an_act_takes_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_list, "MOST", 4)
    answer = world.client("ops").get(LIST + "?q=example.org&o=-3")
    listed = ["ACC-0006", "ACC-0005", "ACC-0004", "ACC-0003"]
    assert [row.external_id for row in answer.context["cl"].result_list] == listed
    query = LIST + "?q=example.org"
    whole = {"action": "refresh", "_selected_action": [world.records[0].pk], "select_across": "1"}
    assert world.client("ops").post(query, whole, follow=True).context["preview"].taken == 6
    monkeypatch.setattr(bulk, "MOST", 5)
    refused = world.client("ops").post(query, whole, follow=True)
    assert "More than 5 records are chosen" in refused.content.decode()


def test_what_a_search_finds_is_looked_for_once(world: World) -> None:
    client = world.client("ops")
    with CaptureQueriesContext(connection) as captured:
        assert client.get(LIST + "?q=ACC-0003").status_code == 200
    assert sum("LIKE" in query["sql"] and "sync_record" in query["sql"] for query in captured) == 1


def preview(world: World, who: str, act: str, chosen: list[Record], query: str = "") -> Any:
    data = {"action": act, "_selected_action": [record.pk for record in chosen]}
    return world.client(who).post(LIST + query, data, follow=True)


def test_the_preview_counts_exactly_and_the_act_does_just_that(world: World) -> None:
    first, second, third, fourth, fifth, sixth = world.records
    for record in (first, second, third):
        set_status(record, Status.ERROR)
    set_status(fourth, Status.PENDING)
    answer = preview(world, "ops", "requeue", world.records, f"?resource={world.resource.slug}&p=1")
    found = answer.context["preview"]
    assert (found.taken, found.left_out_count) == (3, 3)
    assert [(part.label, part.count, part.why) for part in found.left_out] == [
        ("Synced", 2, "both sides agree"),
        ("Pending", 1, "waits for a worker already"),
    ]
    set_status(fifth, Status.ERROR)  # moved on since the preview: still part of the frozen ids
    done = world.client("ops").post(start_of(answer), follow=True)
    assert done.redirect_chain[0][0] == f"{LIST}?resource={world.resource.slug}&p=1"
    assert "4 requeued, 2 skipped: 1 pending, 1 synced." in done.content.decode()


def start_of(answer: Any) -> str:
    return reverse("admin:bulk_bulkoperation_start", args=[answer.context["operation"].pk])


def test_only_the_frozen_ids_are_touched(world: World) -> None:
    for record in world.records:
        set_status(record, Status.ERROR)
    chosen = world.records[:2]
    answer = preview(world, "ops", "requeue", chosen)
    world.client("ops").post(start_of(answer), {"ids": ",".join(str(record.pk) for record in world.records)})
    assert set(SyncJob.objects.filter(status="PENDING").values_list("pk", flat=True)) == {one.pk for one in chosen}


def test_scope_is_checked_again_when_the_act_runs(world: World) -> None:
    for record in world.records:
        set_status(record, Status.ERROR)
    answer = preview(world, "olga", "requeue", world.records[:2])
    assert answer.context["preview"].taken == 2
    Record.objects.filter(pk=world.records[0].pk).update(owner=world.people["otto"])
    for other in ("otto", "ops"):  # nobody starts what somebody else chose
        assert world.client(other).post(start_of(answer)).status_code in (403, 404)
    assert SyncJob.objects.filter(status="PENDING").count() == 0
    done = world.client("olga").post(start_of(answer), follow=True)
    assert "1 requeued, 1 skipped: 1 gone, or no longer yours." in done.content.decode()
    assert SyncJob.objects.filter(status="PENDING").count() == 1
    assert world.client("ops").get(start_of(answer)).status_code == 405


def test_viewers_are_offered_no_acts(world: World) -> None:
    assert not world.client("vera").get(LIST).context["action_form"]
    offered = world.client("olga").get(LIST).context["action_form"].fields["action"].choices
    assert [name for name, _ in offered] == ["", "requeue", "requeue_in_steps", "refresh"]


def test_assign_in_bulk(world: World) -> None:
    answer = preview(world, "ops", "assign", world.records[:3])
    assert answer.context["preview"].taken == 3
    assert world.client("ops").post(start_of(answer), {"owner": "999999"}).status_code == 422
    world.client("ops").post(start_of(answer), {"owner": world.people["otto"].pk})
    assert Record.objects.filter(owner=world.people["otto"]).count() == 3


def many(world: World, count: int, *, first: int = 0) -> None:
    now = timezone.now()
    states = [
        RecordState(
            id=0, resource_id=world.resource.pk, external_id=f"X-{n:06d}", data={"name": f"Row {n}"},
            base={"name": f"Row {n}"}, version="1", revision=1, intent=Intent.UPDATE, owner_id=None, deleted_at=None,
        )
        for n in range(first, first + count)
    ]  # fmt: skip
    ids = records.insert(states, now=now)
    transitions.insert([transitions.NewJob(pk, world.resource.remote_id, False, 4) for pk in ids], now=now)


def queries_of(world: World, path: str) -> int:
    client = world.client("ops")
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    assert not [query for query in captured if '"sync_record"."data"' in query["sql"] and "record_content" in path]
    return len(captured)


def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(world: World) -> None:
    search = f"{LIST}?status=SYNCED&q={world.resource.slug}"
    pages = (LIST, search, "/admin/", "/admin/sync/synclog/", "/admin/remote/resource/")
    many(world, 60)  # more than a page
    few = {path: queries_of(world, path) for path in pages}
    many(world, 300, first=60)
    assert {path: queries_of(world, path) for path in pages} == few
    assert max(few.values()) <= 34, few


def test_rows_are_put_in_order_before_they_are_read(world: World) -> None:
    many(world, 60)
    client = world.client("ops")
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(f"{LIST}?o=1&p=2")
    assert [row.title for row in answer.context["cl"].result_list] == sorted(
        Record.objects.values_list("title", flat=True)
    )[50:]
    ordered = [query["sql"] for query in captured if 'ORDER BY "sync_record"."title"' in query["sql"]]
    assert ["LIMIT" in sql for sql in ordered] == ["job" not in sql.partition(" FROM ")[0] for sql in ordered]
    assert len(ordered) == 2


def test_the_list_never_loads_the_contents(world: World) -> None:
    client = world.client("ops")
    with CaptureQueriesContext(connection) as captured:
        client.get(LIST)
    assert not [query["sql"] for query in captured if '"sync_record"."base"' in query["sql"]]


def test_dead_letters_are_called_so_and_say_when_there_is_none(world: World) -> None:
    page = world.client("ops").get(reverse("admin:sync_record_changelist"), {"status": "DEAD_LETTER"}).content.decode()
    assert "<h1>Dead letters</h1>" in page and "No dead letters" in page
