"""Many groups, drains and few slots: whoever waits for an answer gets its turn, and nobody is sent away for nothing."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from rollback.models import Group
from syncportal.demo import DemoMaster
from syncportal.remote.models import SlotLease
from tests.factories import ACCOUNTS, config_of, drain, edit, make_remote, make_resource
from tests.racing import at_once
from tests.rollback.scene import ADDRESS, Scene

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


def scene_of(master: DemoMaster, *, concurrency: int, **changes: Any) -> Scene:
    """Return a scene whose remote takes so many calls at once."""
    scene = Scene(master)
    limit = {"concurrency": concurrency, "total_timeout_s": 5, "connect_timeout_s": 1}
    scene.resource = make_resource(make_remote(master.api_url, limits=limit), config_of(ACCOUNTS, **changes))
    return scene


def names(first: int, count: int) -> list[str]:
    return [f"ACC-{number:04d}" for number in range(first, first + count)]


def sending(scene: Scene, ids: list[str]) -> Callable[[], Any]:
    """Return the act of one client: what is answered to a group about these objects, and when."""
    client, body = scene.caller("owner"), scene.body(*ids)

    def send() -> tuple[int, float]:
        return client.post(ADDRESS, body).status_code, time.monotonic()

    return send


def most_at_once(master: DemoMaster) -> int:
    """Return how many calls the master was answering at the same time, at most."""
    calls = [(heard.at, 1) for heard in master.requests()]
    calls += [(heard.answered_at, -1) for heard in master.requests() if heard.answered_at is not None]
    at_once = [0]
    for _, step in sorted(calls):
        at_once.append(at_once[-1] + step)
    return max(at_once)


def test_a_long_group_keeps_only_the_slots_that_its_policy_uses(master: DemoMaster) -> None:
    scene = scene_of(master, concurrency=4)
    scene.records(*names(1, 41))
    master.latency_ms = 40
    longest: list[tuple[int, float]] = []
    long = sending(scene, names(1, 40))

    def run() -> None:
        longest.append(long())
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    while not master.writes():
        time.sleep(0.01)
    assert list(SlotLease.objects.values_list("slots", flat=True)) == [1]
    status, at = sending(scene, names(41, 1))()
    thread.join()
    assert (status, longest[0][0]) == (200, 200)
    assert at < longest[0][1], "the short one did not wait for the end of the long one"
    assert most_at_once(master) <= 4


@pytest.mark.parametrize("parallel", [1, 4])
def test_sixteen_groups_at_once_beside_a_drain_share_few_slots(master: DemoMaster, parallel: int) -> None:
    scene = scene_of(master, concurrency=4, policy={"parallel": parallel})
    for record in scene.records(*names(101, 30)):
        edit(record, city="Lund")
    scene.records(*names(1, 48))
    master.latency_ms = 20

    def push() -> int:
        return drain().settled

    found = at_once(push, *(sending(scene, names(1 + 3 * number, 3)) for number in range(16)))
    pushed = found.pop(0)
    assert [status for status, _ in found] == [200] * 16, found
    assert set(Group.objects.values_list("status", flat=True)) == {"applied"}
    assert pushed + drain().settled == 30
    assert most_at_once(master) <= 4
    assert not SlotLease.objects.exists()
