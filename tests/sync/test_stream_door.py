"""When everybody comes back at once: few are signed in at a time, all get their stream, nobody else waits."""

import asyncio
from typing import Any

import pytest

from syncportal.asgi import application
from syncportal.sync.live.door import Door

STREAM = {"type": "http", "path": "/admin/live/", "headers": [(b"accept", b"text/event-stream")]}
API = {"type": "http", "path": "/api/v1/events/stream/", "headers": []}
PAGE = {"type": "http", "path": "/admin/", "headers": [(b"accept", b"text/html")]}


class Application:
    """Signs in, answers, and holds the stream open until it is told to end."""

    def __init__(self) -> None:
        self.signing_in = self.most = self.open = 0
        self.end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.signing_in += 1
        self.most = max(self.most, self.signing_in)
        await asyncio.sleep(0.001)
        self.signing_in -= 1
        if scope.get("breaks"):
            raise ConnectionError
        await send({"type": "http.response.start"})
        self.open += 1
        await self.end.wait()


async def nothing(*message: Any) -> None:
    return None


async def crowd(scopes: list[dict[str, Any]], *, width: int) -> tuple[int, int]:
    application = Application()
    door = Door(application, width=width)
    calls = [asyncio.create_task(door(scope, nothing, nothing)) for scope in scopes]
    wanted = sum("breaks" not in scope for scope in scopes)
    async with asyncio.timeout(5):
        while application.open < wanted:
            await asyncio.sleep(0.001)
    application.end.set()
    await asyncio.gather(*calls, return_exceptions=True)
    return application.most, application.open


@pytest.mark.parametrize("scope", [STREAM, API])
def test_a_crowd_is_signed_in_a_few_at_a_time_and_all_stay_open(scope: dict[str, Any]) -> None:
    assert asyncio.run(crowd([scope] * 50, width=5)) == (5, 50)


def test_pages_do_not_wait_at_the_door() -> None:
    assert asyncio.run(crowd([PAGE] * 50, width=5)) == (50, 50)


def test_a_sign_in_that_breaks_gives_its_place_back() -> None:
    assert asyncio.run(crowd([{**STREAM, "breaks": True}] * 20 + [STREAM] * 5, width=2)) == (2, 5)


def test_the_server_has_the_door() -> None:
    assert isinstance(application, Door)
