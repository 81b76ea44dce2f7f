"""A slice pays for every request that it causes, and keeps nothing that it did not use."""

import time

import pytest

from reconciliation.pace import Pace
from syncportal.demo import DemoMaster
from syncportal.remote.client import Deadline
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Gate
from tests.factories import make_remote, make_resource

pytestmark = pytest.mark.django_db(transaction=True)


def test_calls_beyond_those_granted_are_paid_and_tokens_left_come_back(master: DemoMaster) -> None:
    limit = {"concurrency": 4, "per_second": 10, "total_timeout_s": 1, "connect_timeout_s": 1}
    client = client_for(make_resource(make_remote(master.api_url, limits=limit)))
    with Pace(client.spec.remote, client, want=1) as pace:
        pace.calls(1)
        client.read("ACC-0001", deadline=Deadline(5))
    gate = Gate.objects.get(pk=client.spec.remote.remote_id)
    assert gate.tokens == pytest.approx(9)
    with Pace(client.spec.remote, client, want=1) as pace:
        pace.calls(1)
        for _ in range(14):
            client.read("ACC-0001", deadline=Deadline(5))
        begun = time.monotonic()
        pace.calls(1)
        assert time.monotonic() - begun > 0.1, "14 calls were sent where 10 had gathered"
