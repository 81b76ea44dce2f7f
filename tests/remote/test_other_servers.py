"""Ways of real servers that were met when one was tried and that the demo master does not have."""

from collections.abc import Iterator
from typing import Any

import pytest

from syncportal.demo import DemoMaster, accounts
from syncportal.remote import probe, writing
from syncportal.remote.client import Deadline
from syncportal.remote.configuration import save_remote, save_resource
from syncportal.remote.models import Resource
from tests.remote.masters import client_of, contents, spec_of
from tests.remote.scripted import Scripted, scripted_server

BASE: dict[str, Any] = {"detail": {"path": "/things/{0}"}, "id": ["/id"]}


@pytest.fixture(autouse=True)
def loopback_allowed(settings) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


def stored(base_url: str, config: dict[str, Any]) -> Resource:
    remote = save_remote(slug="other", name="", base_url=base_url, config={}).row
    return save_resource(remote=remote, slug="things", name="", config=config).row


def created(**knobs: Any) -> Any:
    spec = spec_of({**BASE, **knobs})
    return writing.create_payload(spec, {"a": 1}, external_id=None)


def test_a_create_template_with_the_data_is_the_whole_body() -> None:
    updating = {"wrap": ["update"], "constant": {"/return": True}}
    template = {"rows": ["{data}"], "return": True}
    assert created(update=updating, create={"body": template}) == {"rows": [{"a": 1}], "return": True}


def test_a_create_template_without_the_data_is_added_to_what_an_update_sends() -> None:
    assert created(update={"wrap": ["thing"]}, create={"body": {"notify": False}}) == {
        "notify": False,
        "thing": {"a": 1},
    }


@pytest.mark.parametrize(("as_read", "sent"), [(7, "7"), ("7", '"7"')])
def test_an_id_in_a_body_has_the_type_that_the_remote_shows(server, as_read, sent) -> None:
    config = {
        **BASE,
        "update": {"path": "/things", "method": "PATCH", "wrap": ["records", "[]"], "id_in_body": {"/records/0/id": 0}},
        "delete": {"path": "/things/delete", "method": "POST", "body": ["{0}"]},
    }  # fmt: skip
    server.script = {("PATCH", "/things"): (200, "null"), ("POST", "/things/delete"): (200, "null")}
    client, base = client_of(config, base_url=server.base_url), {"id": as_read, "a": 1}
    client.update("7", data={**base, "a": 2}, base=base, expected_version=None, deadline=Deadline(5))
    client.delete("7", expected_version=None, base=base, deadline=Deadline(5))
    assert [body for _, _, body in server.asked] == [f'{{"records":[{{"a":2,"id":{sent}}}]}}', f"[{sent}]"]


@pytest.mark.django_db(transaction=True)
def test_a_probe_cleans_up_an_object_with_our_own_id_that_the_answer_does_not_name() -> None:
    with DemoMaster([accounts(3, create="client", write_answer="empty")]) as master:
        before = contents(master, "accounts")
        config = {
            "list": {"path": "/accounts/", "items": "/items"}, "detail": {"path": "/accounts/{0}"}, "id": ["/id"],
            "version": {"from": "body", "pointer": "/version"}, "precondition": {"send": "if_match"},
            "create": {"id": "client", "method": "PUT", "path": "/accounts/{0}"}, "read_only": ["/updated_at"],
        }  # fmt: skip
        card = probe.run(stored(master.api_url, config), write=True)
        assert (card["problems"], card["leftover"]) == ([], [])
        assert card["scratch"].startswith("probe-")
        assert contents(master, "accounts") == before


def test_a_probe_makes_the_key_of_a_look_up_by_filter_unlike_any_other() -> None:
    config = {**BASE, "list": {"path": "/things"}, "create": {"lookup": {"filter": 'name eq "{/name}"'}}}
    prober = probe.Prober(client_of(config, base_url="http://127.0.0.1:1"))
    scratch = prober.scratch_data({"id": "1", "about": "A", "name": "N"})
    assert scratch["about"] == "A"
    assert scratch["name"] not in ("N", "")


def test_a_probe_leaves_natural_keys_alone_and_copies_what_is_written_elsewhere() -> None:
    config = {
        **BASE, "list": {"path": "/things"}, "create": {"lookup": {"name": "/attributes/name"}},
        "read_only": ["/attributes"],
        "write_map": {f"/attributes/{name}": f"/{name}" for name in ("mail", "name", "zone")},
    }  # fmt: skip
    prober = probe.Prober(client_of(config, base_url="http://127.0.0.1:1"))
    data = {"id": "1", "attributes": {"mail": "a@example.org", "name": "ann", "roles": "User", "zone": "UTC"}}
    scratch = prober.scratch_data(data)["attributes"]
    assert set(scratch) == {"mail", "name", "zone"}
    assert scratch["name"] != "ann"
    assert prober._changed(data, turn=1)["attributes"]["zone"] == "UTC p1"
