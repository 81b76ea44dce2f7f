"""The forward phase: time, order, parallel sends, and what happens to the records meanwhile."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from rollback import accept, decide, groups, holding, journal, service
from rollback.budget import Budget
from rollback.holding import RecordBusy
from rollback.models import CompensatingTask, Group, Step
from rollback.plan import Plan, PlannedGroup, PlannedStep
from syncportal.sync import local
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict, Record, SyncJob
from tests.crash.remote import Fault, ThirdParty
from tests.crash.scenario import Scenario
from tests.crash.world import Base, World, during, prepared

PERSON = Actor("user", label="pat")


def job(name: str) -> SyncJob:
    """Return the job of an object's record."""
    return SyncJob.objects.get(record__external_id=name)


def record(name: str) -> Record:
    """Return an object's record."""
    return Record.objects.get(external_id=name)


def edit(name: str, **changes: Any) -> None:
    """Save an edit as a person does."""
    local.save(local.Edit(record(name).pk, changes), actor=PERSON)


def group() -> Group:
    """Return the only group."""
    return Group.objects.get()


# --- time


def test_a_call_has_all_its_time_from_its_start_not_from_when_it_was_queued(base: Base) -> None:
    world = World(base, Scenario())
    left, read = [], world.client.read

    def slow(external_id: str, *, purpose: str, deadline: Any) -> Any:
        left.append(deadline.left())
        time.sleep(0.3)
        return read(external_id, purpose=purpose, deadline=deadline)

    world.client.read = slow  # type: ignore[method-assign]
    world.budget = Budget(call_s=1.0, request_s=25)
    with ThreadPoolExecutor(1) as world.pool:
        world.request()
    assert len(left) == 2 and min(left) > 0.9


def test_at_the_end_of_the_forward_time_what_was_sent_is_undone(base: Base) -> None:
    world = World(base, Scenario())
    world.budget = Budget(call_s=10, request_s=25)
    during(world, 2, lambda: object.__setattr__(world.budget, "began", world.budget.began - 16))
    world.run()
    assert (group().status, group().error["code"]) == ("rolled_back", "deadline")
    assert [step.status for step in Step.objects.order_by("position")] == ["undone", "untouched"]
    assert world.remote.objects["A"].data["x"] == 1


def test_a_group_that_no_time_was_left_to_begin_is_rejected(base: Base) -> None:
    world = World(base, Scenario())
    world.budget = Budget(call_s=10, request_s=25)
    during(world, 1, lambda: object.__setattr__(world.budget, "began", world.budget.began - 16))
    world.run()
    assert (group().status, group().error["code"]) == ("rejected", "deadline")
    assert world.remote.log == [] and job("A").held_by == job("B").held_by == ""


def test_groups_that_no_time_was_left_for_are_rejected_beside_one_that_is_applied(base: Base) -> None:
    world = World(base, Scenario())
    world.budget = Budget(call_s=10, request_s=25)
    slug, planned = world.resource.slug, []
    for position, name in enumerate(world.objects):
        step = PlannedStep(slug, name, {"x": "ours"}, None, f"/groups/{position}/updates/0")
        planned.append(PlannedGroup(f"g-{name}", (step,)))
    plan, resources = Plan("request", tuple(planned), False, "hash"), {slug: world.resource}
    during(world, 2, lambda: object.__setattr__(world.budget, "began", world.budget.began - 16))
    service.carry_out(
        plan, resources, accept.look(plan, resources, sees_all=True, user_id=base.user_id), world.clients,
        actor=Actor("user", base.user_id, "user"), budget=world.budget, pool=world.pool, clock=world.clock,
    )  # fmt: skip
    first, second = Group.objects.order_by("position")
    assert (first.status, second.status, second.error["code"]) == ("applied", "rejected", "deadline")
    assert [write.object_id for write in world.remote.calls if write.kind == "write"] == ["A"]
    assert (job("A").held_by, job("B").held_by, record("B").data["x"]) == ("", "", 1)


