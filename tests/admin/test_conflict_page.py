"""The conflict page: three ways out, stale views, two people, scope."""

import re
from html import unescape

import pytest
from django.urls import reverse

from syncportal.sync import refresh
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict
from syncportal.sync.states import Status
from tests.admin.conftest import World
from tests.factories import delete, drain, edit, job_of


def page_of(conflict: Conflict) -> str:
    return reverse("admin:sync_conflict_change", args=[conflict.pk])


def hidden(text: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(revision|remote_version)" value="([^"]*)"', text)
    return {name: unescape(value) for name, value in found}


def look(world: World, conflict: Conflict, who: str = "olga") -> dict[str, str]:
    return hidden(world.client(who).get(page_of(conflict)).content.decode())


@pytest.fixture
def conflict(world: World) -> Conflict:
    return world.conflict(
        world.records[0],
        remote={"city": "Oslo", "credit": 500, "tier": "gold"},
        city="Bergen",
        credit=300,
        notes="Call.",
    )


def test_the_page_says_what_happened_and_shows_the_conflicting_fields_first(world: World, conflict: Conflict) -> None:
    answer = world.client("olga").get(page_of(conflict))
    rows = answer.context["rows"]
    assert [row.view.pointer for row in rows if row.view.in_conflict] == ["/city", "/credit"]
    assert [row.view.in_conflict for row in rows] == [True, True, False, False]
    assert {row.view.pointer: row.choice for row in rows[2:]} == {"/notes": "local", "/tier": "remote"}
    assert "were changed both here and at the remote, to different values." in answer.content.decode()


def test_use_remote(world: World, conflict: Conflict) -> None:
    data = look(world, conflict) | {"action": "use_remote"}
    answer = world.client("olga").post(page_of(conflict), data, follow=True)
    assert "Resolved: the remote&#x27;s values are used here." in answer.content.decode()
    record = world.records[0]
    record.refresh_from_db()
    assert record.data["city"] == "Oslo" and job_of(record).status == Status.SYNCED


def test_push_local(world: World, conflict: Conflict) -> None:
    world.client("olga").post(page_of(conflict), look(world, conflict) | {"action": "push_local"})
    drain()
    kept = world.master.get("accounts", "ACC-0001")
    assert kept is not None and (kept["city"], kept["credit"]) == ("Bergen", 300)


def test_merge_field_by_field_with_a_typed_value(world: World, conflict: Conflict) -> None:
    choices = {"choice:/city": "value", "value:/city": "Porto", "choice:/credit": "remote", "choice:/tier": "local"}
    world.client("olga").post(page_of(conflict), look(world, conflict) | {"action": "merge", **choices})
    drain()
    kept = world.master.get("accounts", "ACC-0001")
    assert kept is not None
    assert [kept[name] for name in ("city", "credit", "notes")] == ["Porto", 500, "Call."]
    assert kept["tier"] != "gold"


def test_a_field_without_a_choice_is_named_and_nothing_is_written(world: World, conflict: Conflict) -> None:
    data = look(world, conflict) | {"action": "merge", "choice:/city": "local"}
    answer = world.client("olga").post(page_of(conflict), data)
    assert answer.status_code == 422
    wrong = {row.view.pointer for row in answer.context["rows"] if row.errors}
    assert wrong == {"/credit"}
    assert next(row.choice for row in answer.context["rows"] if row.view.pointer == "/city") == "local"
    conflict.refresh_from_db()
    assert conflict.state == "open"


@pytest.mark.parametrize("typed", ["-5", "abc", "1e999"])
def test_a_typed_value_that_does_not_fit_is_named(world: World, conflict: Conflict, typed: str) -> None:
    choices = {"choice:/city": "local", "choice:/credit": "value", "value:/credit": typed}
    answer = world.client("olga").post(page_of(conflict), look(world, conflict) | {"action": "merge", **choices})
    assert answer.status_code == 422 and f'value="{typed}"' in answer.content.decode()
    assert Conflict.objects.get(pk=conflict.pk).state == "open"


def test_a_stale_view_writes_nothing_and_keeps_the_choices(world: World, conflict: Conflict) -> None:
    seen = look(world, conflict)
    rows = world.client("olga").get(page_of(conflict)).context["rows"]
    world.master.edit("accounts", "ACC-0001", {"city": "Rome"})
    refresh.refresh(conflict.record_id, resource=world.resource, actor=Actor("user"))
    seals = {row.seen_name: row.seal for row in rows}
    data = seen | seals | {"action": "merge", "choice:/city": "local", "choice:/credit": "remote"}
    answer = world.client("olga").post(page_of(conflict), data)
    text = answer.content.decode()
    assert answer.status_code == 409 and "nothing was written" in text and "Rome" in text
    assert [(row.choice, row.moved) for row in answer.context["rows"][:2]] == [("local", True), ("remote", False)]
    assert world.client("olga").post(page_of(conflict), data | hidden(text)).status_code == 302


def test_an_edit_made_meanwhile_makes_the_view_stale(world: World, conflict: Conflict) -> None:
    seen = look(world, conflict)
    edit(world.records[0], city="Tartu")
    answer = world.client("olga").post(page_of(conflict), seen | {"action": "use_remote"})
    assert answer.status_code == 409 and "Tartu" in answer.content.decode()


def test_a_second_click_and_a_second_person_do_no_harm(world: World, conflict: Conflict) -> None:
    data = look(world, conflict) | {"action": "use_remote"}
    assert world.client("olga").post(page_of(conflict), data).status_code == 302
    assert world.client("olga").post(page_of(conflict), data).status_code == 302, "one's own second click is no error"
    for who, action in (("olga", "push_local"), ("ops", "push_local")):
        answer = world.client(who).post(page_of(conflict), data | {"action": action})
        assert answer.status_code == 409 and "already resolved, by olga" in answer.content.decode()
    assert job_of(world.records[0]).status == Status.SYNCED


def test_only_owner_and_operations_decide(world: World, conflict: Conflict) -> None:
    data = look(world, conflict) | {"action": "use_remote"}
    assert world.client("otto").get(page_of(conflict)).status_code == 404
    assert world.client("otto").post(page_of(conflict), data).status_code == 404
    shown = world.client("vera").get(page_of(conflict)).content.decode()
    assert "Only the owner and operations can decide" in shown and 'type="radio"' not in shown
    assert world.client("vera").post(page_of(conflict), data).status_code == 403
    assert world.client("nobody").get(page_of(conflict)).status_code == 403
    assert world.client("ops").post(page_of(conflict), data).status_code == 302


def test_an_object_gone_at_the_remote_can_be_accepted_or_made_again(world: World) -> None:
    record = world.records[1]
    edit(record, city="Bergen")
    world.master.delete("accounts", "ACC-0002")
    drain()
    gone = Conflict.objects.get(record=record)
    answer = world.client("olga").get(page_of(gone))
    text = answer.content.decode()
    assert "Accept the deletion" in text and "Create it again" in text and "Save the merge" not in text
    assert [row.label for row in answer.context["rows"]] == ["City"], "only what was changed here comes first"
    world.client("olga").post(page_of(gone), hidden(text) | {"action": "use_remote"})
    record.refresh_from_db()
    assert record.deleted_at is not None


def test_a_deletion_against_a_changed_object_asks(world: World) -> None:
    record = world.records[1]
    delete(record)
    world.master.edit("accounts", "ACC-0002", {"city": "Rome"})
    drain()
    row = Conflict.objects.get(record=record)
    text = world.client("olga").get(page_of(row)).content.decode()
    assert "Keep the object" in text and "Delete it anyway" in text
    world.client("olga").post(page_of(row), hidden(text) | {"action": "push_local"})
    drain()
    assert world.master.get("accounts", "ACC-0002") is None


def test_the_list_shows_open_ones_and_says_when_there_are_none(world: World, conflict: Conflict) -> None:
    url = "/admin/sync/conflict/"
    assert len(world.client("olga").get(url).context["cl"].result_list) == 1
    assert len(world.client("otto").get(url).context["cl"].result_list) == 0
    world.client("olga").post(page_of(conflict), look(world, conflict) | {"action": "use_remote"})
    answer = world.client("olga").get(url)
    assert "Nothing waits for a decision" in answer.content.decode()
    assert len(world.client("olga").get(url + "?state=resolved").context["cl"].result_list) == 1


def test_each_way_says_what_it_gives_up_and_who_changed_what(world: World, conflict: Conflict) -> None:
    answer = world.client("olga").get(page_of(conflict))
    text = answer.content.decode()
    assert "Given up here: City, Credit and Notes." in text
    assert "Overwritten at the remote: City, Credit and Tier." in text
    assert {row.edit.actor_label for row in answer.context["rows"] if row.edit} == {"pat"}
    assert answer.context["changed_at"] is not None, "the remote says when"


def test_without_scripts_a_preview_shows_the_result_and_writes_nothing(world: World, conflict: Conflict) -> None:
    choices = {"choice:/city": "value", "value:/city": "Porto", "choice:/credit": "remote"}
    answer = world.client("olga").post(page_of(conflict), look(world, conflict) | {"action": "preview", **choices})
    assert answer.status_code == 200 and "nothing is written yet" in answer.content.decode()
    results = {row.view.pointer: row.result.text for row in answer.context["rows"]}
    assert results == {"/city": "Porto", "/credit": "500", "/notes": "Call.", "/tier": "gold"}
    assert Conflict.objects.get(pk=conflict.pk).state == "open"
    wrong = look(world, conflict) | {"action": "preview", **choices, "choice:/credit": "value", "value:/credit": "-5"}
    refused = world.client("olga").post(page_of(conflict), wrong)
    assert refused.status_code == 422 and any(row.errors for row in refused.context["rows"])


def test_the_outcome_of_the_push_is_told_by_the_page_itself(world: World, conflict: Conflict) -> None:
    client = world.client("olga")
    answer = client.post(page_of(conflict), look(world, conflict) | {"action": "push_local"}, follow=True)
    found = re.search(r'hx-get="([^"]+)"', answer.content.decode())
    assert found and answer.context["poll_s"] == 1
    assert client.get(unescape(found[1])).status_code == 204, "nothing moved yet"
    drain()
    told = client.get(unescape(found[1]))
    assert "Both sides agree." in told.content.decode() and "hx-get" not in told.content.decode()


def test_an_open_page_is_told_that_it_is_stale_and_is_left_alone(world: World, conflict: Conflict) -> None:
    client = world.client("olga")
    found = re.search(r'hx-get="([^"]+)"', client.get(page_of(conflict)).content.decode())
    assert found
    edit(world.records[0], city="Tartu")
    told = client.get(unescape(found[1])).content.decode()
    assert "One side changed since you opened this page." in told and "Tartu" not in told
    assert world.client("otto").get(unescape(found[1])).status_code == 404


def test_the_remote_is_read_again_and_choices_are_kept(world: World, conflict: Conflict) -> None:
    world.master.edit("accounts", "ACC-0001", {"city": "Rome"})
    data = look(world, conflict) | {"choice:/city": "value", "value:/city": "Porto"}
    answer = world.client("olga").post(act(conflict, "reread"), data)
    [city] = [row for row in answer.context["rows"] if row.view.pointer == "/city"]
    assert (city.remote.text, city.choice, city.posted) == ("Rome", "value", "Porto")


def act(conflict: Conflict, verb: str) -> str:
    return reverse("admin:sync_conflict_do", args=[conflict.pk, verb])


def test_the_owner_hands_over_and_operations_assign(world: World, conflict: Conflict) -> None:
    assert world.client("olga").post(act(conflict, "assign"), {"owner": world.people["otto"].pk}).status_code == 403
    for _ in range(2):
        assert world.client("olga").post(act(conflict, "hand-over")).status_code == 302
    conflict.refresh_from_db()
    assert conflict.escalated_at is not None
    assert world.records[0].events.filter(kind="conflict.escalated").count() == 1
    world.client("ops").post(act(conflict, "assign"), {"owner": world.people["otto"].pk})
    assert world.client("otto").get(page_of(conflict)).status_code == 200
    assert world.client("olga").get(page_of(conflict)).status_code == 404
    assert world.client("vera").post(act(conflict, "hand-over")).status_code == 403


def test_rejected_values_are_kept_and_used_again_as_a_new_edit(world: World, conflict: Conflict) -> None:
    client = world.client("olga")
    answer = client.post(page_of(conflict), look(world, conflict) | {"action": "use_remote"}, follow=True)
    losers = {one.key: one.value.text for one in answer.context["losers"]}
    assert losers == {"local:/city": "Bergen", "local:/credit": "300", "local:/notes": "Call."}
    data = {"revision": answer.context["revision"], "again": ["local:/city", "local:/notes"]}
    for _ in range(2):
        client.post(act(conflict, "use-again"), data)
    drain()
    kept = world.master.get("accounts", "ACC-0001")
    assert kept is not None and (kept["city"], kept["credit"], kept["notes"]) == ("Bergen", 500, "Call.")
    conflict.refresh_from_db()
    assert (conflict.state, conflict.resolution, conflict.local["credit"]) == ("resolved", "use_remote", 300)


def test_a_merge_keeps_both_losers_of_a_typed_value_and_takes_one_a_field(world: World, conflict: Conflict) -> None:
    choices = {"choice:/city": "local", "choice:/credit": "value", "value:/credit": "420"}
    client = world.client("olga")
    answer = client.post(page_of(conflict), look(world, conflict) | {"action": "merge", **choices}, follow=True)
    assert {one.key for one in answer.context["losers"]} == {"remote:/city", "local:/credit", "remote:/credit"}
    data = {"revision": answer.context["revision"], "again": ["local:/credit", "remote:/credit"]}
    refused = client.post(act(conflict, "use-again"), data, follow=True)
    assert "one value a field; nothing was changed" in refused.content.decode()
    stale = client.post(act(conflict, "use-again"), data | {"revision": 1, "again": "local:/credit"}, follow=True)
    assert "so nothing was saved" in stale.content.decode()


def test_an_accepted_deletion_can_be_made_again_once(world: World) -> None:
    record = world.records[1]
    edit(record, city="Bergen")
    world.master.delete("accounts", "ACC-0002")
    drain()
    gone = Conflict.objects.get(record=record)
    client = world.client("olga")
    answer = client.post(page_of(gone), look(world, gone) | {"action": "use_remote"}, follow=True)
    data = {"revision": answer.context["revision"], "remake": "1"}
    for _ in range(2):
        client.post(act(gone, "use-again"), data)
    drain()
    record.refresh_from_db()
    assert record.deleted_at is None and job_of(record).status == Status.SYNCED
    again = world.master.get("accounts", str(record.external_id))
    assert again is not None and again["city"] == "Bergen"
    assert [write.method for write in world.master.writes(actor="client")].count("POST") == 1


def test_an_undo_conflict_is_told_in_its_own_words(world: World, conflict: Conflict) -> None:
    Conflict.objects.filter(pk=conflict.pk).update(reason="undo_conflict")
    text = world.client("olga").get(page_of(conflict)).content.decode()
    for words in ("A grouped update was being undone", "Written by the group", "Before the group",
                  "Leave it as the remote has it", "Put the old values back"):  # fmt: skip
        assert words in text
