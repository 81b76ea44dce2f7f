"""Streams of events: each in its scope, once, resumable; one reader for all of them; outcomes reach whoever saved."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.test import AsyncClient, Client
from django.utils import timezone

from syncportal.access import keys
from syncportal.access.models import ApiKey
from syncportal.access.roles import make_roles
from syncportal.sync.live import hub, stream, tail, viewers
from syncportal.sync.live.hub import Viewer
from syncportal.sync.live.news import PageNews, moved, outcomes
from syncportal.sync.live.stream import USUAL, Pace
from syncportal.sync.live.tail import Tail, told
from syncportal.sync.models import Event
from tests.api.world import World, happened

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]
T = TypeVar("T")
STREAM = "/api/v1/events/stream/"


@pytest.fixture
def world(transactional_db: None) -> World:
    make_roles()
    return World()


def alone(play: Coroutine[Any, Any, T]) -> T:
    """Run in a thread of its own: the browser tests of this process have a loop in this one."""

    async def tidily() -> T:
        try:
            return await play
        finally:
            await sync_to_async(connections.close_all)()  # the thread in which the views of this loop run

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, tidily()).result()


@dataclass
class Heard:
    """What a stream said, message by message."""

    messages: list[dict[str, str]] = field(default_factory=list)

    def take(self, text: str) -> None:
        for block in filter(None, text.split("\n\n")):
            self.messages.append(dict(line.split(": ", 1) for line in block.split("\n") if ": " in line))

    def ids(self) -> list[int]:
        found = [json.loads(one["data"]) for one in self.messages if "event" not in one and "data" in one]
        return [one["id"] for one in found]

    def cursor(self) -> int:
        return int([one["id"] for one in self.messages if "id" in one][-1])

    def named(self, name: str) -> list[Any]:
        return [json.loads(one.get("data", "null")) for one in self.messages if one.get("event") == name]


def whole(seen: Any, *, viewer: Viewer, cursors: Any) -> str:
    """Tell the id of each event."""
    pairs = zip(seen, cursors, strict=True)
    return "".join(stream.frame({"id": one.event.pk}, cursor=cursor) for one, cursor in pairs)


whole.skips = False  # type: ignore[attr-defined]


def listening(
    viewer: Viewer,
    meanwhile: Callable[[Heard], Awaitable[None]],
    *,
    last: int | None = None,
    tell: Any = whole,
    pace: Pace = USUAL,
    renew: Callable[[], Viewer | None] | None = None,
) -> Heard:
    """Follow a stream while something happens; it begins once the stream is ready."""
    heard, ready = Heard(), asyncio.Event()

    async def follow() -> None:
        async for text in stream.frames(viewer, last=last, tell=tell, pace=pace, renew=renew or (lambda: viewer)):
            heard.take(text)
            if heard.named("ready"):
                ready.set()

    async def play() -> None:
        hub.hub().look_every_s = 0.01
        following = asyncio.create_task(follow())
        await asyncio.wait_for(ready.wait(), 10)
        await meanwhile(heard)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await asyncio.sleep(0)

    alone(play())
    assert hub.open_streams(viewer.user_id) == 0
    return heard


async def until(heard: Heard, true: Callable[[Heard], bool]) -> None:
    for _ in range(500):
        if true(heard):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it did not come: {heard.messages}")


async def nothing(heard: Heard) -> None:
    await asyncio.sleep(0)


def viewer(world: World, name: str, *, everything: bool = False) -> Viewer:
    return Viewer(world.people[name].pk, everything)


def test_events_arrive_in_their_scope_only(world: World) -> None:
    made: dict[str, int] = {}

    async def meanwhile(heard: Heard) -> None:
        for name, record, who in (("mine", world.record, None), ("theirs", world.others, None),
                                  ("act", None, world.people["owner"]), ("machine", None, None)):  # fmt: skip
            made[name] = (await asyncio.to_thread(happened, record, actor=who)).pk
        made["last"] = (await asyncio.to_thread(happened, world.record)).pk
        await until(heard, lambda heard: made["last"] in heard.ids())

    assert listening(viewer(world, "owner"), meanwhile).ids() == [made["mine"], made["act"], made["last"]]
    everything = listening(viewer(world, "operator", everything=True), meanwhile)
    assert everything.ids() == sorted(made.values())


def test_a_stream_goes_on_where_it_was_left(world: World) -> None:
    ids = [happened(world.record).pk for _ in range(5)]
    happened(world.others)
    heard = listening(viewer(world, "owner"), nothing, last=ids[1])
    assert heard.ids() == ids[2:]
    assert heard.cursor() == Event.objects.latest("pk").pk
    assert listening(viewer(world, "owner"), nothing, last=heard.cursor()).ids() == []
    assert listening(viewer(world, "owner"), nothing).ids() == []
    missed = happened(world.record).pk
    assert listening(viewer(world, "owner"), nothing, last=heard.cursor()).ids() == [missed]


def test_a_long_past_is_told_wholly_to_programs_and_shortly_to_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "REPLAY", 3)
    ids = [happened(world.record).pk for _ in range(8)]
    assert listening(viewer(world, "owner"), nothing, last=0).ids() == ids
    pages = listening(viewer(world, "owner"), nothing, last=0, tell=PageNews())
    assert pages.named("moved") == [{"records": [world.record.pk], "kinds": ["sync.succeeded"]}]


def test_a_cursor_from_the_future_does_not_silence_a_stream(world: World) -> None:
    async def meanwhile(heard: Heard) -> None:
        await asyncio.to_thread(happened, world.record)
        await until(heard, lambda heard: len(heard.ids()) == 1)

    assert len(listening(viewer(world, "owner"), meanwhile, last=10**15).ids()) == 1


def test_it_beats_ends_by_itself_and_ends_when_the_right_is_gone(world: World) -> None:
    async def beats(heard: Heard) -> None:
        await until(heard, lambda heard: len(heard.named("beat")) >= 3)

    listening(viewer(world, "owner"), beats, pace=Pace(heartbeat_s=0.02))

    async def ends() -> int:
        frames = stream.frames(
            viewer(world, "owner"), last=None, tell=whole, renew=lambda: None, pace=Pace(15, 60, 0.05, 0.1)
        )
        return len([text async for text in frames])

    async def loses() -> int:
        frames = stream.frames(viewer(world, "owner"), last=None, tell=whole, renew=lambda: None, pace=Pace(15, 0.05))
        return len([text async for text in frames])

    assert alone(ends()) == alone(loses()) == 2  # how to come back, and that it is ready


def test_rights_that_change_hold_for_what_comes_next(world: World) -> None:
    grown = viewer(world, "owner", everything=True)

    async def meanwhile(heard: Heard) -> None:
        await asyncio.sleep(0.1)
        await asyncio.to_thread(happened, world.others)
        await until(heard, lambda heard: len(heard.ids()) == 1)

    listening(viewer(world, "owner"), meanwhile, pace=Pace(renew_s=0.02), renew=lambda: grown)


def test_one_reader_serves_all_streams_and_rests_without(world: World) -> None:
    asked: list[str] = []

    async def play() -> None:
        here = hub.hub()
        here.look_every_s = 0.01
        streams = [
            stream.frames(viewer(world, "owner"), last=None, tell=whole, renew=lambda: viewer(world, "owner"))
            for _ in range(30)
        ]
        for one in streams:
            await anext(one)
            assert "ready" in await anext(one)
        assert hub.open_streams(world.people["owner"].pk) == 30
        asked.append(" ".join(thread.name for thread in threading.enumerate() if thread.name.startswith("live")))
        await asyncio.to_thread(happened, world.record)
        told = [await asyncio.wait_for(anext(one), 5) for one in streams]
        assert len(set(told)) == 1
        for one in streams:
            await one.aclose()
        assert hub.open_streams(world.people["owner"].pk) == 0 and here._reader is None

    alone(play())
    assert asked == ["live_0"]


def test_a_stream_that_does_not_keep_up_ends(world: World) -> None:
    async def play() -> None:
        one = stream.frames(viewer(world, "owner"), last=None, tell=whole, renew=lambda: viewer(world, "owner"))
        await anext(one)
        await anext(one)
        [place] = hub.hub()._streams
        for _ in range(hub.BEHIND + 1):
            place.put(tail.Batch((), 0))
        with pytest.raises(StopAsyncIteration):
            await anext(one)

    alone(play())


@pytest.mark.parametrize("first_to_commit", ["early id", "late id"])
def test_ids_that_commit_out_of_order_are_all_told_once(world: World, first_to_commit: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time: ids are committed in order")
    position = Tail(happened(world.record).pk)
    inserted, go_on, found = threading.Event(), threading.Event(), []

    def slow() -> None:
        with transaction.atomic():
            found.append(happened(world.record).pk)
            inserted.set()
            go_on.wait(10)
        connection.close()

    writer = threading.Thread(target=slow)
    writer.start()
    assert inserted.wait(10)
    if first_to_commit == "early id":
        go_on.set()
        writer.join(10)
    late = happened(world.record).pk
    now = timezone.now()
    seen = [one.event.pk for one in position.look(now).happenings]
    assert late in seen, "it does not wait for the older transaction"
    if first_to_commit == "late id":
        assert position.safe < found[0]
        go_on.set()
        writer.join(10)
    for _ in range(3):
        seen += [one.event.pk for one in position.look(now).happenings]
    assert sorted(seen) == sorted([found[0], late]) and position.safe == late


def test_a_crowd_of_events_comes_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "BATCH", 4)
    position, now = Tail(Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0), timezone.now()
    ids = [happened(world.record).pk for _ in range(10)]
    batches = [position.look(now) for _ in range(4)]
    assert [[one.event.pk for one in batch.happenings] for batch in batches] == [ids[:4], ids[4:8], ids[8:], []]
    assert [batch.more for batch in batches] == [True, True, False, False]


def saved(world: World, who: str, revision: int, kind: str = "record.edited", **values: Any) -> int:
    data = {"revision": revision}
    return happened(world.record, kind, actor=world.people[who], actor_kind="user", data=data, **values).pk


def settled(world: World, revision: int, kind: str = "sync.succeeded", **data: Any) -> int:
    return happened(world.record, kind, data={"revision": revision, **data}).pk


def savers(event_id: int) -> set[int]:
    [one] = told([event_id], now=timezone.now())
    return set(one.savers)


def test_an_outcome_reaches_whoever_saved_what_was_sent(world: World) -> None:
    owner, operator = world.people["owner"].pk, world.people["operator"].pk
    saved(world, "owner", 2)
    saved(world, "operator", 3)
    assert savers(settled(world, 2, "sync.failed")) == {owner}
    assert savers(settled(world, 3)) == {owner, operator}
    assert savers(settled(world, 4)) == set(), "told before"
    saved(world, "owner", 5)
    saved(world, "operator", 6)  # while 5 is being sent
    assert savers(settled(world, 5)) == {owner}
    assert savers(settled(world, 6)) == {operator}
    saved(world, "owner", 7, at=timezone.now() - timedelta(hours=2))
    happened(world.record, "record.edited", actor=world.people["operator"], actor_kind="api_key", data={"revision": 7})
    assert savers(settled(world, 7)) == set(), "long ago, or by a program"


@pytest.mark.parametrize(
    ("kind", "data", "text", "tone", "over"),
    [
        ("sync.succeeded", {"operation": "update"}, "synced", "success", True),
        ("sync.succeeded", {"operation": "delete"}, "deleted at the remote", "success", True),
        ("sync.failed", {"detail": "It is <b>down</b>."}, "failed: It is <b>down</b>", "error", True),
        ("sync.failed", {"reason": "timeout", "wait": 5}, "failed: timeout; retry in 5 s", "warning", False),
        ("sync.postponed", {"reason": "throttled", "wait": 600}, "waits for the remote: throttled; retry in 10 min",
         "warning", False),
        ("sync.conflict", {}, "both sides changed; decide which value is right", "warning", True),
        ("sync.dead_lettered", {"detail": "x" * 999}, "given up: " + "x" * 159 + "…", "error", True),
    ],
)  # fmt: skip
def test_what_people_read(world: World, kind: str, data: dict[str, Any], text: str, tone: str, over: bool) -> None:
    saved(world, "owner", 2)
    now = timezone.now()
    wait = data.pop("wait", None)
    until = {"next_attempt_at": (now + timedelta(seconds=wait)).isoformat()} if wait else {}
    event = happened(world.record, kind, at=now, data={"revision": 2, **data, **until})
    [one] = outcomes(told([event.pk], now=now), user_id=world.people["owner"].pk)
    assert (one.text, one.tone, one.over, one.record) == (text, tone, over, world.record.pk)
    assert outcomes(told([event.pk], now=now), user_id=world.people["operator"].pk) == []


def test_very_many_records_are_not_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = told([happened(world.record).pk, happened(world.others).pk], now=timezone.now())
    assert moved(seen)["records"] == [world.record.pk, world.others.pk]
    monkeypatch.setattr("syncportal.sync.live.news.NAMED", 1)
    assert moved(seen)["records"] is None


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
