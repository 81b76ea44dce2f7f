"""Who gets how far with grouped updates and compensating tasks: page by page, role by role, and never by accident."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from rollback.models import CompensatingTask, Group
from syncportal.demo import DemoMaster
from syncportal.sync.models import Event, SyncJob
from tests.rollback.scene import Scene
from tests.rollback.test_operate import failed

pytestmark = pytest.mark.django_db(transaction=True)
LISTS = ("rollback_group_changelist", "rollback_compensatingtask_changelist")
PAGES = ("rollback_group_change", "rollback_compensatingtask_change")
ACTS: dict[str, tuple[str, ...]] = {
    "rollback_group_look": ("owner", "operator", "admin"),
    "rollback_group_again": ("operator", "admin"),
    "rollback_compensatingtask_look": ("operator", "admin"),
    "rollback_compensatingtask_do/retry": ("operator", "admin"),
    "rollback_compensatingtask_do/force": ("operator", "admin"),
    "rollback_compensatingtask_do/close": ("operator", "admin"),
}


@pytest.fixture
def scene(master: DemoMaster) -> Scene:
    made = Scene(master, {"policy": {"compensation": {"attempts": 1, "base_s": 0.01, "cap_s": 1}}})
    made.people["nobody"] = User.objects.create_user("nobody")
    User.objects.update(is_staff=True)
    return made


def browser(scene: Scene, name: str, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(User.objects.get(username=name))
    return client


def address(name: str, task: CompensatingTask) -> str:
    name, _, verb = name.partition("/")
    pk = task.step.group_id if "_group_" in name else task.pk
    return reverse(f"admin:{name}", args=[] if name in LISTS else [pk, *([verb] if verb else [])])


def rows() -> list[Any]:
    """Return everything that an act could change."""
    jobs = SyncJob.objects.order_by("pk").values_list("pk", "status", "held_by", "in_doubt")
    tasks = CompensatingTask.objects.values_list("status", "reason", "attempts", "force", "updated_at")
    return [*jobs, *tasks, *Group.objects.values_list("status", "updated_at"), Event.objects.count()]


@pytest.fixture
def task(scene: Scene) -> CompensatingTask:
    return failed(scene)


def test_pages_are_seen_by_their_sender_and_by_whoever_sees_all(scene: Scene, task: CompensatingTask) -> None:
    expected = {"owner": 200, "viewer": 200, "operator": 200, "admin": 200, "other": 404, "nobody": 403}
    for name in PAGES:
        for who, status in expected.items():
            assert browser(scene, who).get(address(name, task)).status_code == status, (name, who)
        assert Client().get(address(name, task)).status_code == 302
    for name in LISTS:
        for who, status in expected.items():
            answer = browser(scene, who).get(address(name, task))
            assert answer.status_code == (200 if status == 404 else status), (name, who)
            seen = list(answer.context["cl"].result_list) if answer.status_code == 200 else []
            assert len(seen) == (1 if status == 200 else 0), (name, who)


def test_acts_are_refused_by_role_and_scope_and_change_nothing(scene: Scene, task: CompensatingTask) -> None:
    before, asked = rows(), len(scene.master.requests())
    for name, allowed in ACTS.items():
        for who in scene.people:
            if who not in allowed:
                answer = browser(scene, who).post(address(name, task), {"why": "w", "seal": "x"})
                assert answer.status_code == (404 if who == "other" else 403), (name, who)
        assert Client().post(address(name, task)).status_code == 302
    assert (rows(), len(scene.master.requests())) == (before, asked)


def test_no_act_is_done_by_following_a_link_or_without_its_token(scene: Scene, task: CompensatingTask) -> None:
    before, asked = rows(), len(scene.master.requests())
    strict = browser(scene, "admin", enforce_csrf_checks=True)
    for name in ACTS:
        assert browser(scene, "admin").get(address(name, task), {"why": "w"}).status_code == 405, name
        assert strict.post(address(name, task), {"why": "w"}).status_code == 403, name
    for name in (*LISTS, *PAGES):
        assert browser(scene, "admin").get(address(name, task)).status_code == 200
    assert (rows(), len(scene.master.requests())) == (before, asked)


@pytest.mark.parametrize("verb", ["retry", "force", "close"])
def test_an_act_on_a_page_that_is_out_of_date_says_so_and_changes_nothing(
    scene: Scene, task: CompensatingTask, verb: str
) -> None:
    CompensatingTask.objects.update(status="succeeded", reason="")
    before = rows()
    act = address(f"rollback_compensatingtask_do/{verb}", task)
    text = browser(scene, "operator").post(act, {"why": "w", "seal": "x"}, follow=True).content.decode()
    assert "Nothing was changed. The undo has succeeded; there is nothing left to do." in text
    assert rows() == before
