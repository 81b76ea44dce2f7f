"""HTTP/1.1 by hand: from bytes to a call and from an answer to bytes.

Owns: parsing and writing of messages, nothing else. Pure. Does not: use the standard library's mail parser, which costs
more than everything else the server does.
"""

import time
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from syncportal.demo.messages import Answer, Call

MAX_HEAD = 64 * 1024
MAX_BODY = 16 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class BadRequest(Exception):
    """The bytes are not a request this server takes; the connection is answered with `status` and closed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def take_call(buffer: bytearray) -> Call | None:
    """Take one complete request off the buffer; None when more bytes are needed. Raises BadRequest."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise BadRequest(431)
        return None
    first, *lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(400)
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise BadRequest(411)
    length_text = headers.get("content-length", "0")
    if not length_text.isdigit():
        raise BadRequest(400)
    length = int(length_text)
    if length > MAX_BODY:
        raise BadRequest(413)
    if len(buffer) < end + 4 + length:
        return None
    body = bytes(buffer[end + 4 : end + 4 + length])
    del buffer[: end + 4 + length]
    pieces = first.split(" ")
    if len(pieces) != 3 or not pieces[2].startswith("HTTP/1."):
        raise BadRequest(400)
    if pieces[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    path, query = pieces[1], {}
    if "?" in path:
        split = urlsplit(path)
        path, query = split.path, dict(parse_qsl(split.query, keep_blank_values=True))
    return Call(
        pieces[0], path, query, headers, body, arrived_at=time.monotonic(), request_id=headers.get("x-request-id", "")
    )


class Clock:
    """The Date header's text, made once a second."""

    def __init__(self) -> None:
        self._second, self._text = 0, ""

    def date(self) -> str:
        """Return the present as an HTTP date."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


_CLOCK = Clock()


def written(answer: Answer, body: bytes, *, call: Call | None, length: int | None = None) -> tuple[bytes, bytes]:
    """Write an answer as head and body bytes; `length` overrides the Content-Length that is claimed."""
    head = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}\r\nDate: {_CLOCK.date()}\r\n"]
    if answer.status != 204:
        head.append(f"Content-Length: {len(body) if length is None else length}\r\n")
        if body or answer.shape != "none":
            head.append(f"Content-Type: {answer.media_type}\r\n")
    if call is not None and call.request_id:
        head.append(f"X-Request-ID: {call.request_id}\r\n")
    if call is None or wants_close(call):
        head.append("Connection: close\r\n")
    head += [f"{name}: {value}\r\n" for name, value in answer.headers.items()]
    head.append("\r\n")
    bodyless = answer.status == 204 or (call is not None and call.method == "HEAD")
    return "".join(head).encode("latin-1", "replace"), b"" if bodyless else body


def wants_close(call: Call) -> bool:
    """Tell whether the client asked for the connection to be closed after the answer."""
    return call.headers.get("connection", "").lower() == "close"
