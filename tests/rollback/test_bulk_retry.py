"""Many compensating tasks tried again at once: with a reason, by operations only, those that do not fit left out."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from rollback.bulk_acts import RETRY
from rollback.models import CompensatingTask
from rollback.states import TaskReason, TaskStatus
from syncportal.bulk.models import BulkOperation
from syncportal.demo import DemoMaster
from syncportal.sync.models import Event
from tests.rollback.scene import Scene
from tests.rollback.test_operate import failed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]
LIST = reverse("admin:rollback_compensatingtask_changelist")


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    made = Scene(master, {"policy": {"compensation": {"attempts": 1, "base_s": 0.01, "cap_s": 1}}})
    for user in made.people.values():
        user.is_staff = True
        user.save()
    return made


def browser(scene: Scene, name: str) -> Client:
    client = Client()
    client.force_login(scene.people[name])
    return client


def choose(client: Client, *tasks: CompensatingTask) -> Any:
    given = {"action": "retry", "_selected_action": [task.pk for task in tasks]}
    return client.post(LIST, given, follow=True)


def test_tasks_waiting_for_a_person_are_tried_again_with_a_reason(scene: Scene) -> None:
    task, client = failed(scene), browser(scene, "operator")
    assert "Try again now (1)" in choose(client, task).content.decode()
    start = reverse("admin:bulk_bulkoperation_start", args=[BulkOperation.objects.get().pk])
    assert client.post(start, {"reason": ""}).status_code == 422
    assert CompensatingTask.objects.get().status == TaskStatus.FAILED_PERMANENT
    answer = client.post(start, {"reason": "The remote is mended."}, follow=True)
    assert "1 made due now." in answer.content.decode()
    assert CompensatingTask.objects.get().status == TaskStatus.PENDING
    told = Event.objects.get(kind="compensation.retried")
    assert (told.data["why"], told.actor) == ("The remote is mended.", scene.people["operator"])


def test_what_does_not_fit_is_named_and_left_alone(scene: Scene) -> None:
    task, client = failed(scene), browser(scene, "operator")
    CompensatingTask.objects.update(reason=TaskReason.UNDO_CONFLICT)
    text = choose(client, task).content.decode()
    assert "1 is left out" in text and "Somebody else changed the object" in text and "Try again now (0)" in text
    CompensatingTask.objects.update(reason=TaskReason.MAX_ATTEMPTS)
    choose(client, task)
    CompensatingTask.objects.update(reason=TaskReason.CLOSED)  # somebody closes it after the preview
    operation = BulkOperation.objects.first()
    client.post(reverse("admin:bulk_bulkoperation_start", args=[operation.pk]), {"reason": "x"})
    operation.refresh_from_db()
    assert (operation.state, operation.done, operation.skipped) == ("done", 0, 1)
    assert not Event.objects.filter(kind="compensation.retried").exists()


def test_only_operations_may(scene: Scene) -> None:
    task = failed(scene)
    owner = browser(scene, "owner")
    assert "action-toggle" not in owner.get(LIST).content.decode()
    choose(owner, task)
    assert not BulkOperation.objects.exists() and not RETRY.may(scene.people["owner"])