def test_undoing_stops_when_the_whole_time_is_over_and_the_worker_goes_on(base: Base) -> None:
    world = World(base, Scenario(faults=((3, Fault.REJECTED),)))
    world.budget = Budget(call_s=10, request_s=25)
    during(world, 3, lambda: object.__setattr__(world.budget, "began", world.budget.began - 25))
    world.request()
    assert (group().status, world.answer["rolledBack"]) == ("compensating", False)
    assert world.answer["reconciliationTaskCount"] == 1
    world.recover()
    assert (group().status, world.answer["rolledBack"]) == ("compensated", True)


# --- one writer at a time


def test_records_are_held_while_the_group_runs_and_free_afterwards(base: Base) -> None:
    world, seen = World(base, Scenario()), []
    during(world, 3, lambda: seen.extend([job("A").held_by, job("B").held_by]))
    world.run()
    assert seen == [f"group:{group().pk}"] * 2
    assert (job("A").held_by, job("B").held_by) == ("", "")


def test_a_task_takes_over_the_hold_of_what_was_sent_and_the_rest_is_released(base: Base) -> None:
    world, seen = World(base, Scenario(faults=((3, Fault.REJECTED),))), []
    during(world, 4, lambda: seen.extend([job("A").held_by, job("B").held_by]))
    world.run()
    assert seen == [f"task:{CompensatingTask.objects.get().task_id}", ""]


def test_a_record_with_an_edit_under_way_is_not_taken_and_nothing_is_stored(base: Base) -> None:
    world = World(base, Scenario())
    edit("B", y=5)
    with pytest.raises(RecordBusy) as refused:
        world.perform()
    assert [busy.occurrence_id for busy in refused.value.busy] == ["B"]
    assert (Group.objects.count(), job("A").held_by) == (0, "")


def test_a_held_record_is_not_taken_twice(base: Base) -> None:
    world = World(base, Scenario())
    SyncJob.objects.filter(record__external_id="A").update(held_by="task:x")
    with pytest.raises(RecordBusy, match="compensating task"):
        world.perform()


def test_recovery_stops_the_request_that_it_took_over_from(base: Base) -> None:
    world = World(base, Scenario())

    def taken_over() -> None:
        world.clock.to(group().lease_until)
        assert len(journal.orphans(now=world.clock())) == 1

    during(world, 2, taken_over)
    world.request()
    assert [call.kind for call in world.remote.calls].count("write") == 1
    assert group().status == "running"
    world.run_on()
    assert group().status == "compensated" and world.remote.objects["A"].data["x"] == 1


# --- edits meanwhile


def test_an_edit_made_while_held_waits_and_is_due_after_the_release(base: Base) -> None:
    world = World(base, Scenario())
    during(world, 3, lambda: edit("A", y="edited"))
    world.run()
    assert (job("A").status, job("A").held_by) == ("PENDING", "")
    assert SyncJob.objects.due(job("A").due_at).count() == 1
    assert record("A").data == {"id": "A", "x": "ours-A", "y": "edited", "z": 1, "version": 2}
    assert record("A").base == world.remote.shown("A")


def test_an_edit_made_while_held_survives_the_undo(base: Base) -> None:
    world = World(base, Scenario(faults=((3, Fault.REJECTED),)))
    during(world, 3, lambda: edit("A", y="edited"))
    world.run()
    assert (group().status, job("A").status) == ("rolled_back", "PENDING")
    assert (record("A").data["x"], record("A").data["y"], record("A").base["y"]) == (1, "edited", 1)
    assert record("A").version == str(world.remote.objects["A"].version)


def test_an_edit_of_the_field_that_the_group_changes_asks_a_person(base: Base) -> None:
    world = World(base, Scenario())
    during(world, 3, lambda: edit("A", x="edited"))
    world.run()
    assert (group().status, job("A").status) == ("applied", "VERSION_CONFLICT")
    conflict = Conflict.objects.get()
    assert (conflict.local["x"], conflict.remote["x"], job("A").held_by) == ("edited", "ours-A", "")


def test_a_conflict_found_by_the_snapshot_shows_what_the_group_made_of_it(base: Base) -> None:
    world = World(base, Scenario(thirds=(ThirdParty(0, "A", "y"),)))
    during(world, 2, lambda: edit("A", y="edited"))
    world.run()
    conflict = Conflict.objects.get()
    assert (group().status, job("A").status, conflict.state) == ("applied", "VERSION_CONFLICT", "open")
    assert (conflict.remote, conflict.remote_version) == (world.remote.shown("A"), "3")


