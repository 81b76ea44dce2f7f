"""Snapshots that are read while the request is still being stored: when they count, and when nobody may read yet."""

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from rollback import accept, holding
from rollback.holding import Busy, RecordBusy
from rollback.models import Group, GroupedUpdate
from syncportal.demo import DemoMaster
from syncportal.remote import limits
from syncportal.remote.models import Gate, SlotLease
from syncportal.sync import records
from syncportal.sync.models import Record, SyncJob
from tests.crash.checker import violations
from tests.crash.remote import Fault
from tests.crash.scenario import Scenario
from tests.crash.world import Base, World
from tests.factories import ACCOUNTS, config_of, edit, make_remote, make_resource
from tests.rollback.scene import ADDRESS, Scene


def kinds(world: World) -> list[str]:
    """Return what was asked of the remote, in order."""
    return [call.kind for call in world.remote.calls]


def before_storing(world: World) -> int:
    """Return how many reads were over when the first row was written."""
    return world.points[: world.points.index("db insert")].count("http read before return")


def test_known_objects_are_read_while_the_request_is_stored_and_no_second_time(base: Base) -> None:
    world = World(base, Scenario()).run()
    assert before_storing(world) == 2
    assert kinds(world) == ["read", "read", "write", "write"]
    assert Group.objects.get().status == "applied"


def test_a_push_that_ended_before_the_hold_makes_the_read_worth_nothing(base: Base) -> None:
    world = World(base, Scenario(between=True, pushed=True)).run()
    assert kinds(world) == ["read", "read", "read", "write", "write"]
    assert Group.objects.get().status == "applied"
    assert world.remote.objects["A"].data["y"] == Record.objects.get(external_id="A").data["y"] == "third-y-0"
    assert violations(world) == []


def test_the_same_version_with_other_content_is_read_again(base: Base) -> None:
    world, take = World(base, Scenario()), holding.take

    def pushed_within_the_versions_second(*args: Any, **kwargs: Any) -> Any:
        world.remote.objects["A"].data |= {"y": "pushed"}
        [state] = records.lock(Record.objects.filter(external_id="A").values_list("pk", flat=True)).values()
        shown = world.remote.shown("A")
        records.write([replace(state.with_data(shown), base=shown)], now=world.clock())
        return take(*args, **kwargs)

    world._take = pushed_within_the_versions_second  # type: ignore[method-assign]
    world.run()
    assert kinds(world) == ["read", "read", "read", "write", "write"]
    assert world.remote.objects["A"].data["y"] == Record.objects.get(external_id="A").data["y"] == "pushed"


def test_somebody_elses_change_after_such_a_read_refuses_the_step_and_stays(base: Base) -> None:
    world = World(base, Scenario(between=True)).run()
    assert kinds(world) == ["read", "read", "write"]
    assert (Group.objects.get().status, Group.objects.get().error["code"]) == ("rolled_back", "version_mismatch")
    assert world.remote.objects["A"].data["y"] == "third-y-0"
    assert violations(world) == []


def test_an_object_that_cannot_be_read_is_not_asked_for_twice(base: Base) -> None:
    world = World(base, Scenario(faults=((0, Fault.TIMEOUT),))).run()
    assert kinds(world) == ["read", "read"]
    assert Group.objects.get().status == "rejected"


def test_without_conditional_writes_nothing_is_read_before_the_hold(base: Base) -> None:
    assert before_storing(World(base, Scenario(mode="unconditional")).run()) == 0


def test_objects_without_a_version_or_a_record_are_read_under_the_hold(base: Base) -> None:
    world = World(base, Scenario(steps=3))
    Record.objects.filter(external_id="A").update(version=None)
    SyncJob.objects.filter(record__external_id="B").delete()
    Record.objects.filter(external_id="B").delete()
    world.run()
    assert before_storing(world) == 1
    assert kinds(world)[:3] == ["read", "read", "read"]
    assert Group.objects.get().status == "applied"


# --- whoever is refused asked for nothing, or pays for what it asked


over_http = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    return Scene(master)


@over_http
def test_where_a_record_is_seen_to_be_in_use_nothing_is_read(scene: Scene) -> None:
    one, _ = scene.records("ACC-0001", "ACC-0002")
    client = scene.caller("owner")
    edit(one, city="Oslo")
    assert client.post(ADDRESS, scene.body("ACC-0001", "ACC-0002")).status_code == 409
    SyncJob.objects.filter(record=one).update(status="SYNCED", due_at=None, held_by="task:x")
    assert client.post(ADDRESS, scene.body("ACC-0002", "ACC-0001")).status_code == 409
    assert scene.master.requests() == []


@over_http
def test_neither_a_wrong_request_nor_a_record_of_somebody_else_makes_anybody_read(scene: Scene) -> None:
    scene.records("ACC-0001")
    scene.records("ACC-0002", owner="other")
    client = scene.caller("owner")
    assert client.post(ADDRESS, scene.body("ACC-0001", tier="tin")).status_code == 422
    assert client.post(ADDRESS, scene.body("ACC-0001", "ACC-0002")).status_code == 422
    limits.pause(scene.resource.remote_id, reason="by_hand", detail="", now=scene.people["owner"].date_joined)
    assert client.post(ADDRESS, scene.body("ACC-0001")).status_code == 503
    assert scene.master.requests() == []


@over_http
def test_a_request_refused_by_the_hold_has_ended_and_paid_its_reads(
    master: DemoMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(master)
    limit = {"concurrency": 2, "per_second": 4}
    scene.resource = make_resource(make_remote(master.api_url, limits=limit), config_of(ACCOUNTS))
    names = [f"ACC-{number:04d}" for number in range(1, 9)]
    scene.records(*names)
    master.latency_ms = 30

    def in_use(*args: Any, **kwargs: Any) -> Any:
        raise RecordBusy([Busy(1, scene.resource.slug, names[0], "SYNCED", "Another group holds it.")])

    monkeypatch.setattr(accept, "take", in_use)
    began = time.monotonic()
    answer = scene.caller("owner").post(ADDRESS, scene.body(*names))
    took = time.monotonic() - began
    assert (answer.status_code, answer.json()["code"]) == (409, "record_busy")
    asked = len(master.requests())
    assert asked <= 4, "two calls at a time: those that had not begun are given up"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("group")]
    assert not SlotLease.objects.exists()
    left = Gate.objects.get(pk=scene.resource.remote_id).tokens
    assert -0.001 <= left - (4 - asked) <= 4 * took, "what was granted and not sent came back"
    assert not GroupedUpdate.objects.exists()
