"""The pages of error groups and of retrying one in a real browser: nothing refused, nothing too wide, axe clean."""

from collections.abc import Callable

import pytest
from django.urls import reverse

from syncportal.bulk import work
from syncportal.bulk.models import BulkOperation
from syncportal.sync.error_models import ErrorGroup
from tests.admin.conftest import HOSTILE, World, loopback_is_allowed, master, running_master, world
from tests.browser.conftest import DESKTOP, PHONE, Window
from tests.factories import drain, edit

__all__ = ["loopback_is_allowed", "master", "running_master", "world"]
pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_a_cause_is_understood_annotated_and_retried(
    world: World, window: Callable[..., Window], monkeypatch: pytest.MonkeyPatch, size: dict[str, int], theme: str
) -> None:
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0)
    answer = {"status": 422, "body": {"error": f"city refused: {HOSTILE[0]} {'long' * 60}"}}
    for number in (3, 4):
        fault = {"kind": "status", "settings": answer, "object_id": f"ACC-000{number}", "phase": "write"}
        world.master.faults.add_json(fault)
        edit(world.records[number - 1], city="Lund")
    drain()
    here = window(world.people["ops"], size=size, theme=theme)
    problems: dict[str, list[str]] = {}

    def look(name: str) -> None:
        found = [*here.violations(), *([f"{here.too_wide()} px too wide"] if here.too_wide() > 0 else [])]
        if found:
            problems[name] = found

    page = here.open(reverse("admin:sync_errorgroup_changelist"))
    look("list")
    page.locator("a.row-title").click()
    page.get_by_text("2 records fail for this cause").wait_for()
    look("group")
    page.get_by_label("What is known about it").fill("Ask the remote's team.")
    page.get_by_role("button", name="Keep the note").click()
    page.get_by_text("The note is kept with the group.").wait_for()
    page.get_by_role("link", name="30 days").click()
    page.get_by_text("2 in the last 30 days").wait_for()
    page.get_by_role("button", name="Retry this group (2)").click()
    page.get_by_role("button", name="Requeue (2)").click()
    page.get_by_text("In steps: 1 may have been let go").wait_for()
    drain()
    work.run(BulkOperation.objects.get().pk, seconds=5)
    page.get_by_text("Why records failed, as they stand now").wait_for()
    look("stopped")
    page.get_by_role("link", name=str(ErrorGroup.objects.get())[:20]).first.click()
    page.get_by_text("Note changed").wait_for()
    assert problems == {}
