"""Reads beside the drain wait for their turn: for a slot, and for the rate."""

import threading
import time

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.demo import DemoMaster
from syncportal.remote import limits
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import pull
from syncportal.sync.slots import NoSlot, slots
from tests.factories import make_remote, make_resource

pytestmark = pytest.mark.django_db(transaction=True)


def hold_all(resource: Resource) -> None:
    """Take every slot of the remote, as a drain does."""
    now = timezone.now()
    limits.lease(resource.remote_id, holder="drain", want=4, cap=4, per_second=None, now=now, ttl_s=60)


def test_a_pull_waits_for_the_slots_of_a_drain(master: DemoMaster) -> None:
    resource = make_resource(master)
    hold_all(resource)

    def finish() -> None:
        limits.release("drain")
        connection.close()

    timer = threading.Timer(0.3, finish)
    timer.start()
    assert pull.run(pull.start(resource).pk).state == "done"
    timer.join()


def test_whoever_waits_too_long_is_told(master: DemoMaster) -> None:
    resource = make_resource(master)
    hold_all(resource)
    with pytest.raises(NoSlot, match="in use"), slots(spec_for(resource).remote, want=1, wait_s=0):
        raise AssertionError("no slot was free")


def test_a_pull_keeps_to_the_rate(master: DemoMaster) -> None:
    limit = {"concurrency": 4, "per_second": 4, "total_timeout_s": 1, "connect_timeout_s": 1}
    resource = make_resource(make_remote(master.api_url, limits=limit))
    pull.run(pull.start(resource).pk)
    begun = time.monotonic()
    pull.run(pull.start(resource).pk)
    assert time.monotonic() - begun >= 0.2, "the first call spent what had gathered; the next waits for its turn"
