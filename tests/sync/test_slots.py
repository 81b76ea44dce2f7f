"""Reads beside the drain wait for their turn: for a slot, and for the rate."""

import threading
import time

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts
from syncportal.remote import limits
from syncportal.remote.client import Deadline
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import lane, pull
from syncportal.sync.slots import NoSlot, slots
from tests.factories import drain, edit, make_remote, make_resource, take

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


def most_at_once(master: DemoMaster) -> int:
    """Return how many calls the master was answering at the same time, at most."""
    calls = [(heard.at, 1) for heard in master.requests()]
    calls += [(heard.answered_at, -1) for heard in master.requests() if heard.answered_at is not None]
    at_once = [0]
    for _, step in sorted(calls):
        at_once.append(at_once[-1] + step)
    return max(at_once)


@pytest.mark.db
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_busy_drain_leaves_a_slot_to_whoever_waits(
    master: DemoMaster, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    monkeypatch.setattr(lane, "RENEW_S", 0.1)
    limit = {"concurrency": concurrency, "total_timeout_s": 5, "connect_timeout_s": 1}
    resource = make_resource(make_remote(master.api_url, limits=limit))
    master.reset((accounts(12 if concurrency == 1 else 30),))
    names = [row["id"] for row in master.store.spec("accounts").rows]
    for record in take(master, resource, *names):
        edit(record, city="Lund")
    master.latency_ms = 50

    def work() -> None:
        drain()
        connection.close()

    busy = threading.Thread(target=work)
    busy.start()
    while not master.requests():
        time.sleep(0.01)
    with slots(spec_for(resource).remote, want=1) as granted:
        pushed = len(master.writes())
        client_for(resource).read("ACC-0001", deadline=Deadline(5))
        at_once = most_at_once(master)
    assert pushed < len(names), "it did not have to wait for the drain's end"
    busy.join()
    drain()
    master.latency_ms = 0
    assert len(master.writes()) == len(names)
    assert (granted, at_once <= concurrency) == (1, True)
