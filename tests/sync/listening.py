"""Somebody who listens to a stream of events while something happens."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

from syncportal.sync.live import hub, stream
from syncportal.sync.live.hub import Viewer
from syncportal.sync.live.stream import USUAL, Pace
from tests.api.world import World, happened

T = TypeVar("T")


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


def saved(world: World, who: str, revision: int, kind: str = "record.edited", **values: Any) -> int:
    data = {"revision": revision}
    return happened(world.record, kind, actor=world.people[who], actor_kind="user", data=data, **values).pk


def settled(world: World, revision: int, kind: str = "sync.succeeded", **data: Any) -> int:
    return happened(world.record, kind, data={"revision": revision, **data}).pk
