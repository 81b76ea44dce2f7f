"""Lists that show an object otherwise than a single read does."""

from collections.abc import Iterator

import pytest

from syncportal.remote.configuration import save_remote, save_resource
from syncportal.sync import pull, refresh
from syncportal.sync.events import WORKER
from syncportal.sync.models import Record
from tests.remote.scripted import Scripted, scripted_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


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
    remote = save_remote(slug="other", name="", base_url=server.base_url, config={}).row
    resource = save_resource(remote=remote, slug="things", name="", config=config).row
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
