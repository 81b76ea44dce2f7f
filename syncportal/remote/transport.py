"""HTTP over those sockets: the `requests` adapter, its pools and connections.

Guarantees: a connection that idled long is never used, and a fresh one where the call asks for it; Host and SNI stay
those of the URL; nothing of a request is requoted, redirected, retried or completed. Does not judge answers: client.py
does.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from typing import Any, Final

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from syncportal.remote import sockets
from syncportal.remote.addresses import Target

# These loggers quote URLs, and a URL may hold a signed token.
for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

# Servers close idle connections after as little as 2 to 5 s; a write on one that is just being closed is in doubt.
MAX_IDLE_S: Final = 4.0
MAX_POOLS: Final = 8
_BROKEN_HEADERS: Final = (MissingHeaderBodySeparatorDefect, FirstHeaderLineIsContinuationDefect)


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
        sock = sockets.connect(self, self._dns_host, self.port)
        sock.wait_by_itself()
        return sock


class _Tls(_OneSend, HTTPSConnection):
    """An https connection through the address policy; the certificate is checked against the URL's host."""

    last_used_at = 0.0

    def _new_conn(self) -> socket.socket:
        return sockets.connect(self, self._dns_host, self.port)


class _PooledCalls:
    """What both pools add: never a connection that idled long, a fresh one where the call asks for it."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        call = sockets.current()
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
            context = self._context or sockets.shared_tls_context()
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
