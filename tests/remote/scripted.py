"""A small HTTP server on loopback that answers by method and path, for shapes that the demo master does not have."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]


@dataclass
class Scripted:
    """What the server answers and what it was asked: (method, path without query) to (status, JSON body or text)."""

    base_url: str = ""
    script: dict[tuple[str, str], Reply] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scripted = Scripted(base_url=f"http://127.0.0.1:{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        assert isinstance(self.server, _Server)
        scripted = self.server.scripted
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        scripted.asked.append((self.command, self.path, body))
        status, answer = scripted.script.get((self.command, self.path.partition("?")[0]), (404, {}))
        raw = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | scripted.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def scripted_server() -> Iterator[Scripted]:
    """Run a server on a free port until the end of the block."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.scripted
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
