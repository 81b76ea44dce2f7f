"""Shows times in the zone of the person who looks.

Owns: reading the cookie `zone` that the shell's script sets from the browser. Guarantees: a name that is no zone is
ignored; without a cookie the installation's zone holds. Does not: store anything.
"""

from collections.abc import Awaitable, Callable
from typing import cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware

COOKIE = "zone"

Sync = Callable[[HttpRequest], HttpResponseBase]
Async = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


def zone_of(request: HttpRequest) -> ZoneInfo | None:
    """Return the zone that the browser named, None without a usable one."""
    name = request.COOKIES.get(COOKIE, "")
    if not name or len(name) > 64:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@sync_and_async_middleware
def viewer_zone(get_response: Sync | Async) -> Sync | Async:
    """Make the viewer's zone the current one while the request runs (Django middleware)."""
    if iscoroutinefunction(get_response):
        below_async = cast(Async, get_response)

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            with timezone.override(zone_of(request)):
                return await below_async(request)

        return answer_async

    below = cast(Sync, get_response)

    def answer(request: HttpRequest) -> HttpResponseBase:
        with timezone.override(zone_of(request)):
            return below(request)

    return answer
