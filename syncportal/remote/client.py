"""One HTTP exchange with a remote, start to end.

    client = HttpClient(limits=HttpLimits(pool_size=16), secrets=(password,))
    answer = client.send(HttpRequest(method="GET", url=url, purpose="read"), deadline=Deadline(10))

Owns the order of things in a call and the judgement of what came back. Guarantees: it ends by the deadline; it never
runs inside a database transaction; it goes only where the address policy allows; it follows no redirect; it returns
an Answer for a 2xx whose body is strict JSON and raises a RemoteError for everything else, with the redacted Exchange
on both; `maybe_applied` is False only when no byte of a write left or a definite 4xx came. Thread-safe, pooled. Only
exchanges are redacted: an Answer's body and headers are the remote's own and must not be logged. Does not
authenticate, build URLs, know resources, or retry: only a read that met a pooled connection which its server had just
closed is sent once more.
"""

from __future__ import annotations

import copy
import random
import re
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import requests
from django.conf import settings

from syncportal.kernel import correlation, strict_json, tx
from syncportal.kernel.redaction import DEFAULT_CAP, Redactor
from syncportal.remote import bodies, failures, sockets, transport
from syncportal.remote.addresses import AddressPolicy, AddressRefused, Target, parse_url
from syncportal.remote.errors import (
    DEFAULT_RULES,
    InvalidResponse,
    Refusal,
    Rejected,
    RemoteError,
    StatusRules,
    classify,
)
from syncportal.remote.payloads import EMPTY, Answer, Exchange, Headers
from syncportal.remote.sockets import Deadline

__all__ = ["Deadline", "HttpClient", "HttpLimits", "HttpRequest"]

MIB: Final = 1024 * 1024
REFUSAL_BYTES: Final = 256 * 1024
_DEFAULT_HEADERS: Final = {
    "Accept": "application/json, */*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "SyncPortal",
}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_HEADER_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How much of everything one call may take; `max_body_bytes` counts after decompression."""

    pool_size: int = 16
    connect_timeout_s: float = 3.0
    max_wire_bytes: int = 8 * MIB
    max_body_bytes: int = 32 * MIB
    max_header_bytes: int = 128 * 1024
    max_depth: int = strict_json.MAX_DEPTH
    stored_body_bytes: int = DEFAULT_CAP


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send: `url` goes out as given, `rules` say what the statuses mean, `purpose` names the call in the log.

    `lenient` takes a 2xx whose body is not JSON as one without a body. `request_id` defaults to the current
    correlation id.
    """

    method: str
    url: str
    purpose: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_write: bool = False
    rules: StatusRules = DEFAULT_RULES
    had_precondition: bool = False
    lenient: bool = False
    request_id: str = ""


