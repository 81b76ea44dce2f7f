"""Sending a group's changes again as a new group: over whatever the objects hold by now, or with a clear refusal."""

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from rollback.models import Group
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.remote import configuration, limits
from syncportal.sync.models import Event, Record
from tests.factories import edit
from tests.rollback.scene import ADDRESS, Scene

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    made = Scene(master)
    made.people["operator"].is_staff = True
    made.people["operator"].save()
    return made


def refused(scene: Scene) -> Group:
    """Send a group that is rejected because its second object does not stand at the version it names."""
    scene.records("ACC-0001", "ACC-0002")
    body = scene.body("ACC-0001", "ACC-0002", request_id="first")
    body["groups"][0]["updates"][1]["expectedVersion"] = "99"
    answer = scene.caller("owner").post(ADDRESS, body)
    assert answer.json()["groups"][0]["error"]["code"] == "version_mismatch"
    return Group.objects.get()


def send(scene: Scene, group: Group, **fields: Any) -> str:
    """Press the button as an operator, and return the text of the page that follows."""
    client = Client()
    client.force_login(scene.people["operator"])
    form = {"request_id": str(uuid.uuid4()), "why": "mended"} | fields
    answer = client.post(reverse("admin:rollback_group_again", args=[group.pk]), form, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_changes_what_the_objects_hold_now_and_keeps_what_others_changed(scene: Scene) -> None:
    group = refused(scene)
    scene.master.edit("accounts", "ACC-0001", notes="by somebody else", city="Elsewhere")
    assert "Sent again. Every change was applied." in send(scene, group)
    there = scene.master.get("accounts", "ACC-0001")
    assert (there["city"], there["notes"], scene.city("ACC-0002")) == ("Porto", "by somebody else", "Porto")
    record = Record.objects.get(external_id="ACC-0001")
    assert (record.data["notes"], record.version) == ("by somebody else", str(there["version"]))
    told = Event.objects.get(kind="group.sent_again")
    assert (told.actor, told.data["why"], told.data["request"]) == (scene.people["operator"], "mended", "first")
    new = Group.objects.latest("pk")
    assert (new.request.user, told.data["new_request"]) == (scene.people["operator"], new.request.request_id)
    group.refresh_from_db()
    assert group.status == "rejected", "the first one stays what it was"


def test_an_object_that_is_gone_meanwhile_rejects_the_new_group(scene: Scene) -> None:
    group = refused(scene)
    scene.master.faults.add("status", status=404, object_id="ACC-0002")
    text = send(scene, group)
    assert "Sent again. It was refused before anything was written." in text
    assert (Group.objects.count(), scene.master.writes()) == (2, [])


def test_what_stands_in_the_way_is_said_and_nothing_is_sent(scene: Scene) -> None:
    group = refused(scene)
    edit(Record.objects.get(external_id="ACC-0001"), city="Oslo")
    assert "Nothing was sent. ACC-0001: It has changes of its own under way (pending)." in send(scene, group)
    assert "Nothing was sent: open the page again." in send(scene, group, request_id="no uuid")
    limits.pause(scene.resource.remote_id, reason="by_hand", detail="", now=db_now())
    assert "is unavailable (paused)" in send(scene, group)
    limits.resume(scene.resource.remote_id, now=db_now())
    config = scene.resource.config | {"read_only": [*scene.resource.config["read_only"], "/city"]}
    configuration.save_resource(
        remote=scene.resource.remote, slug=scene.resource.slug, name=scene.resource.name, config=config
    )
    assert "Nothing was sent. Only the remote sets this field." in send(scene, group)
    assert (Group.objects.count(), scene.master.writes()) == (1, [])
    assert not Event.objects.filter(kind="group.sent_again").exists()
