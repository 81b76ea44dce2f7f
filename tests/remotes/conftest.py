"""Kinto and PocketBase, each started once per module, and a resource configured against them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from syncportal.remote.models import Resource
from syncportal.sync.events import Actor
from tests.remotes.servers import Server, running

Configured = Callable[[str], Resource]


@pytest.fixture(scope="module", params=["kinto", "pocketbase"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Run one of the servers with its 120 records."""
    with running(request.param, path="/v1" if request.param == "kinto" else "") as started:
        yield started


@pytest.fixture
def configured(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Configured:
    """Return a function that configures the server under an address, its own or a proxy's."""
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    monkeypatch.setenv("TEST_KINTO_CREDENTIAL", "admin:s3cret")
    monkeypatch.setenv("TEST_POCKETBASE_TOKEN", server.token)

    def configure(base_url: str) -> Resource:
        text = (Path(__file__).parent / "remotes.yaml").read_text()
        file = tmp_path / "remotes.yaml"
        file.write_text(text.replace("KINTO_URL", base_url).replace("POCKETBASE_URL", base_url))
        call_command("configure", str(file), verbosity=0)
        return Resource.objects.select_related("remote").get(slug=f"{server.name}-shifts")

    return configure


@pytest.fixture
def resource(server: Server, configured: Configured) -> Resource:
    """Return the server's shifts."""
    return configured(server.base_url)


@pytest.fixture
def somebody() -> Actor:
    """Return a person who acts."""
    person = User.objects.create_user("somebody")
    return Actor("user", person.pk, "somebody")
