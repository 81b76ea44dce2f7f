"""A loopback TCP proxy that cuts the connection to a server and lets it through again: the server keeps its data.

Guarantees: while it is cut nothing passes and new connections are refused; `close` ends every thread's sockets.
Does not: understand HTTP beyond the first word of what a client sends.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_CHUNK = 65_536


@dataclass
class _Cut:
    """When to cut by itself: at the `number`-th request that begins with `method`."""

    method: bytes
    number: int
    answer_lost: bool
    seen: int = 0


@dataclass
class Proxy:
    """Passes bytes between clients and one server."""

    target: tuple[str, int]
    port: int = 0
    cuts: int = 0
    _listener: socket.socket | None = None
    _open: set[socket.socket] = field(default_factory=set)
    _cut: _Cut | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def reopen(self) -> None:
        """Listen, on the same port as before."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Cut every connection and refuse new ones."""
        with self._lock:
            sockets = [*self._open, *([self._listener] if self._listener else [])]
            self._listener = None
            self._open.clear()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def cut_at(self, method: str, number: int, *, answer_lost: bool) -> None:
        """Close at the `number`-th request of this method: before it arrives, or after it, with its answer lost."""
        self._cut = _Cut(method.encode() + b" ", number, answer_lost)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                return
            server.settimeout(None)
            with self._lock:
                if self._listener is not listener:
                    client.close()
                    server.close()
                    return
                self._open |= {client, server}
            doomed = threading.Event()
            for source, sink, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(source, sink, asks, doomed), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, asks: bool, doomed: threading.Event) -> None:
        """Pass on what one side says until either ends. doomed: the next answer on this connection is lost."""
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if asks and self._is_the_one(chunk):
                    if not self._answer_lost():
                        self._fall()
                        return
                    doomed.set()
                elif not asks and doomed.is_set():
                    self._fall()
                    return
                sink.sendall(chunk)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            self._open.discard(one)

    def _is_the_one(self, chunk: bytes) -> bool:
        with self._lock:
            cut = self._cut
            if cut is None or not chunk.startswith(cut.method):
                return False
            cut.seen += 1
            return cut.seen == cut.number

    def _answer_lost(self) -> bool:
        return self._cut is not None and self._cut.answer_lost

    def _fall(self) -> None:
        self._cut = None
        self.cuts += 1
        self.close()


@contextmanager
def proxied(host: str, port: int) -> Iterator[Proxy]:
    """Yield an open proxy to a server."""
    proxy = Proxy((host, port))
    proxy.reopen()
    try:
        yield proxy
    finally:
        proxy.close()
