"""Clients for the demo master without a database: a resource's configuration in, a ResourceClient out."""

from typing import Any

from syncportal.demo import DemoMaster
from syncportal.remote.auth import Credentials
from syncportal.remote.client import Deadline
from syncportal.remote.configuration import validate_remote_config, validate_resource_config
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.models import Remote, Resource
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec, compile_spec

MOST_PAGES = 40


def spec_of(
    config: dict[str, Any], *, base_url: str = "http://master.test", guarantees: Any = None, **remote: Any
) -> ResourceSpec:
    """Compile a resource that is stored nowhere; refuses configuration that could not be saved."""
    assert validate_resource_config(config) == []
    assert validate_remote_config(remote) == []
    row = Remote(slug="master", base_url=base_url, config=remote)
    return compile_spec(Resource(slug="things", remote=row, config=config, guarantees=guarantees or {}), remote=row)


def client_of(config: dict[str, Any], *, base_url: str, secret: str = "", **remote: Any) -> ResourceClient:
    """Return a client; `remote` are the keys of the remote's configuration."""
    spec = spec_of(config, base_url=base_url, **remote)
    return ResourceClient(spec, credentials=Credentials(spec=spec.remote, secret=secret))


def read_all(client: ResourceClient, **options: Any) -> list[RemoteObject]:
    """Read a whole list page by page."""
    found: list[RemoteObject] = []
    cursor = None
    for _ in range(MOST_PAGES):
        page = client.list_page(cursor, deadline=Deadline(10), **options)
        assert page.problems == ()
        found += page.objects
        cursor = page.next
        if cursor is None:
            return found
    raise AssertionError("the list does not end")


def contents(master: DemoMaster, collection: str) -> dict[str, dict[str, Any]]:
    """Return what the demo master holds, by id."""
    spec = master.store.spec(collection)
    return {"|".join(str(row[name]) for name in spec.id_fields): row for row in master.store.all(collection)}
