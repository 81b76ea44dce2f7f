"""Remotes that read and write an object in different shapes, and lists that show it in a third."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from syncportal.remote.configuration import save_remote, save_resource
from syncportal.remote.models import Resource
from syncportal.sync import local, pull, refresh
from syncportal.sync.drain import drain
from syncportal.sync.events import WORKER
from syncportal.sync.models import Record
from tests.remote.scripted import Scripted, scripted_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


def stored(server: Scripted, config: dict[str, Any]) -> Resource:
    remote = save_remote(slug="other", name="", base_url=server.base_url, config={}).row
    return save_resource(remote=remote, slug="things", name="", config=config).row


def test_a_list_that_shows_fewer_read_only_places_than_a_read_changes_nothing(server) -> None:
    row = {"id": "1", "title": "T", "rev": 3}
    config = {
        "detail": {"path": "/things/{0}"}, "id": ["/id"],
        "list": {"path": "/things", "items": "/value"},
        "version": {"from": "body", "pointer": "/rev"},
        "read_only": ["/meta*"],
    }  # fmt: skip
    server.script = {
        ("GET", "/things"): (200, {"value": [row]}),
        ("GET", "/things/1"): (200, {**row, "metadata": "$metadata#things/@Element"}),
    }
    resource = stored(server, config)
    pull.run(pull.start(resource).pk)
    record = Record.objects.get()
    refresh.refresh(record.pk, resource=resource, actor=WORKER)
    known = Record.objects.get()
    assert "metadata" in known.data
    again = pull.run(pull.start(resource).pk)
    assert (again.unchanged, again.updated) == (1, 0)
    assert Record.objects.get().revision == known.revision
    server.script["GET", "/things"] = (200, {"value": [{**row, "title": "New", "rev": 4}]})
    assert pull.run(pull.start(resource).pk).updated == 1


SITED = {
    "list": {"path": "/things"}, "detail": {"path": "/things/{0}"}, "id": ["/id"], "update": {"method": "PATCH"},
    "read_only": ["/site", "/seen"], "write_map": {"/site/id": "/site_id"},
}  # fmt: skip


def test_a_place_that_is_written_elsewhere_can_be_edited_although_it_is_read_only_there(server) -> None:
    before = {"id": "1", "title": "T", "site": {"id": 1, "name": "A"}, "seen": 5}
    after = {**before, "site": {"id": 2, "name": "B"}}
    server.script = {
        ("GET", "/things"): (200, [before]), ("GET", "/things/1"): (200, before), ("PATCH", "/things/1"): (200, after),
    }  # fmt: skip
    pull.run(pull.start(stored(server, SITED)).pk)
    record = Record.objects.get()
    for refused in ({"site": {"name": "B"}}, {"site": {"id": 2, "name": "B"}}, {"seen": 6}):
        with pytest.raises(local.InvalidEdit):
            local.save(local.Edit(record.pk, refused), actor=WORKER)
    local.save(local.Edit(record.pk, {"site": {"id": 2}}), actor=WORKER)
    drain()
    assert [json.loads(body) for method, _, body in server.asked if method == "PATCH"] == [{"site_id": 2}]
    known = Record.objects.get()
    assert (known.job.status, known.data["site"]) == ("SYNCED", {"id": 2, "name": "B"})


def test_a_new_object_may_fill_in_what_is_written_elsewhere_and_nothing_beside_it(server) -> None:
    made = {"id": "2", "title": "T", "site": {"id": 2, "name": "B"}, "seen": 0}
    server.script = {("POST", "/things"): (201, made)}
    resource = stored(server, SITED)
    with pytest.raises(local.InvalidEdit):
        local.create(resource, {"title": "T", "site": {"id": 2, "name": "B"}}, actor=WORKER, owner_id=None)
    local.create(resource, {"title": "T", "site": {"id": 2}}, actor=WORKER, owner_id=None)
    drain()
    assert [json.loads(body) for _, _, body in server.asked] == [{"title": "T", "site_id": 2}]
    assert Record.objects.get().external_id == "2"
