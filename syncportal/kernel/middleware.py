"""What every answer carries: a request id, and the headers Django has no setting for.

Owns: `X-Request-ID` in and out, `Permissions-Policy`. Guarantees: an incoming id is taken over only when it is short
and harmless, so it can stand in logs, headers and error documents as it is. Does not: log (django-structlog does).
"""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from syncportal.kernel import correlation

HEADER = "X-Request-ID"
_META = "HTTP_X_REQUEST_ID"
_PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


def request_id(request: HttpRequest) -> str:
    """Return the request's id; empty before the middleware ran."""
    return str(request.META.get(_META, ""))


def _begin(request: HttpRequest) -> str:
    chosen = correlation.accept(request.META.get(_META))
    # django-structlog reads the header, so that its lines carry the same id as the answer.
    request.META[_META] = chosen
    return chosen


def _finish(response: HttpResponseBase, chosen: str) -> None:
    response.headers[HEADER] = chosen
    response.headers.setdefault("Permissions-Policy", _PERMISSIONS_POLICY)


Sync = Callable[[HttpRequest], HttpResponseBase]
Async = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def every_answer(get_response: Sync | Async) -> Sync | Async:
    """Give every request an id and every answer the headers (Django middleware, outermost)."""
    if iscoroutinefunction(get_response):
        below_async = cast(Async, get_response)

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            chosen = _begin(request)
            with correlation.correlated(chosen):
                response = await below_async(request)
            _finish(response, chosen)
            return response

        return answer_async

    below = cast(Sync, get_response)

    def answer(request: HttpRequest) -> HttpResponseBase:
        chosen = _begin(request)
        with correlation.correlated(chosen):
            response = below(request)
        _finish(response, chosen)
        return response

    return answer
