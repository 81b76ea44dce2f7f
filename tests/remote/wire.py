"""A raw TCP server on loopback whose answers are scripted byte by byte, for what no well-behaved server does."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Script = Callable[["Conversation"], None]


class Conversation:
    """One accepted connection: reads requests, writes whatever the script wants."""

    def __init__(self, sock: socket.socket, server: WireServer) -> None:
        self.sock = sock
        self.server = server
        self._rest = b""

    def request(self) -> bytes:
        """Read one whole request; b"" when the client closed."""
        data = self._rest
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            body += self.sock.recv(65536)
        self._rest = body[length:]
        whole = head + b"\r\n\r\n" + body[:length]
        self.server.requests.append(whole)
        return whole

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, *, every_s: float = 0.05) -> None:
        """Send one byte at a time until the client goes away."""
        for position in range(len(data)):
            if self.server.closing.wait(every_s):
                return
            self.sock.sendall(data[position : position + 1])

    def answer(self, body: bytes = b"{}", *, status: str = "200 OK", headers: str = "") -> None:
        self.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.sock.close()


class WireServer:
    """Runs the script for every connection, each in a thread; remembers the requests it read."""

    def __init__(self, script: Script, *, context: ssl.SSLContext | None = None, family: int = socket.AF_INET) -> None:
        self.script = script
        self.context = context
        self.requests: list[bytes] = []
        self.connections = 0
        self.closing = threading.Event()
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._socket.listen(64)
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
            self.script(Conversation(sock, self))
        except OSError:
            pass
        finally:
            sock.close()

    def close(self) -> None:
        self.closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in self._open:
            sock.close()


@contextmanager
def serving(script: Script, **options: object) -> Iterator[WireServer]:
    """Run a server for the block."""
    server = WireServer(script, **options)
    try:
        yield server
    finally:
        server.close()


def always(*args: object, **options: object) -> Script:
    """Answer every request of a connection alike."""

    def script(talk: Conversation) -> None:
        while talk.request():
            talk.answer(*args, **options)

    return script


def elapsed(started: float) -> float:
    """Return the seconds since a monotonic reading."""
    return time.monotonic() - started
