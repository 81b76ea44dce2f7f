"""What every answer carries: a request id, and the headers Django has no setting for.

Owns: `X-Request-ID` in and out, `Permissions-Policy`. Guarantees: an incoming id is taken over only when it is short
and harmless, so it can stand in logs, headers and error documents as it is. Does not: log (django-structlog does).
"""

import re
import uuid
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

HEADER = "X-Request-ID"
_META = "HTTP_X_REQUEST_ID"
_ACCEPTED = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


def request_id(request: HttpRequest) -> str:
    """Return the request's id; empty before the middleware ran."""
    return str(request.META.get(_META, ""))


def _begin(request: HttpRequest) -> str:
    given = request.headers.get(HEADER, "")
    chosen = given if _ACCEPTED.fullmatch(given) else uuid.uuid4().hex
    # django-structlog reads the header, so that its lines carry the same id as the answer.
    request.META[_META] = chosen
    return chosen


def _finish(response: HttpResponseBase, chosen: str) -> None:
    response.headers[HEADER] = chosen
    response.headers.setdefault("Permissions-Policy", _PERMISSIONS_POLICY)


@sync_and_async_middleware
def every_answer(
    get_response: Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Give every request an id and every answer the headers (Django middleware, outermost)."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            chosen = _begin(request)
            response = await get_response(request)
            _finish(response, chosen)
            return response

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        chosen = _begin(request)
        response = get_response(request)
        _finish(response, chosen)
        return response

    return answer
