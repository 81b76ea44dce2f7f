"""What the worker makes of a compensating task: waiting, giving up, and what is told of it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from rollback import answers, compensate, journal
from rollback.models import CompensatingTask, Group, GroupedUpdate, Step
from syncportal.ops.screens.guarantees import guarantee_lines
from syncportal.remote.errors import Throttled
from syncportal.remote.models import Resource
from syncportal.sync import resolve
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict, Event, SyncJob
from tests.crash.remote import Fault, ThirdParty
from tests.crash.scenario import Scenario
from tests.crash.world import Base, World


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


def test_an_undo_that_ends_while_it_is_told_is_told_as_ended(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollback.budget.Budget.left", lambda self: 0.5)
    world = started(base, faults=((2, Fault.APPLIED_TIMEOUT),))
    assert the_task().status == "pending"
    begun: list[str] = []

    def end_first(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "rollback_compensatingtask" in sql and not begun:
            begun.append(sql)
            world.run_on()
        return execute(sql, *rest)

    request = GroupedUpdate.objects.get()
    with connection.execute_wrapper(end_first):
        told = answers.render(request)
    assert begun
    assert told == answers.render(request)
    assert (told["status"], told["rolledBack"], told["reconciliationTaskCount"]) == ("compensated", True, 0)


def waiting(base: Base, fault: Fault = Fault.FAULT, **particulars: object) -> World:
    """Return a world whose only task, of the first step, has failed once and waits."""
    return started(base, faults=((3, Fault.REJECTED), (4, fault)), **particulars)


def test_a_failed_undo_is_tried_again_with_growing_delays_and_then_asks_a_person(base: Base) -> None:
    world = World(base, Scenario(faults=((3, Fault.REJECTED), *((n, Fault.REFUSED) for n in range(4, 40)))))
    world.request()
    delays = []
    while the_task().status == "pending" and the_task().attempts < 20:
        delays.append((the_task().next_attempt_at - the_task().updated_at).total_seconds())
        world.clock.to(the_task().next_attempt_at)
        world.sweep()
    task = the_task()
    assert (task.status, task.reason, task.attempts) == ("failed_permanent", "max_attempts", 10)
    floors = [5 * 2**n for n in range(1, 9)]
    assert all(floor <= delay <= floor * 1.25 + 1 for floor, delay in zip(floors, delays[1:], strict=True))
    assert Group.objects.get().status == "needs_attention"
    assert SyncJob.objects.get(record__external_id="A").held_by == f"task:{task.task_id}"


def test_a_task_that_kills_every_worker_asks_a_person_in_the_end(base: Base) -> None:
    world = waiting(base)
    for _ in range(12):
        CompensatingTask.objects.filter(status="pending").update(
            status="processing", attempts=F("attempts") + 1, lease_until=world.clock(), next_attempt_at=None
        )
        world.clock.to(world.clock.now + timedelta(seconds=1))
        if the_task().attempts >= 10:
            break
        journal.rescue_tasks(now=world.clock())
    world.sweep()
    assert (the_task().status, the_task().reason) == ("failed_permanent", "max_attempts")
    assert Group.objects.get().status == "needs_attention"
    assert Event.objects.filter(kind="compensation.failed").count() == 1


def test_what_a_dead_worker_may_have_sent_is_waited_for_from_the_end_of_its_lease(base: Base) -> None:
    world = World(base, Scenario(mode="unconditional", faults=((5, Fault.REJECTED), (6, Fault.FAULT))))
    world.request()
    until = world.clock.now + timedelta(seconds=60)
    CompensatingTask.objects.update(status="processing", lease_until=until, next_attempt_at=None)
    world.clock.to(until + timedelta(seconds=1))
    world.sweep()
    assert the_task().status == "pending"
    assert the_task().next_attempt_at >= until + timedelta(seconds=30)


def test_a_step_whose_process_died_is_waited_for_as_if_its_call_had_begun_last(base: Base) -> None:
    points = World(base, Scenario(mode="unconditional")).run().points
    sent = [n for n, label in enumerate(points) if label == "http write sent"][0]
    world = started(base, mode="unconditional", crash=sent)
    sent_at = Step.objects.get(position=0).sent_at
    world.clock.to(Group.objects.get().lease_until + timedelta(seconds=1))
    compensate.recover(clock=world.clock)
    (outstanding,) = the_task().outstanding
    assert datetime.fromisoformat(outstanding["sent_at"]) >= sent_at + timedelta(seconds=10)


@pytest.mark.parametrize(
    ("mode", "faults", "words"),
    [
        ("no bump", ((2, Fault.TIMEOUT),), "does not change the version on an equal write"),
        ("unconditional", ((3, Fault.TIMEOUT),), "has no conditional writes"),
    ],
)
def test_a_promise_that_only_time_keeps_is_told_on_the_task_and_on_the_resource(
    base: Base, mode: str, faults: tuple[tuple[int, Fault], ...], words: str
) -> None:
    world = World(base, Scenario(mode=mode, faults=faults))
    world.request()
    world.run_on()
    promise = the_task().weaker_promise
    resource = Resource.objects.get(pk=world.resource.pk)
    assert (words in promise, the_task().status) == (True, "succeeded")
    assert resource.guarantees["late_writes"]["promise"] == promise
    assert resource.history.first().history_change_reason == "met by an undo"
    assert [line.answer for line in guarantee_lines(resource.guarantees)] == [promise]


def test_a_fence_that_holds_leaves_no_such_note(base: Base) -> None:
    world = World(base, Scenario(faults=((2, Fault.TIMEOUT),))).run()
    assert (the_task().weaker_promise, Resource.objects.get(pk=world.resource.pk).guarantees) == ("", {})


def test_two_workers_cannot_run_one_task(base: Base) -> None:
    world = waiting(base)
    assert journal.claim_task(the_task().pk, now=world.clock()) is not None
    assert journal.claim_task(the_task().pk, now=world.clock()) is None


def test_the_result_of_a_worker_that_lost_its_task_changes_nothing(base: Base) -> None:
    world = waiting(base)
    task = journal.claim_task(the_task().pk, now=world.clock())
    assert task is not None
    world.clock.to(world.clock.now + timedelta(seconds=61))
    assert journal.rescue_tasks(now=world.clock()) == (1, [])
    assert journal.succeed_task(task, weaker_promise="", now=world.clock()) is False
    assert the_task().status == "pending"


def test_somebody_elses_change_ends_the_task_with_a_conflict_that_holds_the_record(base: Base) -> None:
    world = World(base, Scenario(faults=((3, Fault.REJECTED),), thirds=(ThirdParty(4, "A", "x"),))).run()
    job = SyncJob.objects.get(record__external_id="A")
    conflict = Conflict.objects.get()
    assert (the_task().status, the_task().reason) == ("failed_permanent", "undo_conflict")
    assert (job.status, job.held_by) == ("VERSION_CONFLICT", f"task:{the_task().task_id}")
    assert (conflict.reason, conflict.fields, conflict.base["x"]) == ("undo_conflict", ["/x"], "ours-A")
    assert (conflict.local["x"], conflict.remote) == (1, world.remote.shown("A"))
    assert world.answer is not None
    assert (world.answer["status"], world.answer["rolledBack"]) == ("needs_attention", False)


def test_after_a_person_resolved_the_conflict_the_task_is_closed_and_the_record_free(base: Base) -> None:
    world = World(base, Scenario(faults=((3, Fault.REJECTED),), thirds=(ThirdParty(4, "A", "x"),))).run()
    conflict = Conflict.objects.get()
    decision = resolve.Decision(resolve.Action.USE_REMOTE, conflict.revision, conflict.remote_version)
    resolve.resolve(conflict.pk, decision, actor=Actor("user", world.base.user_id, "pat"))
    assert (the_task().status, the_task().reason) == ("failed_permanent", "resolved")
    assert SyncJob.objects.get(record__external_id="A").held_by == ""


def test_an_object_that_is_gone_ends_the_task_and_is_never_made_again(base: Base) -> None:
    world = World(base, Scenario(faults=((3, Fault.REJECTED), (4, Fault.FAULT))))
    world.request()
    del world.remote.objects["A"]
    world.run_on()
    assert (the_task().status, the_task().reason) == ("failed_permanent", "gone")
    assert "A" not in world.remote.objects


def test_an_object_that_goes_between_reading_and_writing_is_gone_too(base: Base) -> None:
    world = World(base, Scenario(faults=((3, Fault.REJECTED),)))
    begin = world.remote.begin

    def begun(kind: str, object_id: str) -> object:
        if len(world.remote.calls) == 5:
            del world.remote.objects["A"]
        return begin(kind, object_id)

    world.remote.begin = begun  # type: ignore[method-assign]
    world.remote.point = lambda label: None
    world.request()
    assert (the_task().status, the_task().reason) == ("failed_permanent", "gone")


@pytest.mark.parametrize(
    ("refusals", "attempts", "status"),
    [
        ((4,), 1, "rolled_back"),  # tried again at once
        ((4, 6), 2, "compensated"),  # by the worker
        ((4, 6, 9, 11, 14, 16, 19, 21), 3, "compensated"),  # time settles it
    ],
)
def test_a_fence_that_is_refused_ends_no_task(
    base: Base, refusals: tuple[int, ...], attempts: int, status: str
) -> None:
    faults = ((2, Fault.TIMEOUT), *((call, Fault.REJECTED) for call in refusals))
    world = World(base, Scenario(faults=faults)).run()
    task = the_task()
    assert (task.status, task.attempts, Group.objects.get().status) == ("succeeded", attempts, status)
    assert bool(task.weaker_promise) is (attempts == 3)
    assert world.remote.objects["A"].data["x"] == 1