# --- objects unknown here


@pytest.fixture
def unknown(base: Base) -> Callable[..., World]:
    """Make a world in which B has no record."""

    def make(**particulars: Any) -> World:
        world = World(base, Scenario(**particulars))
        SyncJob.objects.filter(record__external_id="B").delete()
        Record.objects.filter(external_id="B").delete()
        return world

    return make


def test_an_unknown_object_gets_a_record_from_its_snapshot(unknown: Callable[..., World]) -> None:
    world = unknown().run()
    assert (record("B").deleted_at, record("B").base) == (None, world.remote.shown("B"))


def test_the_record_made_for_a_rejected_group_goes_again(unknown: Callable[..., World]) -> None:
    unknown(faults=((0, Fault.REJECTED),)).run()
    assert group().status == "rejected"
    assert not Record.objects.filter(external_id="B").exists()


def test_the_record_made_for_a_request_that_died_before_its_snapshots_goes_again(
    unknown: Callable[..., World],
) -> None:
    points = unknown().run().points
    reads = [number for number, label in enumerate(points) if label == "http read before send"]
    unknown(crash=reads[-1]).run()
    assert group().status == "rolled_back"
    assert not Record.objects.filter(external_id="B").exists()


def test_an_edit_of_a_record_made_for_a_rejected_group_is_kept(unknown: Callable[..., World]) -> None:
    world = unknown()
    world.budget = Budget(call_s=10, request_s=25)
    take = decide.take_snapshots

    def and_edited(*args: Any, **rest: Any) -> None:
        take(*args, **rest)
        edit("B", x="edited")

    during(world, 1, lambda: object.__setattr__(world.budget, "began", world.budget.began - 16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "take_snapshots", and_edited)
        world.run()
    assert group().status == "rejected"
    assert (record("B").data["x"], job("B").status, job("B").held_by) == ("edited", "PENDING", "")


# --- several at once


def test_a_policy_of_two_commits_both_intents_before_the_first_is_sent(base: Base) -> None:
    world, seen = World(base, Scenario(mode="parallel")), []
    during(world, 2, lambda: seen.extend(Step.objects.order_by("position").values_list("status", flat=True)))
    world.run()
    assert (seen, group().status) == (["sent", "sent"], "applied")


def test_what_is_under_way_at_a_failure_is_waited_for_and_undone(base: Base) -> None:
    world = World(base, Scenario(mode="parallel", faults=((2, Fault.REJECTED),))).run()
    assert [step.status for step in Step.objects.order_by("position")] == ["failed", "undone"]
    assert (group().status, world.remote.objects["B"].data["x"]) == ("rolled_back", 1)


def test_one_after_another_nothing_is_sent_after_a_failure(base: Base) -> None:
    world = World(base, Scenario(faults=((2, Fault.REJECTED),))).run()
    assert [step.status for step in Step.objects.order_by("position")] == ["failed", "untouched"]
    assert [call.kind for call in world.remote.calls] == ["read", "read", "write"]


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_two_requests_that_make_a_record_for_one_unknown_object_at_once_do_not_clash() -> None:
    with prepared() as made:
        world = World(made, Scenario())
        SyncJob.objects.all().delete()
        Record.objects.all().delete()
        gate, outcomes = threading.Barrier(2), []
        real = holding._placeholders

        def together(missing: Any, *args: Any, **kwargs: Any) -> Any:
            if missing and connection.vendor == "postgresql":
                gate.wait(5)
            return real(missing, *args, **kwargs)

        def send(name: str) -> None:
            try:
                world.perform(name)
                outcomes.append("accepted")
            except Exception as error:
                outcomes.append(type(error).__name__)
            finally:
                connection.close()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(holding, "_placeholders", together)
            patch.setattr(groups, "carry_out", lambda *args, **kwargs: None)
            senders = [threading.Thread(target=send, args=(name,)) for name in ("one", "two")]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join(20)
        assert sorted(outcomes) == ["RecordBusy", "accepted"]
        assert Record.objects.count() == 2
