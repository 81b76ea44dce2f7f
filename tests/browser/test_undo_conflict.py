"""The record's owner decides, in a real browser, about an undo that somebody's change stopped."""

from collections.abc import Callable

import pytest
from django.urls import reverse

from rollback.models import CompensatingTask
from syncportal.demo import DemoMaster
from syncportal.sync.models import Record
from tests.admin.conftest import loopback_is_allowed, master, running_master
from tests.browser.conftest import PHONE, Window
from tests.browser.test_admin_journeys import worker
from tests.factories import job_of
from tests.rollback.scene import Scene
from tests.rollback.test_operate import conflicting

__all__ = ["loopback_is_allowed", "master", "running_master"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("way", ["Leave it as the remote has it", "Put the old values back"])
def test_a_failed_undo_is_decided_by_the_owner_on_a_phone(
    master: DemoMaster, window: Callable[..., Window], way: str
) -> None:
    before = (master.get("accounts", "ACC-0001") or {})["city"]
    scene = Scene(master, {"policy": {"compensation": {"attempts": 1, "base_s": 0.01, "cap_s": 1}}})
    task = conflicting(scene)
    owner = scene.people["owner"]
    owner.is_staff = True
    owner.save()
    here = window(owner, size=PHONE)
    page = here.open(reverse("admin:sync_conflict_change", args=[task.record.conflicts.get().pk]))
    page.get_by_text("A grouped update was being undone").first.wait_for()
    assert here.too_wide() <= 0 and here.violations() == []
    page.get_by_role("button", name=way).dblclick()
    page.get_by_text("Resolved:").wait_for()
    with worker():
        page.locator("#conflict-state").get_by_text("Both sides agree.").wait_for()
    assert here.too_wide() <= 0 and here.violations() == []
    task = CompensatingTask.objects.get()
    record = Record.objects.get(pk=task.record_id)
    city = before if way.startswith("Put") else "Elsewhere"
    assert (task.reason, job_of(record).held_by, job_of(record).status) == ("resolved", "", "SYNCED")
    assert scene.city("ACC-0001") == record.data["city"] == city
