"""What the worker makes of a compensating task: waiting, giving up, and what is told of it."""

from datetime import timedelta

import pytest

from rollback.models import CompensatingTask, Group
from syncportal.remote.errors import Throttled
from tests.crash.engine import base  # noqa: F401
from tests.crash.remote import Fault
from tests.crash.world import Base, Scenario, World


def started(base: Base, **particulars: object) -> World:
    """Run a request until it is answered, and nothing after."""
    world = World(base, Scenario(**particulars))
    world.request()
    return world


def the_task() -> CompensatingTask:
    """Return the only task."""
    return CompensatingTask.objects.get()


def test_an_undo_that_the_remote_asked_to_wait_with_waits_that_long_although_the_request_ends(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(base, Scenario(faults=((2, Fault.APPLIED_TIMEOUT),)))
    read = world.client.read

    def throttled(external_id: str, **call: object) -> object:
        if call["purpose"] == "undo_read":
            raise Throttled("Slow down.", code="http_429", status=429, retry_after_s=600)
        return read(external_id, **call)

    monkeypatch.setattr(world.client, "read", throttled)
    world.request()
    task = the_task()
    assert (task.status, task.attempts) == ("pending", 0)
    assert task.next_attempt_at - world.clock.now > timedelta(seconds=590)
    assert world.answer is not None and world.answer["reconciliationQueued"] is True


def test_a_task_that_the_request_did_not_reach_is_due_at_once(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollback.budget.Budget.left", lambda self: 0.5)
    world = started(base, faults=((2, Fault.APPLIED_TIMEOUT),))
    assert the_task().next_attempt_at <= world.clock.now
    assert Group.objects.get().inline is False
