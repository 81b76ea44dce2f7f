"""History over HTTP: the sync log and the event feed."""

import re
from typing import ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from syncportal.access.paging import SIZE_PARAM, bad_cursor, page_size
from syncportal.access.views import ApiViews
from syncportal.kernel.clock import db_now
from syncportal.sync import feed
from syncportal.sync.api.filters import EventFilters, SyncLogFilters
from syncportal.sync.api.following import EventStreamRenderer, follow
from syncportal.sync.api.shapes import EventFeedShape, EventShape, SyncLogShape
from syncportal.sync.live.door import CONTENT_TYPE
from syncportal.sync.models import Event, SyncLog

_AFTER = "after"
_LATEST = "latest"
_LAST = "last"


class SyncLogViews(ApiViews):
    """The sync log, one entry an HTTP exchange."""

    queryset = SyncLog.objects.none()
    serializer_class = SyncLogShape
    filterset_class = SyncLogFilters

    def get_queryset(self) -> QuerySet[SyncLog]:
        """Return the exchanges that the caller may see."""
        return SyncLog.objects.visible_to(self.request.user).select_related("resource")

    @extend_schema(summary="HTTP exchanges, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of exchanges, redacted and capped as they were stored."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class EventViews(ApiViews):
    """The event feed, oldest first."""

    queryset = Event.objects.none()
    serializer_class = EventShape
    filterset_class = EventFilters
    pagination_class = None  # the feed has a cursor of its own kind
    extra_parameters: ClassVar = (_AFTER, _LAST)

    def get_queryset(self) -> QuerySet[Event]:
        """Return the events that the caller may see."""
        return Event.objects.visible_to(self.request.user).select_related("resource", "remote")

    @extend_schema(
        summary="The event feed",
        parameters=[
            OpenApiParameter(
                _AFTER,
                OpenApiTypes.STR,
                description="The `cursor` of the last answer; `latest` begins now; "
                "without it the feed begins with the oldest event.",
            ),
            OpenApiParameter(SIZE_PARAM, OpenApiTypes.INT),
        ],
        responses=EventFeedShape,
    )
    def list(self, request: Request) -> Response:
        """Return the events after a cursor, oldest first; whoever follows `cursor` sees every event exactly once."""
        visible = self.filter_queryset(self.get_queryset())
        size, now = page_size(request), db_now()
        after = request.query_params.get(_AFTER, "0")
        if after == _LATEST:
            return self._page(request, (), cursor=feed.horizon(now), more=False)
        if not re.fullmatch(r"[0-9]{1,18}", after, re.ASCII):
            raise bad_cursor(_AFTER)
        page = feed.read(visible, after=int(after), limit=size, now=now)
        return self._page(request, page.events, cursor=page.cursor, more=page.more)

    @extend_schema(
        summary="The event feed as it happens",
        description="Server-Sent Events: one message an event, `data` is an Event as in the feed, `id` the cursor to "
        "resume from, in `Last-Event-ID` or `last`; what was sent beyond it may come again. A message `beat` comes at "
        "least every 15 seconds. Streams end after 15 to 30 minutes; connect again. A person may have 20 open. 204 "
        "where the server cannot hold a stream open: follow the feed instead.",
        parameters=[
            OpenApiParameter(_LAST, OpenApiTypes.INT, description="As Last-Event-ID; without both the stream is new."),
            OpenApiParameter("Last-Event-ID", OpenApiTypes.INT, OpenApiParameter.HEADER),
        ],
        responses={(200, CONTENT_TYPE): OpenApiTypes.STR, 204: None},
    )
    @action(detail=False, url_path="stream", renderer_classes=[EventStreamRenderer, JSONRenderer])
    def stream(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        """Send the caller's events as they happen."""
        self.filter_queryset(self.get_queryset())  # refuses unknown parameters and bad values
        return follow(request)

    def _page(self, request: Request, events: tuple[Event, ...], *, cursor: int, more: bool) -> Response:
        url = replace_query_param(request.build_absolute_uri(), _AFTER, str(cursor))
        return Response(
            {
                "next": url if more else None,
                "previous": None,
                "cursor": str(cursor),
                "results": EventShape(events, many=True).data,
            }
        )
