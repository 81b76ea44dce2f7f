"""The event feed never skips an event, though ids are committed out of order."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from syncportal.sync import feed
from syncportal.sync.models import Event
from tests.api.world import World, happened

EVENTS = "/api/v1/events/"


def test_following_the_cursor_shows_every_event_once(world: World) -> None:
    ids = [happened(world.record).pk for _ in range(5)]
    happened(world.others)
    client = world.caller("owner")
    first = client.get(EVENTS, {"pageSize": 2}).json()
    assert [row["id"] for row in first["results"]] == ids[:2]
    assert set(first["results"][0]) == {
        "id",
        "at",
        "kind",
        "record",
        "resource",
        "remote",
        "actor",
        "data",
        "requestId",
    }
    second = client.get(first["next"]).json()
    third = client.get(EVENTS, {"after": second["cursor"]}).json()
    assert [row["id"] for row in second["results"] + third["results"]] == ids[2:]
    assert third["next"] is None
    assert client.get(EVENTS, {"after": third["cursor"]}).json()["results"] == []
    later = happened(world.record).pk
    assert [row["id"] for row in client.get(EVENTS, {"after": third["cursor"]}).json()["results"]] == [later]


def test_latest_begins_now(world: World) -> None:
    happened(world.record)
    client = world.caller("owner")
    begun = client.get(EVENTS, {"after": "latest"}).json()
    assert begun["results"] == []
    new = happened(world.record).pk
    assert [row["id"] for row in client.get(EVENTS, {"after": begun["cursor"]}).json()["results"]] == [new]


def test_filters(world: World) -> None:
    happened(world.record, "sync.failed")
    happened(world.others, "sync.succeeded")
    client = world.caller("operator")
    for query in ({"kind": "sync.failed"}, {"record": world.record.pk}):
        assert [row["kind"] for row in client.get(EVENTS, query).json()["results"]] == ["sync.failed"]


class Writer:
    """A transaction on a connection of its own, led step by step from the test."""

    def __init__(self, *, touch_first: bool) -> None:
        self.touch_first = touch_first
        self.began, self.insert, self.inserted, self.commit = (threading.Event() for _ in range(4))
        self.event_id = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with transaction.atomic():
                if self.touch_first:
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT pg_current_xact_id()")
                self.began.set()
                self.insert.wait(10)
                self.event_id = happened(None).pk
                self.inserted.set()
                self.commit.wait(10)
        finally:
            connection.close()

    def end(self) -> None:
        self.commit.set()
        self.thread.join(10)


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first_to_begin", ["early id", "late id"])
def test_an_event_that_is_committed_after_a_later_one_is_not_skipped(first_to_begin: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time: ids are committed in order")
    happened(None)
    now = timezone.now()
    order = [Writer(touch_first=True), Writer(touch_first=True)]
    # Whichever of the two transactions is the older one: comparing transaction ids alone misses one of the cases.
    early, late = order if first_to_begin == "early id" else order[::-1]
    for writer in order:
        assert writer.began.wait(10)
    early.insert.set()
    assert early.inserted.wait(10)
    late.insert.set()
    assert late.inserted.wait(10)
    assert early.event_id < late.event_id
    late.end()
    seen: list[int] = []
    page = feed.read(Event.objects.all(), after=0, limit=10, now=now)
    seen += [event.pk for event in page.events]
    assert late.event_id not in seen
    early.end()
    page = feed.read(Event.objects.all(), after=page.cursor, limit=10, now=now)
    seen += [event.pk for event in page.events]
    assert {early.event_id, late.event_id} <= set(seen)
    assert len(seen) == len(set(seen)) == Event.objects.count()


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_a_long_transaction_holds_back_new_events_only() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    now = timezone.now()
    old = happened(None, at=now - timedelta(minutes=5)).pk
    slow = Writer(touch_first=False)
    slow.insert.set()
    assert slow.inserted.wait(10)
    new = happened(None, at=now).pk
    page = feed.read(Event.objects.all(), after=0, limit=10, now=now)
    assert ([event.pk for event in page.events], page.cursor) == ([old], old)
    slow.end()
    page = feed.read(Event.objects.all(), after=page.cursor, limit=10, now=now)
    assert [event.pk for event in page.events] == [slow.event_id, new]


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_many_writers_at_once_lose_no_event_to_a_reader() -> None:
    failures: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(25):
                with transaction.atomic():
                    happened(None)
                    happened(None)
        except Exception as failure:
            failures.append(failure)
        finally:
            connection.close()

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    cursor = 0
    while True:
        last = not any(writer.is_alive() for writer in writers)
        page = feed.read(Event.objects.all(), after=cursor, limit=50, now=timezone.now())
        seen += [event.pk for event in page.events]
        cursor = page.cursor
        if last and not page.more and not page.events:
            break
    assert failures == []
    assert seen == sorted(Event.objects.values_list("pk", flat=True))
    assert len(seen) == 200
