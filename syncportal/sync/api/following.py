"""The event stream for programs: the events of the feed as they happen, as Server-Sent Events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from django.http import HttpResponse, StreamingHttpResponse
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from syncportal.access.models import ApiKey
from syncportal.access.problems import Problem
from syncportal.sync.api.shapes import EventShape
from syncportal.sync.live import stream, viewers
from syncportal.sync.live.door import CONTENT_TYPE
from syncportal.sync.live.hub import Viewer
from syncportal.sync.live.tail import Happening
from syncportal.sync.models import Event


class EventStreamRenderer(JSONRenderer):
    """Lets a client ask for a stream; errors are JSON all the same."""

    media_type = CONTENT_TYPE
    format = "events"


@dataclass(frozen=True, slots=True)
class WholeEvents:
    """Tells programs whole events, those that its filters let through, however old the cursor."""

    filters: Mapping[str, str]
    skips: ClassVar[bool] = False

    def __call__(self, seen: Sequence[Happening], *, viewer: Viewer, cursors: Sequence[int]) -> str:
        """Return one message an event."""
        return "".join(
            stream.frame(EventShape(one.event).data, cursor=cursor)
            for one, cursor in zip(seen, cursors, strict=True)
            if self._wanted(one.event)
        )

    def _wanted(self, event: Event) -> bool:
        has = {
            "kind": event.kind,
            "record": str(event.record_id),
            "resource": event.resource.slug if event.resource else "",
        }
        return all(value == "" or has.get(name, value) == value for name, value in self.filters.items())


def follow(request: Request) -> HttpResponse | StreamingHttpResponse:
    """Answer with the stream of the caller's events; raises Problem 429."""
    viewer, key = viewers.viewer_of(request.user), request.auth
    if isinstance(key, ApiKey):
        renew = viewers.renewed_by_key(key.pk, viewer.user_id)
    else:
        renew = viewers.renewed_by_session(request._request.session, viewer.user_id, staff=False)
    tell = WholeEvents(request.query_params.dict())
    try:
        return stream.answer(request._request, viewer, tell=tell, renew=renew, last=stream.last_seen(request._request))
    except stream.TooMany:
        detail = "You have too many streams open; close some, or follow the feed."
        raise Problem(429, "too_many_streams", detail, headers={"Retry-After": "60"}) from None
