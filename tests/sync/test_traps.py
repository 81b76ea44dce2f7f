"""Traps of real remotes that no other test is about, end to end against scripted answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from syncportal.remote.client import Deadline
from syncportal.remote.configuration import save_remote, save_resource
from syncportal.remote.gateway import client_for
from syncportal.sync import local, pull
from syncportal.sync.drain import drain
from syncportal.sync.events import WORKER
from syncportal.sync.models import Conflict, Record
from tests.remote.scripted import Scripted, scripted_server

pytestmark = pytest.mark.django_db(transaction=True)

SECOND = "2026-12-01T06:00:00Z"
ROW = {"id": "1", "title": "T", "city": "Malmö", "at": SECOND}
GUARDED = {"version": {"from": "body", "pointer": "/at"}, "precondition": {"send": "if_match"}}


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


def pulled(server: Scripted, *, remote: dict[str, Any] | None = None, **knobs: Any) -> Record:
    """Return the record of the only row of the list."""
    server.script.setdefault(("GET", "/things"), (200, [ROW]))
    stored = save_remote(slug="other", name="", base_url=server.base_url, config=remote or {}).row
    config = {"list": {"path": "/things"}, "detail": {"path": "/things/{0}"}, "id": ["/id"], **knobs}
    resource = save_resource(remote=stored, slug="things", name="", config=config).row
    assert pull.run(pull.start(resource).pk).created == 1
    return Record.objects.select_related("resource__remote", "job").get()


def writes(server: Scripted) -> list[str]:
    return [method for method, _, _ in server.asked if method != "GET"]


def test_a_second_edit_within_the_second_of_the_version_is_not_overwritten(server) -> None:
    record = pulled(server, **GUARDED)
    server.script[("GET", "/things/1")] = (200, {**ROW, "city": "Porto"})
    server.script[("PUT", "/things/1")] = (200, {**ROW, "title": "Ours"})
    local.save(local.Edit(record.pk, {"title": "Ours"}), actor=WORKER)
    drain()
    assert Conflict.objects.open().get().reason == "version_reuse"
    assert writes(server) == []


def test_an_etag_that_hashes_the_body_is_not_taken_for_the_version_in_it(server) -> None:
    record = pulled(server, **GUARDED)
    server.headers["ETag"] = 'W/"5d8c72"'
    server.script[("GET", "/things/1")] = (200, ROW)
    shown = client_for(record.resource).read("1", deadline=Deadline(5)).object
    assert (record.version, shown.version) == (SECOND, SECOND)


@pytest.mark.parametrize("knobs", [{}, GUARDED])
def test_a_known_object_that_is_gone_is_never_written_where_that_would_bring_it_back(server, knobs) -> None:
    record = pulled(server, **knobs)
    server.script[("PUT", "/things/1")] = (200, {**ROW, "title": "Ours"})
    local.save(local.Edit(record.pk, {"title": "Ours"}), actor=WORKER)
    drain()
    assert Conflict.objects.open().get().reason == "deleted_remote"
    assert writes(server) == []


def test_what_a_list_no_longer_shows_is_not_taken_for_deleted(server) -> None:
    record = pulled(server)
    server.script[("GET", "/things")] = (200, [])
    assert pull.run(pull.start(record.resource).pk).seen == 0
    record.refresh_from_db()
    assert (record.deleted_at, record.job.status) == (None, "SYNCED")


@pytest.mark.parametrize("media", ["application/vnd.api+json", "application/scim+json"])
def test_media_types_of_their_own_are_asked_for_sent_and_read(server, media) -> None:
    server.headers["Content-Type"] = f"{media}; charset=utf-8"
    record = pulled(server, remote={"content_type": media})
    server.script[("PUT", "/things/1")] = (200, {**ROW, "title": "New"})
    answer = (
        client_for(record.resource)
        .update("1", data={**ROW, "title": "New"}, base=ROW, expected_version=None, deadline=Deadline(5))
        .answer
    )
    assert answer.exchange.request_headers["Content-Type"] == media
    assert answer.exchange.request_headers["Accept"].startswith(media)
    assert answer.body["title"] == "New"
