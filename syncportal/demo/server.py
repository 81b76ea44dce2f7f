"""The demo master as a real HTTP server on the loopback interface, in a thread of its own.

Owns: starting, stopping, going down and coming back, and the Python API that tests use (`DemoMaster`).
Guarantees: answers about 5,000 requests a second on one core; hung and slow answers cost no thread; `stop` never hangs.
Does not: listen anywhere but on 127.0.0.1.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from syncportal.demo.api import Api
from syncportal.demo.connection import Connection, Hub
from syncportal.demo.control import Control
from syncportal.demo.faults import FaultBook
from syncportal.demo.messages import Heard
from syncportal.demo.spec import Collection, Document, accounts, shifts
from syncportal.demo.store import Store, Write

HOST = "127.0.0.1"


class DemoMaster:
    """One master server with its store, faults and logs; use it in a `with`, or call `start` and `stop`.

    `credential` is `user:password` or `bearer:token`; `latency_ms` is added to every API answer; `write_log` names a
    file that keeps the writes over a kill and is replayed at the next start; `control=False` switches `/_demo/` off.
    """

    def __init__(
        self,
        collections: Iterable[Collection] | None = None,
        *,
        port: int = 0,
        latency_ms: float = 0,
        credential: str = "",
        write_log: Path | None = None,
        control: bool = True,
        seed: int = 0,
    ) -> None:
        self.store = Store((accounts(), shifts()) if collections is None else collections, write_log=write_log)
        self.faults = FaultBook(seed=seed)
        self.port = port
        self._hub = Hub(Api(self.store, credential=credential), self.faults, latency_s=latency_ms / 1000)
        self._hub.control = Control(self.store, self.faults, self._hub) if control else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Return the server's address without a trailing slash."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """Return the base URL of the resources, what a remote is configured with."""
        return f"{self.url}/api"

    @property
    def latency_ms(self) -> float:
        """Return the latency of every API answer."""
        return self._hub.latency_s * 1000

    @latency_ms.setter
    def latency_ms(self, value: float) -> None:
        self._hub.latency_s = value / 1000

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self) -> Self:
        """Listen and serve in a background thread. Raises OSError when the port is taken."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo-master", daemon=True)
        self._thread.start()
        try:
            self.come_up()
        except OSError:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Close every connection and end the thread; what a delayed apply still had in mind is dropped."""
        if self._loop is None or self._thread is None:
            return
        self.go_down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None
        self.store.close()

    def go_down(self) -> None:
        """Refuse connections and reset the open ones, as a dead host does; data and faults stay."""
        self._in_loop(self._close)

    def come_up(self) -> None:
        """Listen on the same port again."""
        loop = self._running()
        asyncio.run_coroutine_threadsafe(self._listen(), loop).result(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _listen(self) -> None:
        loop = self._running()
        self._server = await loop.create_server(lambda: Connection(self._hub, loop), HOST, self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        self._hub.api.host = self.url

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._hub.connections):
            connection.reset()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the demo master is not started")
        return self._loop

    def _in_loop(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._running()).result(10)

    # ── the truth, and somebody else's hands on it ───────────────────────────────────────────────────────────────
    def writes(self, *, after: int = 0, collection: str = "", object_id: str = "", actor: str = "") -> list[Write]:
        """Return the applied writes in order, see `Store.writes`."""
        return self.store.writes(after=after, collection=collection, object_id=object_id, actor=actor)

    def requests(self, *, after: int = 0, collection: str = "", object_id: str = "", method: str = "") -> list[Heard]:
        """Return the API requests in order of arrival, those with a number above `after`, optionally filtered."""
        return [
            heard
            for heard in self._hub.heard_after(after)
            if (not collection or heard.collection == collection)
            and (not object_id or heard.object_id == object_id)
            and (not method or heard.method == method)
        ]

    def get(self, collection: str, object_id: str) -> Document | None:
        """Return a copy of an object, None when missing."""
        return self.store.get(collection, object_id)

    def edit(self, collection: str, object_id: str, changes: Mapping[str, Any] | None = None, **fields: Any) -> Write:
        """Change an object as somebody else would, past every fault and precondition. Raises Refused."""
        return self.store.edit(collection, object_id, {**(changes or {}), **fields})

    def create(self, collection: str, document: Mapping[str, Any]) -> Write:
        """Add an object as somebody else would. Raises Refused."""
        return self.store.create(collection, document)

    def delete(self, collection: str, object_id: str) -> Write:
        """Delete an object as somebody else would. Raises Refused."""
        return self.store.delete(collection, object_id)

    def reset(self, collections: Iterable[Collection] | None = None) -> None:
        """Begin again: new contents, no faults, empty logs."""
        self.faults.clear()
        self.store.reset((accounts(), shifts()) if collections is None else collections)
        self._hub.forget()
