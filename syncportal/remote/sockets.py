"""Sockets that keep a call's deadline and go only where the address policy allows.

Owns `Deadline`, `CallState` (what is known about the call that a thread is making) and `connect`. Guarantees: every
connect, handshake, send and receive ends at the call's deadline however slowly bytes drip; the address connected to is
one that was checked; `sent` is true before the first byte of the request may leave. Does not speak HTTP.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from functools import lru_cache
from typing import Any

import certifi
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError
from urllib3.util import wait_for_read, wait_for_write

from syncportal.remote.addresses import AddressPolicy, AddressRefused, NameNotResolved, SocketAddress


class Deadline:
    """A point in monotonic time by which a call, all of it, is over."""

    __slots__ = ("_end",)

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, never below zero."""
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() >= self._end

    def at_most(self, seconds: float) -> Deadline:
        """Return the nearer of this deadline and one in `seconds`."""
        return Deadline(min(self.left(), seconds))


class CallState:
    """What is known about the call that the current thread is making.

    `problem` is a (code, sentence) pair when the wire itself found out what is wrong.
    """

    __slots__ = ("begun", "connect_timeout_s", "deadline", "ended_early", "fresh", "header_limit", "policy", "problem",
                 "received", "reused", "sent", "timed_out")  # fmt: skip

    def __init__(
        self, *, deadline: Deadline, connect_timeout_s: float, policy: AddressPolicy, header_limit: int, fresh: bool
    ) -> None:
        self.deadline = deadline
        self.connect_timeout_s = connect_timeout_s
        self.policy = policy
        self.header_limit = header_limit
        self.fresh = fresh
        self.begun = False
        self.ended_early = False
        self.reused = False
        self.sent = False
        self.received = 0
        self.timed_out = False
        self.problem: tuple[str, str] | None = None

    def time_left(self) -> float:
        """Return the seconds left for the next step; raises TimeoutError when there are none."""
        left = self.deadline.left()
        if left <= 0:
            self.timed_out = True
            raise TimeoutError("the call's total time is over")
        return left

    def count(self, received: int) -> None:
        """Count bytes that arrived; raises OSError when the header section alone is over its limit."""
        self.received += received
        if not self.header_limit:
            return
        if received == 0:
            # http.client takes the end of the stream for the end of the headers.
            self.ended_early = True
        if self.received > self.header_limit:
            self.problem = ("headers_too_large", "The answer's headers are too large")
            raise OSError("header section too large")

    def headers_are_complete(self) -> None:
        """Stop counting against the header limit."""
        self.header_limit = 0


_local = threading.local()


def begin(call: CallState) -> None:
    """Bind a call to this thread; every socket used by the thread obeys it."""
    _local.call = call


def end() -> None:
    """Forget this thread's call."""
    _local.call = None


def current() -> CallState:
    """Return the call that this thread is making."""
    call: CallState | None = getattr(_local, "call", None)
    if call is None:
        raise RuntimeError("a remote connection was used outside of HttpClient.send")
    return call


class _PlainSocket(socket.socket):
    """A TCP socket whose every wait is limited by the call's deadline.

    Once connected it never blocks and waits by itself: a socket with a timeout takes two more system calls for each
    operation, and around every system call the interpreter's lock is given away to the other threads.
    """

    _is_patient = False

    def wait_by_itself(self) -> None:
        """Leave the blocking mode for good."""
        self.setblocking(False)
        self._is_patient = True

    def settimeout(self, value: float | None) -> None:
        """Set the timeout of connecting; afterwards only the call's deadline counts."""
        if not self._is_patient:
            super().settimeout(value)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        call = current()
        while True:
            wait_for_read(self, timeout=call.time_left())
            try:
                received = super().recv_into(buffer, nbytes, flags)
            except BlockingIOError:
                continue
            call.count(received)
            return received

    def sendall(self, data: Any, flags: int = 0) -> None:
        call = current()
        rest = memoryview(data)
        while rest:
            left = call.time_left()
            call.sent = True
            try:
                rest = rest[super().send(rest, flags) :]
            except BlockingIOError:
                wait_for_write(self, timeout=left)


class _TlsSocket(ssl.SSLSocket):
    """A TLS socket whose every wait is limited by the call's deadline."""

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        call = current()
        self.settimeout(call.time_left())
        received = super().recv_into(buffer, nbytes, flags)
        call.count(received)
        return received

    def send(self, data: Any, flags: int = 0) -> int:
        call = current()
        self.settimeout(call.time_left())
        call.sent = True
        return super().send(data, flags)


def tls_context(*, cafile: str | None = None) -> ssl.SSLContext:
    """Build a verifying context that trusts the system's and certifi's authorities, or only those in `cafile`."""
    context = ssl.create_default_context(cafile=cafile or certifi.where())
    if cafile is None:
        context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TlsSocket
    return context


@lru_cache(maxsize=1)
def shared_tls_context() -> ssl.SSLContext:
    """Return the process's one context; building one takes 20 ms."""
    return tls_context()


def connect(connection: HTTPConnection, host: str, port: int) -> _PlainSocket:
    """Open a connection within the call's time; raises NewConnectionError and leaves the reason on the call."""
    call = current()
    limit = call.deadline.at_most(call.connect_timeout_s)
    try:
        addresses = call.policy.resolve(host, port, timeout_s=limit.left())
    except NameNotResolved as error:
        call.problem = ("dns", error.detail)
        raise NewConnectionError(connection, error.detail) from error
    except AddressRefused as error:
        call.problem = ("address_refused", error.detail)
        raise NewConnectionError(connection, error.detail) from error
    failure: OSError | None = None
    for position, address in enumerate(addresses):
        # Each address gets a fair part of what is left, so that one dead address does not starve the next.
        wait = limit.left() / (len(addresses) - position)
        if wait <= 0:
            break
        try:
            sock = _open(address, wait_s=wait, policy=call.policy)
        except OSError as error:
            failure = error
            continue
        # A TLS handshake that follows is part of connecting and ends with it.
        sock.settimeout(max(limit.left(), 0.001))
        return sock
    call.problem = _connect_problem(failure, host=host, port=port)
    raise NewConnectionError(connection, call.problem[1]) from failure


def _open(address: SocketAddress, *, wait_s: float, policy: AddressPolicy) -> _PlainSocket:
    sock = _PlainSocket(address.family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(wait_s)
        sock.connect(address.sockaddr)
        # The kernel has the last word on where the connection ended up.
        problem = policy.problem(str(sock.getpeername()[0]))
        if problem is not None:
            raise ConnectionRefusedError(problem)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_problem(failure: OSError | None, *, host: str, port: int) -> tuple[str, str]:
    if failure is None or isinstance(failure, TimeoutError):
        return "connect_timeout", f"No connection to {host}:{port} in time."
    if isinstance(failure, ConnectionRefusedError):
        return "refused", f"{host}:{port} refused the connection."
    return "unreachable", f"{host}:{port} cannot be reached: {failure.strerror or type(failure).__name__}."
