"""Grouped updates are forgotten a year after they were over for good, and never while somebody has to end them."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from rollback import journal, workers
from rollback.models import CompensatingTask, Group, GroupedUpdate, Step
from tests.api.world import World, failed_task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]


@pytest.fixture
def world(transactional_db: None) -> World:
    return World()


def later() -> datetime:
    return timezone.now() + timedelta(days=366)


def test_what_is_over_goes_with_its_steps_and_tasks(world: World) -> None:
    failed_task(world.record, world.people["owner"])
    Group.objects.update(status="compensated")
    CompensatingTask.objects.update(status="succeeded", reason="")
    assert workers.prune(timezone.now() + timedelta(days=364)) == 0
    assert workers.prune(later()) == 1
    assert not any(table.objects.exists() for table in (GroupedUpdate, Group, Step, CompensatingTask))


@pytest.mark.parametrize(
    ("group", "task"),
    [
        ({"status": "running", "lease_until": timezone.now()}, {"status": "succeeded", "reason": ""}),
        ({"status": "compensating"}, {"status": "pending", "reason": ""}),
        ({"status": "needs_attention"}, {}),
        ({"status": "compensated", "updated_at": timezone.now() + timedelta(days=2)}, {"status": "succeeded"}),
        ({"status": "compensated"}, {"status": "succeeded", "updated_at": timezone.now() + timedelta(days=2)}),
    ],
    ids=["running", "being undone", "waits for a person", "ended lately", "its task ended lately"],
)
def test_what_is_open_or_young_stays(world: World, group: dict[str, object], task: dict[str, object]) -> None:
    failed_task(world.record, world.people["owner"])
    Group.objects.update(**group)
    if task:
        CompensatingTask.objects.update(**task)
    assert workers.prune(later()) == 0


def test_what_a_person_closed_is_over_and_slices_are_small(world: World) -> None:
    failed_task(world.record, world.people["owner"])
    CompensatingTask.objects.update(reason="closed")
    failed_task(world.others, world.people["owner"], request_id="another")
    CompensatingTask.objects.update(reason="closed")
    assert [journal.prune(before=later(), limit=1) for _ in range(3)] == [1, 1, 0]
