"""What every page listens to: a stream of "look again" and of the outcomes of one's own saves, or the same by asking.

Guarantees: only what is in the person's scope. Does not: carry content; pages ask for that where it is protected.
"""

from django.http import HttpRequest, HttpResponseBase, JsonResponse

from syncportal.kernel.clock import db_now
from syncportal.sync import feed
from syncportal.sync.live import stream, viewers
from syncportal.sync.live.door import CONTENT_TYPE
from syncportal.sync.live.news import PageNews, moved, outcomes
from syncportal.sync.live.tail import told
from syncportal.sync.models import Event

ASKED_FOR = 500


def wants_stream(request: HttpRequest) -> bool:
    """Return whether the asker is a browser's EventSource."""
    return CONTENT_TYPE in request.headers.get("Accept", "")


def view(request: HttpRequest) -> HttpResponseBase:
    """Answer with the stream, or to a page that cannot have one with what happened since `last`."""
    viewer, last = viewers.viewer_of(request.user), stream.last_seen(request)
    if not wants_stream(request):
        return _since(request, last)
    renew = viewers.renewed_by_session(request.session, viewer.user_id, staff=True)
    try:
        return stream.answer(request, viewer, tell=PageNews(), renew=renew, last=last)
    except stream.TooMany:
        return JsonResponse({"detail": "Too many pages of yours are open."}, status=429)


def _since(request: HttpRequest, last: int | None) -> HttpResponseBase:
    now = db_now()
    if last is None:
        return _json({"cursor": feed.horizon(now), "moved": None, "yours": []})
    page = feed.read(Event.objects.visible_to(request.user).only("pk"), after=last, limit=ASKED_FOR, now=now)
    seen = told([event.pk for event in page.events], now=now)
    yours = outcomes(seen, user_id=request.user.pk or 0)
    return _json(
        {"cursor": page.cursor, "moved": moved(seen) if seen else None, "yours": [one.as_json() for one in yours]}
    )


def _json(answer: dict[str, object]) -> JsonResponse:
    return JsonResponse(answer, headers={"Cache-Control": "no-store"})