class HttpClient:
    """Sends requests to one remote over one pool of connections."""

    def __init__(
        self,
        *,
        limits: HttpLimits | None = None,
        secrets: Iterable[str] = (),
        secret_names: Iterable[str] = (),
        allowed_networks: Iterable[str] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Take the secrets to keep out of every exchange; `context` replaces the verifying TLS context in tests."""
        self.limits = limits or HttpLimits()
        self._policy = AddressPolicy(settings.REMOTE_ALLOWED_NETWORKS if allowed_networks is None else allowed_networks)
        self._redactor = Redactor(secrets=secrets, names=secret_names, cap=self.limits.stored_body_bytes)
        self._adapter = transport.Adapter(pool_size=self.limits.pool_size, context=context)

    def with_secrets(self, *secrets: str) -> HttpClient:
        """Return a client on the same connections that keeps further secrets out of its exchanges."""
        other = copy.copy(self)
        other._redactor = self._redactor.with_secrets(*secrets)
        return other

    def close(self) -> None:
        """Close the pooled connections."""
        self._adapter.close()

    def send(self, request: HttpRequest, *, deadline: Deadline) -> Answer:
        """Make one exchange; raises a RemoteError, or OpenTransaction when a database transaction is open."""
        tx.assert_outside_transaction()
        record = _Recorder(request, self._redactor)
        try:
            return self._exchange(request, record, deadline=deadline)
        except RemoteError as error:
            # Every sentence may quote the remote or the URL, so all of them pass the redactor.
            error.detail = self._redactor.line(error.detail)
            error.args = (error.detail,)
            error.exchange = record.finish(error=error)
            if error.answer is None and record.has_parsed and error.status is not None:
                error.answer = Answer(error.status, record.headers, record.parsed, error.exchange)
            raise

    def _exchange(self, request: HttpRequest, record: _Recorder, *, deadline: Deadline) -> Answer:
        prepared = self._prepare(request, record)
        call, response = self._send_fresh_if_stale(request, prepared, deadline=deadline)
        record.answered(response)
        if not 200 <= record.status < 300:
            raise self._refused(request, record, response, call)
        body = self._body(request, record, response, call)
        record.body = body
        try:
            parsed = strict_json.loads(body, max_bytes=self.limits.max_body_bytes, max_depth=self.limits.max_depth)
        except strict_json.StrictJsonError as error:
            if error.code != "empty" and not request.lenient:
                raise InvalidResponse(
                    f"The remote answered {record.status}, but its body is not usable JSON: {error.message}.",
                    code="not_json" if error.code == "syntax" else error.code,
                    status=record.status,
                    maybe_applied=request.is_write,
                ) from None
            parsed = EMPTY
        else:
            record.parsed, record.has_parsed = parsed, True
        return Answer(record.status, record.headers, parsed, record.finish())

    def _prepare(self, request: HttpRequest, record: _Recorder) -> transport.Prepared:
        headers = {**_DEFAULT_HEADERS, **request.headers}
        headers["X-Request-ID"] = request.request_id or correlation.current() or f"{random.getrandbits(128):032x}"
        if request.body is not None or request.method not in ("GET", "HEAD", "DELETE"):
            headers["Content-Length"] = str(len(request.body or b""))
        record.request_headers = headers
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or _BAD_HEADER_VALUE.search(value):
                raise Rejected(f"The header {name!r} holds characters that cannot be sent.", code="unsendable")
        return transport.Prepared(
            method=request.method, url=request.url, target=self.target(request.url), headers=headers, body=request.body
        )

    @staticmethod
    def target(url: str) -> Target:
        """Check a URL without connecting; raises Rejected with code address_refused."""
        try:
            return parse_url(url)
        except AddressRefused as error:
            raise Rejected(error.detail, code="address_refused") from None

    def _send_fresh_if_stale(
        self, request: HttpRequest, prepared: transport.Prepared, *, deadline: Deadline
    ) -> tuple[sockets.CallState, requests.Response]:
        fresh = False
        while True:
            call = sockets.CallState(
                deadline=deadline,
                connect_timeout_s=self.limits.connect_timeout_s,
                policy=self._policy,
                header_limit=self.limits.max_header_bytes,
                fresh=fresh,
            )
            sockets.begin(call)
            try:
                return call, self._send_once(prepared, call)
            except (requests.RequestException, OSError, ValueError) as error:
                stale = call.reused and call.received == 0 and not call.timed_out and not deadline.over
                if stale and not request.is_write and not fresh:
                    fresh = True
                    continue
                # The library's exception quotes the URL with its secrets, so it must not show in a traceback.
                raise failures.explain(error, call, is_write=request.is_write) from None
            finally:
                sockets.end()

    def _send_once(self, prepared: transport.Prepared, call: sockets.CallState) -> requests.Response:
        if call.deadline.over:
            call.problem = ("deadline", "The time for this call was over before it began.")
            raise OSError("no time left")
        # The adapter is called directly: a Session adds cookies, redirects, hooks and environment, all unwanted here.
        left = call.deadline.left()
        response = self._adapter.send(prepared, stream=True, timeout=(call.connect_timeout_s, left), proxies={})
        call.headers_are_complete()
        if call.ended_early or transport.malformed(response):
            response.raw.close()
            if not call.ended_early:
                call.problem = ("not_http", "The answer's headers are malformed")
            raise ConnectionResetError("the headers are not complete")
        return response

    def _body(
        self, request: HttpRequest, record: _Recorder, response: requests.Response, call: sockets.CallState
    ) -> bytes:
        sockets.begin(call)
        clean = False
        try:
            wire = bodies.read_limited(response.raw, max_wire_bytes=self.limits.max_wire_bytes)
            clean = True
            return bodies.decompress(
                wire, encoding=record.headers.get("content-encoding", ""), max_bytes=self.limits.max_body_bytes
            )
        except bodies.BadBody as error:
            raise InvalidResponse(
                f"The remote answered {record.status}, but {error.detail}.",
                code=error.code,
                status=record.status,
                maybe_applied=request.is_write,
            ) from None
        except (requests.RequestException, *failures.WIRE_ERRORS) as error:
            raise failures.explain(error, call, is_write=request.is_write, status=record.status) from None
        finally:
            _finish(response, reusable=clean)
            sockets.end()

    def _refused(
        self, request: HttpRequest, record: _Recorder, response: requests.Response, call: sockets.CallState
    ) -> RemoteError:
        self._read_refusal(record, response, call)
        text = self._redactor.body(record.body)
        refusal = Refusal(
            headers=record.headers,
            body=record.parsed,
            excerpt=bodies.quote_refusal(record.parsed, text),
            is_write=request.is_write,
            had_precondition=request.had_precondition,
        )
        error = classify(record.status, refusal, now=datetime.now(UTC), rules=request.rules)
        if error is None:
            raise AssertionError("a 2xx answer is no refusal")
        return error

    def _read_refusal(self, record: _Recorder, response: requests.Response, call: sockets.CallState) -> None:
        """Read what a refusal says; the status stands whatever is wrong with its body."""
        sockets.begin(call)
        clean = False
        try:
            # Another answer follows an informational one, so its connection cannot be used again.
            if record.status >= 200:
                wire = bodies.read_limited(response.raw, max_wire_bytes=REFUSAL_BYTES)
                clean = True
                encoding = record.headers.get("content-encoding", "")
                record.body = bodies.decompress(wire, encoding=encoding, max_bytes=REFUSAL_BYTES * 4)
                record.parsed = strict_json.loads(record.body, max_depth=self.limits.max_depth)
                record.has_parsed = True
        except (bodies.BadBody, strict_json.StrictJsonError, requests.RequestException, *failures.WIRE_ERRORS):
            pass
        finally:
            _finish(response, reusable=clean)
            sockets.end()


def _finish(response: requests.Response, *, reusable: bool) -> None:
    """Give the connection back, or close it when something of the answer may still be on the wire."""
    if reusable:
        response.raw.release_conn()
    else:
        response.raw.close()


class _Recorder:
    """Collects what becomes the Exchange of one call."""

    __slots__ = ("body", "has_parsed", "headers", "parsed", "redactor", "request", "request_headers", "response",
                 "started", "started_at", "status")  # fmt: skip

    def __init__(self, request: HttpRequest, redactor: Redactor) -> None:
        self.request = request
        self.redactor = redactor
        self.started_at = datetime.now(UTC)
        self.started = time.monotonic()
        self.request_headers: Mapping[str, str] = request.headers
        self.response: Mapping[str, str] = {}
        self.headers: Mapping[str, str] = Headers()
        self.status = 0
        self.body: bytes | None = None
        self.parsed: Any = None
        self.has_parsed = False

    def answered(self, response: requests.Response) -> None:
        """Take over status and headers."""
        self.status = response.status_code
        self.response = dict(response.headers.items())
        self.headers = Headers(self.response)

    def finish(self, *, error: RemoteError | None = None) -> Exchange:
        """Build the redacted and capped exchange."""
        redactor = self.redactor
        return Exchange(
            purpose=self.request.purpose,
            method=self.request.method,
            url=redactor.url(self.request.url),
            request_headers=redactor.headers(self.request_headers),
            request_body=redactor.body(self.request.body),
            status=self.status or None,
            response_headers=redactor.headers(self.response),
            response_body=redactor.body(self.body, parsed=self.parsed),
            response_bytes=len(self.body or b""),
            started_at=self.started_at,
            duration_ms=round((time.monotonic() - self.started) * 1000),
            error="" if error is None else error.kind.value,
            error_detail="" if error is None else error.detail,
        )
