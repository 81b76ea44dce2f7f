"""A remote's calls per second hold for groups too: while they read, write and undo, and beside each other."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from rollback.models import GroupedUpdate
from syncportal.demo import DemoMaster
from syncportal.remote.models import Gate, SlotLease
from tests.factories import ACCOUNTS, config_of, make_remote, make_resource
from tests.racing import at_once
from tests.rollback.scene import ADDRESS, Scene

pytestmark = pytest.mark.django_db(transaction=True)


def scene_of(master: DemoMaster, *, per_second: float, **changes: Any) -> Scene:
    """Return a scene whose remote takes eight calls at once, and so many a second."""
    scene = Scene(master)
    limit = {"concurrency": 8, "per_second": per_second, "total_timeout_s": 5, "connect_timeout_s": 1}
    scene.resource = make_resource(make_remote(master.api_url, limits=limit), config_of(ACCOUNTS, **changes))
    return scene


def names(count: int, first: int = 1) -> list[str]:
    return [f"ACC-{number:04d}" for number in range(first, first + count)]


def kept(master: DemoMaster, per_second: float, act: Callable[[], Any], *, beyond: int = 1) -> Any:
    """Return what an act returns, after checking that its calls kept to what may gather and to the rate.

    beyond: calls that nobody can foresee, paid before the next.
    """
    began = time.monotonic()
    result = act()
    took = time.monotonic() - began
    assert len(master.requests()) <= per_second * (1 + took) + beyond, (len(master.requests()), took)
    return result


MODES: dict[str, tuple[dict[str, Any], int]] = {
    "one after another": ({}, 1),
    "eight at once": ({"policy": {"parallel": 8}}, 1),
    "read before each write": ({"precondition": None, "policy": {"parallel": 4}}, 8),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_group_keeps_to_the_rate(master: DemoMaster, mode: str) -> None:
    changes, beyond = MODES[mode]
    scene = scene_of(master, per_second=40, **changes)
    scene.records(*names(40))
    client, body = scene.caller("owner"), scene.body(*names(40))
    answer = kept(master, 40, lambda: client.post(ADDRESS, body), beyond=beyond)
    assert (answer.status_code, answer.json()["status"]) == (200, "applied")
    assert Gate.objects.get(pk=scene.resource.remote_id).tokens >= -beyond
    assert not SlotLease.objects.exists()


def test_an_undo_within_the_request_keeps_to_the_rate(master: DemoMaster) -> None:
    scene = scene_of(master, per_second=40)
    scene.records(*names(20))
    before = [scene.city(name) for name in names(20)]
    scene.break_write("ACC-0020")
    client, body = scene.caller("owner"), scene.body(*names(20))
    answer = kept(master, 40, lambda: client.post(ADDRESS, body), beyond=4)
    assert (answer.json()["status"], answer.json()["rolledBack"]) == ("rolled_back", True)
    assert [scene.city(name) for name in names(20)] == before


@pytest.mark.db
def test_groups_beside_each_other_share_the_rate(master: DemoMaster) -> None:
    scene = scene_of(master, per_second=40, policy={"parallel": 4})
    scene.records(*names(40))
    clients = [(scene.caller("owner"), scene.body(*names(10, 1 + 10 * number))) for number in range(4)]
    acts = [lambda one=one, body=body: one.post(ADDRESS, body).status_code for one, body in clients]
    assert kept(master, 40, lambda: at_once(*acts)) == [200] * 4


def test_a_rate_that_ends_in_the_middle_is_undone_like_any_deadline(
    master: DemoMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(master, per_second=8)
    scene.records(*names(8))
    before = [scene.city(name) for name in names(8)]
    monkeypatch.setattr("rollback.budget.FORWARD_SHARE", 0.02)  # half a second, where its calls need a whole one
    client, body = scene.caller("owner"), scene.body(*names(8))
    told = client.post(ADDRESS, body).json()
    assert told["groups"][0]["error"]["code"] == "deadline"
    assert (told["status"], told["rolledBack"]) in (("rolled_back", True), ("rejected", True))
    assert [scene.city(name) for name in names(8)] == before


def test_more_than_the_rate_can_do_in_the_time_there_is_is_refused_before_anything_is_sent(master: DemoMaster) -> None:
    scene = scene_of(master, per_second=2)
    scene.records(*names(20))
    client = scene.caller("owner")
    answer = client.post(ADDRESS, scene.body(*names(20)))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    [error] = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/groups", "too_many_for_rate")
    assert "2 calls a second" in error["detail"] and "15 s" in error["detail"]
    assert (GroupedUpdate.objects.count(), master.requests()) == (0, [])
    validated = client.post(ADDRESS, scene.body(*names(20)) | {"validateOnly": True})
    assert validated.status_code == 422
    assert client.post(ADDRESS, scene.body(*names(16)) | {"validateOnly": True}).status_code == 200
