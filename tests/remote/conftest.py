"""A client that may call this machine and has a secret to keep, and a remote to share."""

import pytest

from syncportal.remote.client import HttpClient
from syncportal.remote.models import Remote
from tests.remote.calling import LOOPBACK


@pytest.fixture
def client():
    """Yield a client that is closed afterwards."""
    made = HttpClient(allowed_networks=LOOPBACK, secrets=["s3cret-value"])
    yield made
    made.close()


@pytest.fixture
def remote(transactional_db):
    """Return the id of a remote."""
    return Remote.objects.create(slug="ops", base_url="http://127.0.0.1:1").pk
