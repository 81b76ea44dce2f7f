"""One client connection: takes requests in turn, lets faults happen to them, writes the answers.

Owns: the order of events of a request (log, latency, fault, apply, distort, send) and the request log.
Guarantees: a request whose client has gone away is still carried out, as on a real server; one answer at a time.
Does not: decide which fault strikes or what the right answer is.
"""

import asyncio
import itertools
import socket
import struct
import time
from collections import deque
from typing import Protocol

from syncportal.demo.api import PREFIX, Api, read_body
from syncportal.demo.distort import body_of, distorted, pretended, status_answer
from syncportal.demo.faults import FaultBook
from syncportal.demo.kinds import Fault, FaultError, parse_header
from syncportal.demo.messages import Answer, Call, Heard
from syncportal.demo.paging import Twist
from syncportal.demo.store import Refused
from syncportal.demo.wire import BadRequest, take_call, wants_close, written

REQUEST_LOG_ROWS = 200_000
_NO_LINGER = struct.pack("ii", 1, 0)


class Controls(Protocol):
    """What answers `/_demo/`."""

    def handle(self, call: Call) -> Answer:
        """Answer one call."""
        ...


class Hub:
    """What all connections share. Everything but `heard_after` and `forget` is used by the server's thread only."""

    def __init__(self, api: Api, faults: FaultBook, *, latency_s: float = 0) -> None:
        self.api = api
        self.faults = faults
        self.latency_s = latency_s
        self.control: Controls | None = None
        self.connections: set[Connection] = set()
        self._heard: deque[Heard] = deque(maxlen=REQUEST_LOG_ROWS)
        self._count = itertools.count(1)

    def hear(self, call: Call) -> Heard:
        """Put a request in the log."""
        headers = call.headers
        heard = Heard(
            next(self._count),
            call.arrived_at,
            call.method,
            call.path,
            call.collection,
            call.object_id,
            call.phase,
            call.request_id,
            headers.get("if-match", ""),
            headers.get("idempotency-key", ""),
        )
        self._heard.append(heard)
        return heard

    def heard_after(self, number: int) -> list[Heard]:
        """Return the logged requests with a higher number."""
        return [heard for heard in self._heard.copy() if heard.number > number]

    def forget(self) -> None:
        """Empty the request log and the stored idempotent answers."""
        self._heard.clear()
        self.api.forget()


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        self._hub = hub
        self._loop = loop
        self._buffer = bytearray()
        self._busy = False
        self._transport: asyncio.Transport | None = None

    # ── transport events ─────────────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._hub.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what it asked for goes on."""
        self._transport = None
        self._hub.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes in and serve the next request if none is being served."""
        self._buffer += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = False
        while self._buffer and not self._busy and self._transport is not None:
            try:
                call = take_call(self._buffer)
            except BadRequest as bad:
                self._buffer.clear()
                answer = Answer(bad.status, {"error": {"code": "bad_request", "detail": "Not a request."}}, "error")
                self._put(*written(answer, body_of(answer), call=None))
                self._close()
                return
            if call is None:
                return
            self._busy = True
            if call.path.startswith(PREFIX):
                self._meet(call)
            else:
                self._plain(call)

    def _plain(self, call: Call) -> None:
        """Answer what is no API call: the control API, or nothing there."""
        control = self._hub.control
        if control is not None and call.path.startswith("/_demo"):
            answer = control.handle(call)
        else:
            answer = Answer(
                404, {"error": {"code": "not_found", "detail": "There is nothing at this address."}}, "error"
            )
        self._finish(call, *written(answer, body_of(answer), call=call))

    # ── one API request ──────────────────────────────────────────────────────────────────────────────────────────
    def _meet(self, call: Call) -> None:
        hub = self._hub
        hub.api.route(call)
        heard = hub.hear(call)
        faults = hub.faults.pick(call)
        if "x-demo-fault" in call.headers:
            try:
                faults = parse_header(call.headers["x-demo-fault"]) + faults
            except FaultError as error:
                answer = Answer(400, {"error": {"code": "bad_fault", "detail": str(error)}}, "error")
                self._send(call, heard, answer)
                return
        wait = hub.latency_s
        main: Fault | None = None
        for fault in faults:
            if fault.kind == "latency":
                wait += fault["latency_ms"] / 1000
            elif main is None:
                main = fault
        if faults:
            heard.faults = tuple(fault.kind for fault in faults)
        if wait:
            self._loop.call_later(wait, self._proceed, call, heard, main)
        else:
            self._proceed(call, heard, main)

    def _proceed(self, call: Call, heard: Heard, fault: Fault | None) -> None:
        if fault is None:
            self._send(call, heard, self._handled(call, heard))
        elif fault.place == "before":
            self._before(call, heard, fault)
        elif fault.place == "late":
            self._late(call, heard, fault)
        else:
            self._after(call, heard, fault)

    def _handled(self, call: Call, heard: Heard, twist: Twist | None = None) -> Answer:
        answer = self._hub.api.handle(call, twist=twist)
        if answer.write is not None:
            heard.write_seq = answer.write.seq
        return answer

    def _before(self, call: Call, heard: Heard, fault: Fault) -> None:
        """Carry out a fault that strikes before anything is applied."""
        if fault.kind == "timeout_before":
            return
        if fault.kind == "reset_before":
            self.reset()
        elif fault.kind == "no_change":
            self._send(call, heard, self._pretended(call, heard, fault))
        else:
            if fault["apply"]:
                self._handled(call, heard)
            self._send(call, heard, status_answer(fault))

    def _pretended(self, call: Call, heard: Heard, fault: Fault) -> Answer:
        api = self._hub.api
        spec = api.store.spec(call.collection)
        if spec is None or call.phase in ("list", "detail"):
            return self._handled(call, heard)
        try:
            body = {} if call.phase == "delete" else read_body(call, spec=spec)
        except Refused:
            return self._handled(call, heard)
        return pretended(call, body, spec=spec, store=api.store, how=fault["answer"])

    def _late(self, call: Call, heard: Heard, fault: Fault) -> None:
        """Apply later, with the precondition that the request carried; answer a status now, or never."""
        self._loop.call_later(fault["delay_ms"] / 1000, self._handled, call, heard)
        if fault["answer"]:
            document = {"error": {"code": "late", "detail": "Not answered in time."}}
            self._send(call, heard, Answer(fault["answer"], document, "error"))

    def _after(self, call: Call, heard: Heard, fault: Fault) -> None:
        """Apply (unless told not to), then spoil the answer or the way it is sent."""
        twist = None
        if fault.place == "page":
            settings = {name: fault.settings[name] for name in ("rows", "host") if name in fault.settings}
            twist = Twist(fault.kind, **settings)
        if fault.settings.get("apply", True) or call.phase in ("list", "detail"):
            answer = self._handled(call, heard, twist)
        else:
            answer = self._pretended(call, heard, Fault("no_change", {"answer": "asked"}))
        if fault.kind == "timeout_after":
            return
        if fault.kind == "reset_after":
            self.reset()
            return
        store = self._hub.api.store
        answer = distorted(answer, fault, call=call, spec=store.spec(call.collection), store=store)
        self._send(call, heard, answer, fault)

    def _send(self, call: Call, heard: Heard, answer: Answer, fault: Fault | None = None) -> None:
        heard.status = answer.status
        heard.answered_at = time.monotonic()
        body = body_of(answer)
        kind = fault.kind if fault else ""
        if kind == "big_headers" and fault:
            padding = {f"X-Padding-{number}": "x" * fault["size"] for number in range(fault["count"])}
            answer.headers = {**answer.headers, **padding}
        if kind == "truncate" and fault:
            head, _ = written(answer, body, call=call)
            self._put(head, body[: max(0, len(body) - fault["missing"])])
            self._close()
            return
        head, body = written(answer, body, call=call)
        if kind == "drip" and fault:
            self._put(head, b"")
            self._drip(call, body, b"", fault)
        elif kind == "drip_headers" and fault:
            self._drip(call, head, body, fault)
        else:
            self._finish(call, head, body)

    def _drip(self, call: Call, slowly: bytes, rest: bytes, fault: Fault) -> None:
        if self._transport is None or not slowly:
            self._finish(call, rest, b"")
            return
        chunk = max(1, fault["chunk"])
        self._put(slowly[:chunk], b"")
        self._loop.call_later(fault["interval_ms"] / 1000, self._drip, call, slowly[chunk:], rest, fault)

    def _finish(self, call: Call, head: bytes, body: bytes) -> None:
        self._put(head, body)
        if wants_close(call):
            self._close()
        elif self._buffer:
            self._loop.call_soon(self._next)
            self._busy = True
        else:
            self._busy = False

    # ── the socket ───────────────────────────────────────────────────────────────────────────────────────────────
    def _put(self, head: bytes, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(head + body if len(body) < 65536 else head)
            if len(body) >= 65536:
                self._transport.write(body)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()
