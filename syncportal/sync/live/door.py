"""The door to the streams: how many browsers and programs are signed in at once when all of them come back.

Guarantees: at most `WIDTH` requests for a stream use a thread and a database connection at a time, until their answer
begins; open streams and every other request pass by. Does not: refuse anybody; who comes later waits. Needs no models,
because it stands in front of Django.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

CONTENT_TYPE: Final = "text/event-stream"
WIDTH: Final = 10
_PATH: Final = "/events/stream/"

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Door:
    """An ASGI application in front of another."""

    def __init__(self, application: Application, *, width: int = WIDTH) -> None:
        """Take the application behind the door."""
        self._application = application
        self._places = asyncio.Semaphore(width)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on; one for a stream keeps its place until the answer begins, or ends without one."""
        if not _wants_stream(scope):
            await self._application(scope, receive, send)
            return
        inside = True

        def leave() -> None:
            nonlocal inside
            if inside:
                inside = False
                self._places.release()

        async def leaving(message: Message) -> None:
            if message["type"] == "http.response.start":
                leave()
            await send(message)

        await self._places.acquire()
        try:
            await self._application(scope, receive, leaving)
        finally:
            leave()


def _wants_stream(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    accepts = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return CONTENT_TYPE.encode() in accepts or str(scope["path"]).endswith(_PATH)
