"""Server-Sent Events: the text of one stream, from where its client left off until it ends.

Guarantees: each event in the viewer's scope once; `id` is a cursor up to which everything was sent, so that a client
that hands it back misses nothing (what was sent beyond it may come again); a beat at least every `heartbeat_s`; rights
are looked at again while it runs; it ends by itself, and clients connect again. Does not: choose words (`Telling`).
"""

import asyncio
import functools
import json
import random
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from syncportal.kernel.clock import db_now
from syncportal.sync import feed
from syncportal.sync.live.door import CONTENT_TYPE
from syncportal.sync.live.hub import PER_PERSON, Behind, Hub, Stream, Viewer, hub, open_streams
from syncportal.sync.live.tail import Happening, told
from syncportal.sync.models import Event

RETRY: Final = "retry: 2000\n\n"
REPLAY: Final = 500


@dataclass(frozen=True, slots=True)
class Pace:
    """How often what happens, in seconds; a stream's life is drawn between the two ends."""

    heartbeat_s: float = 15.0
    renew_s: float = 60.0
    shortest_s: float = 15 * 60.0
    longest_s: float = 30 * 60.0


USUAL: Final = Pace()


class Telling(Protocol):
    """What one kind of client is told about events. `skips`: it needs no more than one page of the past."""

    skips: ClassVar[bool]

    def __call__(self, seen: Sequence[Happening], *, viewer: Viewer, cursors: Sequence[int]) -> str:
        """Return the frames for events in scope; `cursors` are the ids to resume from after each."""


Renew = Callable[[], Viewer | None]


def frame(data: Any, *, event: str = "", cursor: int | None = None) -> str:
    """Return one message."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)
    named = f"event: {event}\n" if event else ""
    return named + ("" if cursor is None else f"id: {cursor}\n") + f"data: {text}\n\n"


def beat(cursor: int) -> str:
    """Return the message that says nothing but that the line is alive, and how far the client is."""
    return f"event: beat\nid: {cursor}\ndata:\n\n"


class TooMany(Exception):
    """The person has as many streams open as one may; close some, or follow the feed."""


def answer(
    request: HttpRequest, viewer: Viewer, *, tell: Telling, renew: Renew, last: int | None
) -> HttpResponse | StreamingHttpResponse:
    """Return the answer that carries a stream; 204 where the server cannot hold one open (WSGI). Raises TooMany."""
    if not isinstance(request, ASGIRequest):
        return HttpResponse(status=204)  # a browser takes this for "do not ask again"
    if open_streams(viewer.user_id) >= PER_PERSON:
        raise TooMany
    connection.close()  # a stream lasts for minutes; the hub's one connection is enough for all of them
    response = StreamingHttpResponse(frames(viewer, last=last, tell=tell, renew=renew), content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


def last_seen(request: HttpRequest) -> int | None:
    """Return the cursor a client resumes from: the header a browser sends by itself, else `?last=`; None for now."""
    given = request.headers.get("Last-Event-ID") or request.GET.get("last", "")
    return int(given) if re.fullmatch(r"[0-9]{1,18}", given, re.ASCII) else None


async def frames(
    viewer: Viewer, *, last: int | None, tell: Telling, renew: Renew, pace: Pace = USUAL
) -> AsyncGenerator[str]:
    """Yield a stream's text from after the event `last` (None: from now)."""
    here, loop = hub(), asyncio.get_running_loop()
    ends = loop.time() + random.uniform(pace.shortest_s, pace.longest_s)
    yield RETRY
    async with here.joined(viewer) as stream:
        follower = _Follower(here, stream, viewer, tell)
        async for text in follower.past(last):
            yield text
        yield frame({}, event="ready", cursor=follower.cursor)
        spoke = renewed = loop.time()
        while (now := loop.time()) < ends:
            if now >= renewed + pace.renew_s:
                fresh = await here.ask(renew)
                if fresh is None:
                    return
                follower.viewer, renewed = fresh, now
            due = min(spoke + pace.heartbeat_s, renewed + pace.renew_s, ends)
            try:
                text = await follower.next(wait_s=max(0.0, due - loop.time()))
            except Behind:
                return
            if not text and loop.time() >= spoke + pace.heartbeat_s:
                text = beat(follower.cursor)
            if text:
                spoke = loop.time()
                yield text


@dataclass(slots=True)
class _Follower:
    """Where one stream stands."""

    hub: Hub
    stream: Stream
    viewer: Viewer
    tell: Telling
    cursor: int = 0
    told_to: int = 0
    replayed: frozenset[int] = frozenset()

    async def past(self, last: int | None) -> AsyncGenerator[str]:
        """Yield what happened after `last`; what is seen here beyond the hub's position is not told again."""
        since = self.stream.since
        if last is not None:
            # A client may come from another process that was ahead, or from a database that was emptied since.
            self.cursor = self.told_to = after = min(last, await self.hub.ask(feed.newest))
            more = True
            while more:
                page = await self.hub.ask(functools.partial(self._page, after))
                more = len(page) == REPLAY and not self.tell.skips
                after = page[-1].event.pk if page else after
                self.replayed |= {one.event.pk for one in page if one.event.pk > since}
                text = self._told(page, safe=since)
                self.cursor = max(self.cursor, min(after, since))
                if text:
                    yield text
        self.cursor = max(self.cursor, since)

    def _page(self, after: int) -> tuple[Happening, ...]:
        rows = Event.objects.filter(pk__gt=after)
        if not self.viewer.everything:
            rows = rows.in_scope_of(self.viewer.user_id)
        order = "-pk" if self.tell.skips else "pk"
        return told(list(rows.order_by(order).values_list("pk", flat=True)[:REPLAY]), now=db_now())

    async def next(self, *, wait_s: float) -> str:
        """Return the text of the next batch, "" when there is none or nothing in it is for this viewer."""
        batch = await self.stream.next(wait_s=wait_s)
        if batch is None:
            return ""
        known = self.replayed
        fresh = [one for one in batch.happenings if one.event.pk > self.told_to and one.event.pk not in known]
        text = self._told(fresh, safe=batch.safe)
        self.cursor = max(self.cursor, batch.safe)
        if known:
            self.replayed = frozenset(pk for pk in known if pk > self.cursor)
        return text

    def _told(self, happenings: Sequence[Happening], *, safe: int) -> str:
        mine = [one for one in happenings if self.viewer.sees(one)]
        cursors = [max(self.cursor, min(one.event.pk, safe)) for one in mine]
        return self.tell(mine, viewer=self.viewer, cursors=cursors) if mine else ""
