"""The wire: sockets that keep a total deadline, connections that only go where the address policy allows.

Owns the `requests` adapter, its pools, connections and sockets. Guarantees, for one call (`CallState`, bound to the
thread that makes it): every connect, handshake, send and receive ends at the call's deadline however slowly bytes drip;
the address connected to is one that was checked, with Host and SNI kept; `sent` is true before the first byte of the
request may leave. Does not judge answers: client.py does.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from functools import lru_cache
from typing import Any, Final

import certifi
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from syncportal.remote.addresses import AddressPolicy, AddressRefused, NameNotResolved, SocketAddress, Target

# These loggers quote URLs, and a URL may hold a signed token.
for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

# Servers close idle connections after as little as 2 to 5 s; a write on one that is just being closed is in doubt.
MAX_IDLE_S: Final = 4.0
MAX_POOLS: Final = 8
_BROKEN_HEADERS: Final = (MissingHeaderBodySeparatorDefect, FirstHeaderLineIsContinuationDefect)


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


def _call() -> CallState:
    call: CallState | None = getattr(_local, "call", None)
    if call is None:
        raise RuntimeError("a remote connection was used outside of HttpClient.send")
    return call


class _PlainSocket(socket.socket):
    """A TCP socket whose every wait is limited by the call's deadline."""

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        call = _call()
        self.settimeout(call.time_left())
        received = super().recv_into(buffer, nbytes, flags)
        call.count(received)
        return received

    def sendall(self, data: Any, flags: int = 0) -> None:
        call = _call()
        self.settimeout(call.time_left())
        call.sent = True
        super().sendall(data, flags)


class _TlsSocket(ssl.SSLSocket):
    """A TLS socket whose every wait is limited by the call's deadline."""

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        call = _call()
        self.settimeout(call.time_left())
        received = super().recv_into(buffer, nbytes, flags)
        call.count(received)
        return received

    def send(self, data: Any, flags: int = 0) -> int:
        call = _call()
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


def _connect(connection: HTTPConnection, host: str, port: int) -> socket.socket:
    call = _call()
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


def _open(address: SocketAddress, *, wait_s: float, policy: AddressPolicy) -> socket.socket:
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


class _OneSend:
    """Sends the head and the body of a request together: a system call and a packet less for every write."""

    _held: bytes | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Build the request in memory, then send it as a whole."""
        self._held = b""
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
            whole, self._held = self._held, None
            super().send(whole)  # type: ignore[misc]
        finally:
            self._held = None

    def send(self, data: Any) -> None:
        """Keep a part while the request is being built."""
        if self._held is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._held += data


class _Plain(_OneSend, HTTPConnection):
    """An http connection through the address policy."""

    last_used_at = 0.0

    def _new_conn(self) -> socket.socket:
        return _connect(self, self._dns_host, self.port)


class _Tls(_OneSend, HTTPSConnection):
    """An https connection through the address policy; the certificate is checked against the URL's host."""

    last_used_at = 0.0

    def _new_conn(self) -> socket.socket:
        return _connect(self, self._dns_host, self.port)


class _PooledCalls:
    """What both pools add: never a connection that idled long, a fresh one where the call asks for it."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        call = _call()
        call.begun = True
        if not connection.is_closed:
            if call.fresh or time.monotonic() - connection.last_used_at > MAX_IDLE_S:
                connection.close()
            else:
                call.reused = True
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.last_used_at = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc]


class _PlainPool(_PooledCalls, HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(_PooledCalls, HTTPSConnectionPool):
    ConnectionCls = _Tls


def malformed(response: Response) -> bool:
    """Tell whether a header line was broken, so that what follows it was not understood."""
    message = getattr(getattr(response.raw, "_original_response", None), "msg", None)
    return any(isinstance(defect, _BROKEN_HEADERS) for defect in getattr(message, "defects", ()))


class Prepared(PreparedRequest):
    """A request that is already in its final form; nothing of it is requoted or completed."""

    def __init__(
        self, *, method: str, url: str, target: Target, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        super().__init__()
        self.method = method
        self.url = url
        self.headers = headers  # type: ignore[assignment]
        self.body = body
        self.target = target

    @property
    def path_url(self) -> str:
        """Return path and query exactly as configured."""
        return self.target.path


class Adapter(HTTPAdapter):
    """The `requests` transport without its environment, cookies, redirects, proxies and retries."""

    def __init__(self, *, pool_size: int, context: ssl.SSLContext | None = None) -> None:
        self._pool_size = pool_size
        self._context = context
        self._pools: dict[tuple[str, str, int], HTTPConnectionPool] = {}
        self._lock = threading.Lock()
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        """Return the pool of the request's origin, making it at first use."""
        target: Target = request.target  # type: ignore[attr-defined]
        origin = (target.scheme, target.host, target.port)
        pool = self._pools.get(origin)
        if pool is None:
            with self._lock:
                pool = self._pools.get(origin) or self._make_pool(target)
                if len(self._pools) >= MAX_POOLS:
                    self._pools.pop(next(iter(self._pools))).close()
                self._pools[origin] = pool
        return pool

    def _make_pool(self, target: Target) -> HTTPConnectionPool:
        if target.scheme == "https":
            context = self._context or shared_tls_context()
            return _TlsPool(
                target.host, target.port, maxsize=self._pool_size, ssl_context=context, cert_reqs="CERT_REQUIRED"
            )
        return _PlainPool(target.host, target.port, maxsize=self._pool_size)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: the pool's context always verifies."""

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """Return path and query; there are no proxies."""
        return request.path_url

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Wrap the raw answer without cookies, history or guesses about its encoding."""
        response = Response()
        response.status_code = resp.status
        response.raw = resp
        response.headers = resp.headers
        response.url = req.url or ""
        response.request = req
        return response

    def close(self) -> None:
        """Close every pooled connection."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.close()
        super().close()
