"""Names what went wrong on the wire: from the state of a call and an exception to one RemoteError.

Guarantees: a failure before the first byte of the request left is Unreachable and definite; after it, a write may have
been applied. Pure.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from typing import Final

import requests
from urllib3 import exceptions as wire

from syncportal.remote.errors import InvalidResponse, Rejected, RemoteError, Timeout, Unreachable
from syncportal.remote.sockets import CallState

WIRE_ERRORS: Final = (wire.HTTPError, http.client.HTTPException, OSError, ValueError)
_TIMEOUTS: Final = (TimeoutError, requests.Timeout, wire.ReadTimeoutError)
_LOST: Final = (
    http.client.RemoteDisconnected,
    http.client.IncompleteRead,
    wire.IncompleteRead,
    ConnectionError,
    ssl.SSLError,
)
_NONSENSE: Final = (
    http.client.HTTPException,
    wire.InvalidHeader,
    wire.InvalidChunkLength,
    wire.HeaderParsingError,
    wire.ResponseNotChunked,
    ValueError,
)


def explain(error: Exception, call: CallState, *, is_write: bool, status: int | None = None) -> RemoteError:
    """Turn an exception from the wire into the RemoteError it means; `status` is that of an answer already begun."""
    chain = tuple(_chain(error))
    if not call.sent and (call.begun or not isinstance(error, requests.ReadTimeout)):
        return _never_sent(chain, call)
    if call.problem is not None:
        return InvalidResponse(f"{call.problem[1]}.", code=call.problem[0], status=status, maybe_applied=is_write)
    if call.timed_out or _any(chain, _TIMEOUTS):
        sentence = "The answer began but was not complete in time" if call.received else "No answer came in time"
        return Timeout(f"{sentence}.", code="timeout", status=status, maybe_applied=is_write)
    if not _any(chain, _LOST) and _any(chain, _NONSENSE):
        return InvalidResponse("The answer is not proper HTTP.", code="not_http", status=status, maybe_applied=is_write)
    sentence = "The connection broke in the middle of the answer" if call.received else "The connection broke"
    return Timeout(f"{sentence} after the request was sent.", code="connection_lost", status=status,
                   maybe_applied=is_write)  # fmt: skip


def _never_sent(chain: tuple[BaseException, ...], call: CallState) -> RemoteError:
    if call.problem is not None:
        code, sentence = call.problem
        if code == "address_refused":
            return Rejected(sentence, code=code)
        if code == "deadline":
            return Timeout(sentence, code=code)
        return Unreachable(sentence, code=code)
    for part in chain:
        if isinstance(part, ssl.SSLCertVerificationError):
            return Unreachable(f"The remote's TLS certificate is not valid: {part.verify_message}.", code="tls")
    if _any(chain, _TIMEOUTS):
        return Unreachable("The connection was not ready in time.", code="connect_timeout")
    if _any(chain, (ssl.SSLError, wire.SSLError, requests.exceptions.SSLError)):
        return Unreachable("No secure connection could be agreed with the remote.", code="tls")
    return Unreachable("The connection could not be made.", code="unreachable")


def _any(chain: tuple[BaseException, ...], kinds: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(part, kinds) for part in chain)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and everything it wraps: requests and urllib3 hide the cause in args, reason and cause."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        part = queue.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        inside = (*part.args, getattr(part, "reason", None), part.__cause__, part.__context__)
        queue.extend(found for found in inside if isinstance(found, BaseException))
