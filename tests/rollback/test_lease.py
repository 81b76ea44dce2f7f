"""A group under way is its request's, and stays so, until its lease is over or recovery has taken it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction

from rollback import journal
from rollback.models import Group, Step
from rollback.states import StepStatus
from syncportal.demo import DemoMaster
from syncportal.remote.models import Gate
from syncportal.sync.models import Record
from tests.crash.remote import ThirdParty
from tests.crash.scenario import Scenario
from tests.crash.world import Base, World, during
from tests.rollback.scene import ADDRESS, Scene


def taken_over(world: World) -> None:
    """Let recovery take the group, as after the end of its lease."""
    world.clock.to(Group.objects.get().lease_until)
    assert len(journal.orphans(now=world.clock())) == 1


@pytest.mark.parametrize(("spent_s", "renewed"), [(14, False), (16, True)])
def test_a_lease_is_renewed_once_a_third_of_it_is_over(base: Base, spent_s: float, renewed: bool) -> None:
    world, seen = World(base, Scenario()), []

    def note() -> None:
        seen.append(Group.objects.get().lease_until)

    def slow() -> None:
        note()
        world.clock.to(Group.objects.get().created_at + timedelta(seconds=spent_s))

    during(world, 2, slow)
    during(world, 3, note)
    world.run()
    assert (seen[1] > seen[0], Group.objects.get().status) == (renewed, "applied")
    assert not renewed or seen[1] - seen[0] >= timedelta(seconds=spent_s)


def test_a_renewal_that_was_rolled_back_is_made_again(base: Base) -> None:
    world, renewed = World(base, Scenario()), []

    def late() -> None:
        group = Group.objects.get()
        now = group.created_at + timedelta(seconds=20)
        with pytest.raises(OperationalError), transaction.atomic():
            journal.renew(group, now=now)
            raise OperationalError("database is locked")
        with transaction.atomic():
            journal.renew(group, now=now)
        renewed.append(Group.objects.get().lease_until - now)

    during(world, 2, late)
    world.run()
    assert renewed == [timedelta(seconds=journal.GROUP_LEASE_S)]


def test_a_request_that_was_recovered_while_it_read_sends_nothing_and_keeps_nothing(base: Base) -> None:
    world = World(base, Scenario(mode="unconditional"))  # nothing is read ahead: the hold comes first
    world.remote.interfere(ThirdParty(0, "A", "y"))
    before = Record.objects.get(external_id="A")
    during(world, 1, lambda: taken_over(world))
    world.request()
    assert [call.kind for call in world.remote.calls] == ["read", "read"]
    after = Record.objects.get(external_id="A")
    assert (after.data, after.base, after.version) == (before.data, before.base, before.version)
    assert set(Step.objects.values_list("status", "snapshot")) == {(StepStatus.PLANNED.value, None)}
    world.run_on()
    assert Group.objects.get().status == "rolled_back"


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer at a time")
def test_recovery_leaves_a_group_alone_while_a_step_is_written_ahead(master: DemoMaster) -> None:
    scene = Scene(master)
    scene.records("ACC-0001")
    scene.caller("owner").post(ADDRESS, scene.body("ACC-0001"), format="json")
    step = Step.objects.select_related("group").get()
    group = step.group
    Group.objects.update(status="running", lease_until=group.created_at)
    Step.objects.update(status=StepStatus.PLANNED)
    late = group.created_at + timedelta(hours=1)

    def recover() -> int:
        try:
            with transaction.atomic():
                return len(journal.orphans(now=late))
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            group.lease_until = late
            assert journal.advance_steps([], keys={step.pk: "key"}, group=group, now=group.created_at)
            assert thread.submit(recover).result(timeout=10) == 0
        assert thread.submit(recover).result(timeout=10) == 1
    assert not journal.advance_steps([], keys={step.pk: "key"}, group=group, now=group.created_at)


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_good_calls_of_a_group_reset_the_failures_that_the_breaker_counts(master: DemoMaster) -> None:
    scene = Scene(master)
    scene.records("ACC-0001")
    Gate.objects.update_or_create(remote=scene.resource.remote, defaults={"consecutive_faults": 2})
    assert scene.caller("owner").post(ADDRESS, scene.body("ACC-0001"), format="json").status_code == 200
    assert Gate.objects.get().consecutive_faults == 0


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_a_failure_of_a_group_is_counted_at_a_remote_that_had_none(master: DemoMaster) -> None:
    scene = Scene(master)
    scene.records("ACC-0001")
    scene.break_write("ACC-0001", status=503)
    assert scene.caller("owner").post(ADDRESS, scene.body("ACC-0001"), format="json").status_code == 207
    assert Gate.objects.get().consecutive_faults > 0
