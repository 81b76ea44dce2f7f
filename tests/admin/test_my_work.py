"""My work: what waits for one person, and the owner's start page."""

from django.db import connection
from django.test.utils import CaptureQueriesContext

from syncportal.sync import operate
from syncportal.sync.events import Actor
from tests.admin.conftest import World
from tests.factories import drain, edit

WORK = "/admin/work/"


def test_owners_start_with_their_work_and_operations_with_the_numbers(world: World) -> None:
    answer = world.client("olga").get("/admin/")
    assert (answer.status_code, answer.headers["Location"]) == (302, WORK)
    assert world.client("olga").get("/admin/?window=24h").status_code == 200
    assert world.client("ops").get("/admin/").status_code == 200
    assert world.client("nobody").get(WORK).status_code == 403


def test_nothing_to_do_says_when_it_was_checked(world: World) -> None:
    text = world.client("olga").get(WORK).content.decode()
    assert "Nothing waits for you" in text and "Last checked" in text and "Your 2 records" in text
    assert "No record belongs to you yet" in world.client("otto").get(WORK).content.decode()


def test_conflicts_failed_edits_and_new_records_are_listed_for_their_owner_only(world: World) -> None:
    conflict = world.conflict(world.records[0], remote={"city": "Oslo"}, city="Bergen")
    world.master.faults.add("status", object_id="ACC-0002", status=422)
    edit(world.records[1], city="Lund")
    drain()
    actor = Actor("user", world.people["ops"].pk, "ops")
    operate.assign([world.records[2].pk], owner_id=world.people["olga"].pk, actor=actor)
    answer = world.client("olga").get(WORK)
    work = answer.context["work"]
    assert [row.pk for row in work.conflicts] == [conflict.pk]
    assert [row.pk for row in work.failed] == [world.records[1].pk]
    assert [row.record_id for row in work.assigned] == [world.records[2].pk]
    text = answer.content.decode()
    assert f"/admin/sync/conflict/{conflict.pk}/" in text and "by ops" in text
    assert '<span class="count count--attention">2' in text, "the badge counts what waits"
    assert world.client("otto").get(WORK).context["work"].nothing


def test_what_was_handed_over_is_the_work_of_operations(world: World) -> None:
    conflict = world.conflict(world.records[0], remote={"city": "Oslo"}, city="Bergen")
    assert world.client("ops").get(WORK).context["work"].conflict_count == 0
    operate.escalate([conflict.pk], actor=Actor("user", world.people["olga"].pk, "olga"))
    assert world.client("ops").get(WORK).context["work"].conflict_count == 1
    listed = world.client("ops").get("/admin/sync/conflict/?with=operations").context["cl"].result_list
    assert [row.pk for row in listed] == [conflict.pk]


def test_the_number_of_queries_does_not_grow_with_the_rows(world: World) -> None:
    operate.assign([row.pk for row in world.records], owner_id=world.people["olga"].pk, actor=Actor("worker"))
    client = world.client("olga")
    client.get(WORK)
    counts = []
    for some in (world.records[:1], world.records[1:]):
        for record in some:
            world.conflict(record, remote={"city": "Oslo"}, city="Bergen")
        with CaptureQueriesContext(connection) as seen:
            client.get(WORK, headers={"HX-Request": "true"})
        counts.append(len(seen))
    assert counts[0] == counts[1]
