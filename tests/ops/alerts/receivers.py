"""Where notices arrive in tests: a web server and a mail server on loopback, whose faults a test sets.

Owns: what arrived. Guarantees: both end with their block. Does not: judge.
"""

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hook:
    """A web address that takes notices: answers `statuses` in turn (the last one for ever), after `delay_s`."""

    statuses: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    arrived: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    on_arrival: Callable[[], None] | None = None
    url: str = ""


@contextmanager
def web_hook() -> Iterator[Hook]:
    """Serve a hook at a secret path."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.arrived.append((dict(self.headers.items()), body))
            if hook.on_arrival is not None:
                hook.on_arrival()
            time.sleep(hook.delay_s)
            status = hook.statuses.pop(0) if len(hook.statuses) > 1 else hook.statuses[0]
            self.send_response(status)
            for name, value in {**hook.headers, "Content-Length": "2"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_port}/services/T0SECRET/B0SECRET/tokensecret"
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class MailBox:
    """A mail server: takes every mail but from recipients whose address begins with `refused`."""

    host: str = "127.0.0.1"
    port: int = 0
    silent: bool = False
    arrived: list[bytes] = field(default_factory=list)
    connections: int = 0


@contextmanager
def mail_server() -> Iterator[MailBox]:
    """Speak as much SMTP as a client needs."""
    box = MailBox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            box.connections += 1
            if box.silent:
                time.sleep(1)
                return
            self.say(b"220 test ready")
            for line in self.rfile:
                word = line[:4].upper().strip()
                if word == b"RCPT" and b"<refused" in line:
                    self.say(b"550 no such user\x07 here")
                elif word == b"DATA":
                    self.say(b"354 go on")
                    box.arrived.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                    self.say(b"250 taken")
                elif word == b"QUIT":
                    self.say(b"221 bye")
                    return
                else:
                    self.say(b"250 ok")

        def say(self, line: bytes) -> None:
            self.wfile.write(line + b"\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        box.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
