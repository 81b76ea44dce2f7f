"""Streams over HTTP: by key and by session, so many a person, ended with the right; pages without a stream ask."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import AsyncClient, Client
from django.utils import timezone

from syncportal.access import keys
from syncportal.access.models import ApiKey
from syncportal.sync.live import stream, viewers
from syncportal.sync.live.hub import Viewer
from syncportal.sync.models import Event
from tests.api.world import World, happened
from tests.sync.listening import alone, saved, settled

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]
STREAM = "/api/v1/events/stream/"


def test_over_http_with_a_key(world: World) -> None:
    header = world.caller("owner")._credentials["HTTP_AUTHORIZATION"]
    first = happened(world.record).pk
    happened(world.record, "sync.failed")

    async def read(query: str, **headers: str) -> tuple[Any, str]:
        given = {"authorization": header, "accept": "text/event-stream", **headers}
        answer = await AsyncClient().get(f"{STREAM}{query}", headers=given)
        text = ""
        if answer.status_code == 200:
            async for part in answer:
                text += part.decode()
                if "event: ready" in text:
                    break
        return answer, text

    answer, text = alone(read("?kind=sync.failed&last=0"))
    assert answer["Content-Type"] == "text/event-stream" and answer["X-Accel-Buffering"] == "no"
    assert "no-store" in answer["Cache-Control"] and text.startswith("retry: 2000\n\n")
    assert text.count("sync.failed") == 1 and "sync.succeeded" not in text
    answer, text = alone(read("?last=0", **{"Last-Event-ID": str(first)}))
    assert "sync.failed" in text and "sync.succeeded" not in text
    assert alone(read("?colour=red"))[0].status_code == 400
    assert alone(read("", authorization="Bearer none"))[0].status_code == 401


def test_a_person_has_so_many_streams_and_a_server_without_streams_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = world.caller("owner")._credentials["HTTP_AUTHORIZATION"]
    monkeypatch.setattr(stream, "PER_PERSON", 0)

    async def read() -> Any:
        return await AsyncClient().get(STREAM, headers={"authorization": header})

    answer = alone(read())
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
    assert world.caller("owner").get(STREAM).status_code == 204  # the test's client is a WSGI server


def test_a_key_that_is_revoked_and_a_session_that_is_over_end_their_streams(world: World) -> None:
    now = timezone.now()
    world.caller("owner")
    row = ApiKey.objects.get(user=world.people["owner"])
    assert keys.still_holds(row.pk, now=now)
    assert not keys.still_holds(row.pk, now=now + timedelta(days=2))
    by_key = viewers.renewed_by_key(row.pk, row.user_id)
    assert by_key() == Viewer(row.user_id, False)
    keys.revoke(row.pk, now=now)
    assert by_key() is None

    client = Client()
    client.force_login(world.people["operator"])
    pk = world.people["operator"].pk
    anywhere = viewers.renewed_by_session(client.session, pk, staff=False)
    assert anywhere() == Viewer(pk, True)
    assert viewers.renewed_by_session(client.session, pk, staff=True)() is None
    client.logout()
    assert anywhere() is None


def test_pages_that_have_no_stream_ask(world: World) -> None:
    world.people["owner"].is_staff = True
    world.people["owner"].save()
    client = Client()
    client.force_login(world.people["owner"])
    begun = client.get("/admin/live/").json()
    assert begun == {
        "cursor": Event.objects.latest("pk").pk if Event.objects.exists() else 0,
        "moved": None,
        "yours": [],
    }
    saved(world, "owner", 2)
    settled(world, 2)
    happened(world.others)
    answer = client.get("/admin/live/", {"last": begun["cursor"]}).json()
    assert answer["moved"] == {"records": [world.record.pk], "kinds": ["record.edited", "sync.succeeded"]}
    assert [(one["text"], one["record"]) for one in answer["yours"]] == [("synced", world.record.pk)]
    assert client.get("/admin/live/", {"last": answer["cursor"]}).json()["moved"] is None
    assert client.get("/admin/live/", headers={"accept": "text/event-stream"}).status_code == 204
    assert Client().get("/admin/live/").status_code == 302
    assert Client().get("/admin/live/", headers={"accept": "text/event-stream"}).status_code == 204
