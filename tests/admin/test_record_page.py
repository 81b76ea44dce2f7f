"""One record's page: form, stale form, buttons, state, deletion, creation."""

import re
from html import unescape

from django.http import HttpResponse
from django.urls import reverse

from syncportal.sync import local, operate
from syncportal.sync.events import Actor
from syncportal.sync.models import Event, Record, SyncJob, SyncLog
from syncportal.sync.states import Status
from tests.admin.conftest import World
from tests.factories import Clock, drain, edit, job_of

ACTOR = Actor("user", label="somebody")


def page_of(record: Record) -> str:
    return reverse("admin:sync_record_change", args=[record.pk])


def filled(answer: HttpResponse, **changes: str | None) -> dict[str, str]:
    """Return what a browser would send for the page's form, with other values; None leaves a box unticked."""
    text = answer.content.decode()
    form = text[text.index('name="seen"') - 400 : text.index("</form>", text.index('name="seen"'))]
    data = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name = re.search(r'name="([^"]*)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        if name and ("checkbox" not in tag or " checked" in tag):
            data[unescape(name[1])] = unescape(value[1]) if value else "on" if "checkbox" in tag else ""
    for name, body in re.findall(r'<textarea name="([^"]*)"[^>]*>(.*?)</textarea>', form, re.S):
        data[unescape(name)] = unescape(body).removeprefix("\n")
    for name, body in re.findall(r'<select name="([^"]*)"[^>]*>(.*?)</select>', form, re.S):
        chosen = re.search(r'<option value="([^"]*)"[^>]* selected', body)
        data[unescape(name)] = unescape(chosen[1]) if chosen else ""
    for name, value in changes.items():
        if value is None:
            data.pop(f"/{name}", None)
        else:
            data[f"/{name}"] = value
    return data


def test_a_saved_edit_reaches_the_master_and_the_page_says_so(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    answer = client.post(page_of(record), filled(client.get(page_of(record)), city="Bergen", active=None), follow=True)
    assert "Saved. Syncing…" in answer.content.decode()
    drain()
    kept = world.master.get("accounts", "ACC-0001")
    assert kept is not None and (kept["city"], kept["active"]) == ("Bergen", False)
    assert "Both sides agree." in client.get(page_of(record)).content.decode()


def test_an_untouched_form_changes_nothing(world: World) -> None:
    for record in world.records:
        client = world.client("ops")
        answer = client.post(page_of(record), filled(client.get(page_of(record))), follow=True)
        assert "Nothing to save" in answer.content.decode()
    assert not Record.objects.filter(revision__gt=1).exists()


def test_a_stale_form_merges_what_others_changed_elsewhere(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    form = filled(client.get(page_of(record)), city="Bergen")
    edit(record, name="Renamed meanwhile")
    answer = client.post(page_of(record), form, follow=True)
    assert "Saved together with what others changed meanwhile" in answer.content.decode()
    record.refresh_from_db()
    assert (record.data["city"], record.data["name"], record.revision) == ("Bergen", "Renamed meanwhile", 3)


def test_ones_own_edit_that_was_sent_meanwhile_is_no_change_by_others(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    answer = client.post(page_of(record), filled(client.get(page_of(record)), city="Bergen"), follow=True)
    drain()
    record.refresh_from_db()
    assert record.revision > answer.context["record"].revision  # the answer brought what only the remote sets
    assert "The values changed since" not in client.get(answer.context["state_url"]).content.decode()
    answer = client.post(page_of(record), filled(answer, city="Oslo"), follow=True)
    assert "Saved. Syncing…" in answer.content.decode()
    edit(record, city="Moved by somebody else")
    assert "The values changed since" in client.get(answer.context["state_url"]).content.decode()


def test_a_real_clash_is_refused_with_the_input_kept(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    form = filled(client.get(page_of(record)), city="Bergen", name="Mine")
    edit(record, city="Oslo")
    answer = client.post(page_of(record), form)
    text = answer.content.decode()
    record.refresh_from_db()
    assert answer.status_code == 409 and "Nothing was saved" in text
    assert (record.data["city"], record.data["name"] == "Mine") == ("Oslo", False)
    again = filled(answer)
    assert (again["/city"], again["/name"]) == ("Bergen", "Mine")
    client.post(page_of(record), again)
    record.refresh_from_db()
    assert (record.data["city"], record.data["name"]) == ("Bergen", "Mine")


def test_a_clash_leaves_fields_alone_that_only_the_other_changed(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    form = filled(client.get(page_of(record)), city="Bergen")
    edit(record, city="Oslo", notes="Theirs")
    client.post(page_of(record), filled(client.post(page_of(record), form)))
    record.refresh_from_db()
    assert (record.data["city"], record.data["notes"]) == ("Bergen", "Theirs")


def test_wrong_values_are_named_at_their_field_and_kept(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    answer = client.post(page_of(record), filled(client.get(page_of(record)), credit="-5", name="", city="Kept"))
    assert answer.status_code == 422
    form = answer.context["form"]
    assert set(form.errors) == {"/credit", "/name"}
    assert filled(answer)["/city"] == "Kept"
    record.refresh_from_db()
    assert record.revision == 1


def test_a_form_that_was_tampered_with_is_refused(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    for seen in ("", "[]", "{", '{"a":NaN}', "[" * 200):
        data = filled(client.get(page_of(record)), city="X") | {"seen": seen}
        answer = client.post(page_of(record), data, follow=True)
        assert "nothing was saved" in answer.content.decode().lower()
    record.refresh_from_db()
    assert record.revision == 1


def test_the_state_fragment_is_silent_until_something_moves(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    edit(record, city="Bergen")
    text = client.get(page_of(record)).content.decode()
    url = unescape(re.search(r'hx-get="([^"]*state[^"]*)"', text)[1])  # type: ignore[index]
    assert client.get(url).status_code == 204
    drain()
    moved = client.get(url)
    body = moved.content.decode()
    assert moved.status_code == 200 and "Both sides agree." in body
    assert "every" not in body  # at rest: the page asks no more
    assert 'id="history" hx-swap-oob="true"' in body


def test_a_failed_attempt_says_which_it_was_and_when_the_next_comes(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    world.master.faults.add("status", object_id="ACC-0001", status=503)
    edit(record, city="Bergen")
    clock = Clock()
    drain(clock)
    text = client.get(page_of(record)).content.decode()
    assert "1 of 4" in text and "Next try" in text and "Retry pending" in text
    for _ in range(3):
        clock.to(job_of(record).due_at)
        drain(clock)
    text = client.get(page_of(record)).content.decode()
    assert "Dead letter" in text and "Requeue it when the cause is gone" in text and "4 of 4" in text


def test_the_timeline_pages_through_everything_once(world: World) -> None:
    record, client = world.records[0], world.client("ops")
    for number in range(30):
        edit(record, city=f"City {number}")
        drain()
    wanted = Event.objects.filter(record=record).count() + SyncLog.objects.filter(record=record).count()
    seen, url = 0, reverse("admin:sync_record_timeline", args=[record.pk])
    before = ""
    while True:
        page = client.get(url, {"before": before}).context["timeline"]
        seen += len(page.entries)
        before = page.older
        if not before:
            break
    assert seen == wanted > 80


def test_buttons_that_cannot_be_used_say_why(world: World) -> None:
    record = world.records[0]
    text = world.client("olga").get(page_of(record)).content.decode()
    assert 'id="act-requeue" disabled title="Both sides agree; there is nothing to send."' in text
    assert "act-assign" not in text


def test_refresh_takes_what_the_remote_holds_now(world: World) -> None:
    record = world.records[0]
    world.master.edit("accounts", "ACC-0001", {"city": "Rome"})
    url = reverse("admin:sync_record_do", args=[record.pk, "refresh"])
    answer = world.client("olga").post(url, follow=True)
    assert "Refreshed." in answer.content.decode()
    record.refresh_from_db()
    assert record.data["city"] == "Rome"


def test_requeue_and_assign_by_button(world: World) -> None:
    record, ops = world.records[0], world.client("ops")
    world.master.faults.add("status", object_id="ACC-0001", status=422)
    edit(record, city="Bergen")
    drain()
    assert job_of(record).status == Status.ERROR
    ops.post(reverse("admin:sync_record_do", args=[record.pk, "requeue"]))
    assert job_of(record).status == Status.PENDING
    ops.post(reverse("admin:sync_record_do", args=[record.pk, "assign"]), {"owner": world.people["otto"].pk})
    record.refresh_from_db()
    assert record.owner == world.people["otto"]


def test_an_ambiguous_create_can_be_linked_or_sent_again(world: World) -> None:
    saved = local.create(
        world.resource, {"name": "N", "email": "n@example.org", "tier": "gold", "active": True},
        actor=ACTOR, owner_id=world.people["olga"].pk,
    )  # fmt: skip
    job = SyncJob.objects.filter(pk=saved.record_id)
    job.update(status=Status.ERROR, reason="create_unknown", due_at=None, in_doubt=False)
    record, client = Record.objects.get(pk=saved.record_id), world.client("olga")
    text = client.get(page_of(record)).content.decode()
    assert "Send again" in text and "link it to the id" in text
    link = reverse("admin:sync_record_do", args=[record.pk, "link"])
    assert "already stands for this id" in client.post(link, {"external_id": "ACC-0003"}, follow=True).content.decode()
    client.post(link, {"external_id": "ACC-0009"})
    record.refresh_from_db()
    assert record.external_id == "ACC-0009" and job.get().status == Status.PENDING


def test_deleting_shows_what_will_happen_and_needs_the_shown_revision(world: World) -> None:
    record, client = world.records[0], world.client("olga")
    url = reverse("admin:sync_record_delete", args=[record.pk])
    assert "deleted at the remote" in client.get(url).content.decode()
    edit(record, city="Moved")
    assert client.post(url, {"revision": "1"}).status_code == 409
    record.refresh_from_db()
    assert record.intent == "update"
    client.post(url, {"revision": "2"})
    drain()
    assert world.master.get("accounts", "ACC-0001") is None
    assert "Deleted on both sides." in client.get(page_of(record)).content.decode()


def test_a_new_record_is_made_once_however_often_the_form_is_sent(world: World) -> None:
    client = world.client("olga")
    url = reverse("admin:sync_record_add") + f"?resource={world.resource.slug}"
    once = re.search(r'name="once" value="([^"]*)"', client.get(url).content.decode())[1]  # type: ignore[index]
    data = {"/name": "New", "/email": "new@example.org", "/tier": '"gold"', "/active": "on", "once": once}
    assert client.post(url, {**data, "/email": ""}).status_code == 422
    for _ in range(2):
        answer = client.post(url, data, follow=True)
        assert answer.status_code == 200
    made = Record.objects.get(data__email="new@example.org")
    assert made.owner == world.people["olga"]
    drain()
    made.refresh_from_db()
    assert made.external_id and job_of(made).status == Status.SYNCED


def test_the_list_a_person_came_from_is_remembered(world: World) -> None:
    record, client = world.records[0], world.client("ops")
    back = "status=SYNCED&p=2"
    text = client.get(page_of(record), {"back": back}).content.decode()
    assert "?status=SYNCED&amp;p=2" in text
    operate.requeue([], actor=ACTOR)
    url = reverse("admin:sync_record_do", args=[record.pk, "refresh"])
    assert client.post(url, {"back": back})["Location"].endswith("back=status%3DSYNCED%26p%3D2")


def test_the_history_and_the_preview_of_a_deletion_call_fields_as_the_form_does(world: World) -> None:
    record, client = world.records[0], world.client("ops")
    edit(record, credit=77.5)
    history = client.get(reverse("admin:sync_record_timeline", args=[record.pk])).content.decode()
    assert "<strong>Credit</strong>" in history and "<strong>credit</strong>" not in history
    deleting = client.get(reverse("admin:sync_record_delete", args=[record.pk])).content.decode()
    assert "<dt>Credit</dt>" in deleting and "<dt>credit</dt>" not in deleting
