"""The pages of grouped updates and compensating tasks: who sees what, and acts that cannot be done by accident."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from rollback import operate, workers
from rollback.models import CompensatingTask, Group
from rollback.states import TaskReason, TaskStatus
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.ops.alerts import evaluate
from syncportal.ops.alerts.models import Delivery
from syncportal.sync.models import Event, Record
from tests.rollback.scene import ADDRESS, Scene
from tests.rollback.test_operate import actor, conflicting, failed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    made = Scene(master, {"policy": {"compensation": {"attempts": 1, "base_s": 0.01, "cap_s": 1}}})
    for user in made.people.values():
        user.is_staff = True
        user.save()
    return made


def browser(scene: Scene, name: str, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(scene.people[name])
    return client


def page(client: Client, name: str, *args: Any, **query: str) -> str:
    answer = client.get(reverse(f"admin:rollback_{name}", args=args), query)
    assert answer.status_code == 200
    assert "unsafe" not in answer["Content-Security-Policy"]
    return answer.content.decode()


def test_empty_lists_say_what_to_do_next(scene: Scene) -> None:
    client = browser(scene, "operator")
    assert "No grouped update was sent yet" in page(client, "group_changelist")
    assert "Nothing had to be undone" in page(client, "compensatingtask_changelist")
    assert "Nothing matches" in page(client, "compensatingtask_changelist", status="open")


def test_the_group_page_shows_before_applied_and_current(scene: Scene) -> None:
    task = failed(scene)
    client = browser(scene, "operator")
    text = page(client, "group_change", Group.objects.get().pk)
    before = task.snapshot["city"]
    assert before in text
    assert "Porto" in text
    assert "Needs attention" in text
    assert "Last read" in text
    answer = client.post(reverse("admin:rollback_group_look", args=[Group.objects.get().pk]))
    assert "Remote now" in answer.content.decode()
    listed = page(client, "group_changelist", status="needs_attention")
    assert "Needs attention (1)" in listed
    assert "g1" in listed
    assert "1 compensating task waits for a person" in page(client, "compensatingtask_changelist")
    assert "1 compensating task waits for a person" in client.get(reverse("admin:index")).content.decode()


def last_seen(text: str) -> str:
    """Return what the first table shows in its last column."""
    return text.split('data-label="Last read"', 1)[1].split("</td>", 1)[0]


def test_what_was_last_seen_is_not_the_value_from_before_while_the_undo_waits(scene: Scene) -> None:
    task = failed(scene)
    client = browser(scene, "operator")
    assert "Not undone; waits for a person" in page(client, "group_change", task.step.group_id)
    assert "not known" in last_seen(page(client, "group_change", task.step.group_id))  # the undo may have arrived
    CompensatingTask.objects.update(outstanding=[])
    for text in (page(client, "group_change", task.step.group_id), page(client, "compensatingtask_change", task.pk)):
        assert ("Porto" in last_seen(text), "= applied" in last_seen(text).replace("\n", " ")) == (True, True)


def test_an_undo_conflict_shows_what_the_undo_found_and_who_must_act(scene: Scene) -> None:
    task = conflicting(scene)
    client = browser(scene, "operator")
    conflict = reverse("admin:sync_conflict_change", args=[task.record.conflicts.get().pk])
    for text in (page(client, "group_change", task.step.group_id), page(client, "compensatingtask_change", task.pk)):
        assert "Elsewhere" in last_seen(text)
        assert "The record&#x27;s owner, or operations" in text
        assert conflict in text
    deciding = client.get(conflict).content.decode()
    held = reverse("admin:rollback_compensatingtask_change", args=[task.pk])
    assert f'<a href="{held}">a compensating task</a>; the decision ends that, too' in deciding
    assert ("Read it again" in deciding, "not read again while the record is held" in deciding) == (False, True)
    assert held not in browser(scene, "owner").get(conflict).content.decode()
    record = reverse("admin:sync_record_change", args=[task.record_id])
    assert held in client.get(record).content.decode()
    assert held not in browser(scene, "owner").get(record).content.decode()
    operate.close(task.pk, why="theirs is right", actor=actor(scene))
    text = page(client, "group_change", task.step.group_id)
    assert "Not undone; a person ended it" in text
    assert ("Elsewhere" in last_seen(text), conflict in text) == (True, False)


def test_the_dashboards_tile_says_that_an_undo_waits_for_a_person(scene: Scene) -> None:
    conflicting(scene)
    text = browser(scene, "operator").get(reverse("admin:index")).content.decode()
    assert "1 waits for a person" in text and "nothing to undo" not in text


def test_the_pages_look_again_by_themselves_until_a_person_must_act(scene: Scene) -> None:
    task = failed(scene)
    client = browser(scene, "operator")
    group = reverse("admin:rollback_group_change", args=[task.step.group_id])
    assert "hx-trigger" not in client.get(group).content.decode()
    operate.retry_now(task.pk, actor=actor(scene), why="")
    watched = client.get(group)
    assert f'hx-get="{group}?seen=compensating" hx-trigger="every 2s, live"' in watched.content.decode()
    assert 'hx-trigger="every 2s, live"' in page(client, "compensatingtask_change", task.pk)
    again = client.get(group, {"seen": "compensating"}, HTTP_HX_REQUEST="true")
    assert "HX-Refresh" not in again
    scene.master.faults.clear()
    workers.work(seconds=20)
    assert client.get(group, {"seen": "compensating"}, HTTP_HX_REQUEST="true")["HX-Refresh"] == "true"
    assert "HX-Refresh" not in client.get(group, {"seen": "compensating"})


def test_the_records_timeline_tells_the_story(scene: Scene) -> None:
    failed(scene)
    record = Record.objects.get(external_id="ACC-0001")
    text = browser(scene, "owner").get(reverse("admin:sync_record_change", args=[record.pk])).content.decode()
    assert "Grouped update failed; what it sent is being undone" in text
    assert "Undo failed; a person must decide" in text
    assert "Group g1 of request" in text
    assert "Held by a compensating task; edits are kept" in text


def test_owners_see_their_own_and_act_on_none(scene: Scene) -> None:
    task = failed(scene)
    owner, other = browser(scene, "owner"), browser(scene, "other")
    text = page(owner, "compensatingtask_change", task.pk)
    assert "Only operations can" in text
    for verb in ("retry", "force", "close"):
        address = reverse("admin:rollback_compensatingtask_do", args=[task.pk, verb])
        assert owner.post(address, {"why": "w"}).status_code == 403
        assert other.post(address, {"why": "w"}).status_code == 404
        assert browser(scene, "operator").get(address).status_code == 405
        assert browser(scene, "operator", enforce_csrf_checks=True).post(address, {"why": "w"}).status_code == 403
    assert other.get(reverse("admin:rollback_group_change", args=[task.step.group_id])).status_code == 404
    assert "ACC-0001" not in page(other, "compensatingtask_changelist")
    assert "Undo of ACC-0001" in page(browser(scene, "viewer"), "compensatingtask_change", task.pk)
    task.refresh_from_db()
    assert task.reason == TaskReason.MAX_ATTEMPTS


def test_retry_and_close_from_the_page(scene: Scene) -> None:
    task = failed(scene)
    client = browser(scene, "operator")
    client.post(reverse("admin:rollback_compensatingtask_do", args=[task.pk, "retry"]), {"why": "again"})
    task.refresh_from_db()
    assert task.status == TaskStatus.PENDING
    assert Event.objects.get(kind="compensation.retried").actor == scene.people["operator"]
    refused = client.post(reverse("admin:rollback_compensatingtask_do", args=[task.pk, "close"]), follow=True)
    assert "Say why" in refused.content.decode()
    client.post(reverse("admin:rollback_compensatingtask_do", args=[task.pk, "close"]), {"why": "fine so"})
    text = page(client, "compensatingtask_change", task.pk)
    assert "Closed by a person" in text
    assert "fine so" in text


def test_forcing_needs_a_look_and_a_reason(scene: Scene) -> None:
    task = conflicting(scene)
    client = browser(scene, "operator")
    assert "Force the restore" not in page(client, "compensatingtask_change", task.pk)
    look = client.post(reverse("admin:rollback_compensatingtask_look", args=[task.pk]))
    text = look.content.decode()
    assert "changed by somebody else" in text
    assert "Elsewhere" in text
    seal = text.split('name="seal" value="')[1].split('"')[0]
    scene.master.edit("accounts", "ACC-0001", city="Third")
    address = reverse("admin:rollback_compensatingtask_do", args=[task.pk, "force"])
    stale = client.post(address, {"seal": seal, "why": "my reason"})
    assert stale.status_code == 409
    text = stale.content.decode()
    assert "Third" in text
    assert 'value="my reason"' in text
    seal = text.split('name="seal" value="')[1].split('"')[0]
    assert client.post(address, {"seal": seal, "why": "my reason"}).status_code == 302
    task.refresh_from_db()
    assert (task.status, task.force) == (TaskStatus.PENDING, True)


def test_sending_again_twice_sends_once(scene: Scene) -> None:
    scene.records("ACC-0001", "ACC-0002")
    scene.break_write("ACC-0002", times=1)
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001", "ACC-0002"))
    group = Group.objects.get()
    client = browser(scene, "operator")
    token = page(client, "group_change", group.pk).split('name="request_id" value="')[1].split('"')[0]
    address = reverse("admin:rollback_group_again", args=[group.pk])
    for _ in range(2):
        text = client.post(address, {"request_id": token, "why": "w"}, follow=True).content.decode()
        assert "Every change was applied." in text
    assert Group.objects.count() == 2
    assert "disabled" in text.split("Send again")[-2]


def test_operations_are_told_once_of_a_failed_undo(scene: Scene, settings: Any) -> None:
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    task = failed(scene)
    evaluate.evaluate(db_now())
    evaluate.evaluate(db_now())
    letter = Delivery.objects.get(alert__kind="failed_undos")
    assert letter.subject.startswith("Critical: Failed undos")
    assert task.request_id in letter.body
    assert reverse("admin:rollback_group_change", args=[task.step.group_id]) in letter.body


def test_a_task_that_was_tried_in_vain_does_not_say_that_its_first_run_is_to_come(scene: Scene) -> None:
    task = failed(scene)
    client = browser(scene, "operator")
    Event.objects.filter(data__task=str(task.task_id)).delete()
    assert "1 run did not end it yet." in page(client, "compensatingtask_change", task.pk)
    CompensatingTask.objects.update(attempts=0)
    assert "the first run comes by itself" in page(client, "compensatingtask_change", task.pk)


def test_remote_text_is_escaped(scene: Scene) -> None:
    scene.records("ACC-0001")
    body = scene.body("ACC-0001", city="<script>alert(1)</script>")
    assert scene.caller("owner").post(ADDRESS, body).status_code == 200
    text = page(browser(scene, "operator"), "group_change", Group.objects.get().pk)
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not CompensatingTask.objects.exists()
