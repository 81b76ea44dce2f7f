"""Reads beside the drain wait for their turn: for a slot, and for the rate."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts
from syncportal.remote import limits
from syncportal.remote.client import Deadline
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Gate, Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import lane, pull, refresh, transitions
from syncportal.sync.models import SyncJob
from syncportal.sync.slots import NoSlot, slots
from tests.factories import ACCOUNTS, PERSON, config_of, drain, edit, make_remote, make_resource, take

pytestmark = pytest.mark.django_db(transaction=True)


def hold_all(resource: Resource) -> None:
    """Take every slot of the remote, as a drain does."""
    now = timezone.now()
    limits.lease(resource.remote_id, holder="drain", want=4, cap=4, per_second=None, now=now, ttl_s=60)


def test_a_pull_waits_for_the_slots_of_a_drain(master: DemoMaster) -> None:
    resource = make_resource(master)
    hold_all(resource)

    def finish() -> None:
        limits.release("drain", remote_id=resource.remote_id)
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
    limits.lease(resource.remote_id, holder="busy", want=1, cap=4, per_second=4, now=timezone.now())
    limits.release("busy", remote_id=resource.remote_id)
    begun = time.monotonic()
    pull.run(pull.start(resource).pk)
    assert time.monotonic() - begun >= 0.2, "another spent what had gathered; the next waits for its turn"


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


@pytest.mark.db
def test_a_drain_beside_another_leaves_a_slot_to_whoever_waits(
    master: DemoMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "RENEW_S", 0.1)
    resource = make_resource(master)
    master.reset((accounts(40),))
    names = [row["id"] for row in master.store.spec("accounts").rows]
    for record in take(master, resource, *names):
        edit(record, city="Lund")
    limits.lease(resource.remote_id, holder="another drain", want=2, cap=4, per_second=None, now=timezone.now())
    master.latency_ms = 50

    def work() -> None:
        drain()
        connection.close()

    busy = threading.Thread(target=work)
    busy.start()
    while not master.requests():
        time.sleep(0.01)
    with slots(spec_for(resource).remote, want=4) as granted:
        pushed = len(master.writes())
    assert (granted, pushed < len(names)) == (1, True), "it did not have to wait for the drain's end"
    busy.join()
    assert len(master.writes()) == len(names)


def limited(master: DemoMaster, per_second: float, **changes: object) -> Resource:
    limit = {"concurrency": 4, "per_second": per_second, "total_timeout_s": 1, "connect_timeout_s": 1}
    return make_resource(make_remote(master.api_url, limits=limit), config_of(ACCOUNTS, **changes))


def tokens(resource: Resource) -> float:
    return Gate.objects.get(pk=resource.remote_id).tokens


def test_a_single_read_takes_one_token_and_leaves_the_rest(master: DemoMaster) -> None:
    resource = limited(master, 50)
    [record] = take(master, resource, "ACC-0001")
    refresh.refresh(record.pk, resource=resource, actor=PERSON)
    assert tokens(resource) == pytest.approx(49)


def test_what_is_not_sent_is_given_back_and_what_is_sent_beyond_is_charged(master: DemoMaster) -> None:
    resource = limited(master, 10)
    client = client_for(resource)
    with slots(client.spec.remote, client, want=4) as granted:
        assert granted == 4
    assert tokens(resource) == pytest.approx(10)
    with slots(client.spec.remote, client, want=1):
        for _ in range(13):
            client.read("ACC-0001", deadline=Deadline(5))
    left = tokens(resource)
    assert left < -1.5, "13 calls were sent for the one that was paid and the nine that were left"
    Gate.objects.filter(pk=resource.remote_id).update(tokens_at=timezone.now() + timedelta(hours=1))
    with pytest.raises(NoSlot), slots(client.spec.remote, client, want=1, wait_s=0):
        raise AssertionError("the debt is paid first")
    assert tokens(resource) == pytest.approx(left)


def test_a_slice_of_refreshes_keeps_to_the_rate(master: DemoMaster) -> None:
    master.reset((accounts(60),))
    resource = limited(master, 4)
    rows = take(master, resource, *[f"ACC-{n:04d}" for n in range(1, 61)])
    now = timezone.now()
    transitions.request_refresh([row.pk for row in rows], now=now)
    begun = time.monotonic()
    done = refresh.refresh_requested(seconds=0.9)
    took = time.monotonic() - begun
    assert len(master.requests()) == done <= 4 + 4 * took
    assert SyncJob.objects.filter(refresh_requested_at__isnull=False).count() == 60 - done > 0


def test_a_page_of_stubs_takes_no_more_calls_than_a_second_allows(master: DemoMaster) -> None:
    master.reset((accounts(10, stub_rows=True),))
    resource = limited(master, 4, list={**ACCOUNTS["list"], "stub": True})
    page = client_for(resource).list_page(None, deadline=Deadline(5))
    assert len(page.objects) == 3 and page.next is not None
    assert len(master.requests()) == 4
