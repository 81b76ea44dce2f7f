"""Streams of events: each in its scope, once, resumable; one reader for all of them."""

import asyncio
import threading

import pytest
from django.db import connection, transaction
from django.utils import timezone

from syncportal.sync.live import hub, stream, tail
from syncportal.sync.live.news import PageNews
from syncportal.sync.live.stream import Pace
from syncportal.sync.live.tail import Tail
from syncportal.sync.models import Event
from tests.api.world import World, happened
from tests.sync.listening import Heard, alone, listening, nothing, until, viewer, whole

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]


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
