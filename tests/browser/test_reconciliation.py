"""What operations do about many conflicts and about drift, in a real browser."""

from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import Locator

from reconciliation import runs, workers
from reconciliation.models import Run
from syncportal.bulk import work
from syncportal.bulk import workers as bulk_workers
from syncportal.sync.models import Conflict
from syncportal.sync.screens import bulk
from tests.admin.conftest import World, loopback_is_allowed, master, running_master, world
from tests.browser.conftest import PHONE, Window, shows_within
from tests.browser.test_admin_journeys import record_url, worker
from tests.browser.test_live import asgi, stream_is_on, streaming
from tests.factories import PERSON, drain, edit

__all__ = ["asgi", "loopback_is_allowed", "master", "running_master", "streaming", "world"]
pytestmark = pytest.mark.browser
Opens = Callable[..., Window]


def work_off() -> None:
    """Compare, repair, and work off bulk operations."""
    workers.run_waiting(seconds=5)
    workers.repair()
    bulk_workers.run_waiting(seconds=5)


def test_one_record_is_compared_and_repaired_and_the_outcomes_appear(world: World, window: Opens) -> None:
    world.resource.config = {**world.resource.config, "policy": {"lag_s": 0, "repair": {"data_mismatch": "alert"}}}
    world.resource.save()
    world.master.edit("accounts", "ACC-0003", {"city": "Bergen"})
    here = window(world.people["ops"])
    page = here.open(record_url(world.records[2]))
    page.get_by_role("button", name="Compare now").click()
    page.get_by_text("Reading each object").wait_for()
    assert here.too_wide() <= 0 and here.violations() == []
    with worker(work_off):
        page.get_by_text("Finished").wait_for()  # by itself, without a reload
    page.get_by_role("link", name=str(world.records[2])).click()
    page.get_by_text("Found to differ from the remote").first.wait_for()
    page.go_back()
    page.get_by_role("row", name="Data mismatch").get_by_role("link", name="1").click()
    page.locator("#result_list").get_by_role("link", name=str(world.records[2])).click()
    page.get_by_role("button", name="Push our values").click()
    page.get_by_text("Repair asked for").first.wait_for()
    page.get_by_label("Accept it until it changes. Why?").fill("half a sentence")
    with worker(work_off):
        page.locator("#discrepancy-state").get_by_text("Fixed").wait_for()
    assert page.locator("#discrepancy-repairs").get_by_role("button", name="Push our values").count() == 0
    assert here.violations() == []


def test_the_progress_of_a_run_shows_within_two_seconds(world: World, streaming: Callable[..., Window]) -> None:
    run = runs.start(world.resource, actor=PERSON)
    page = streaming("ops").open(reverse("admin:reconciliation_run_change", args=[run.pk]))
    stream_is_on(page)
    shares = iter(range(11, 99))

    def advanced(_: int) -> Locator:
        share = next(shares)
        Run.objects.filter(pk=run.pk).update(checked=share, expected=100)
        return page.get_by_text(f"{share} %")

    for _ in range(2):
        shows_within(2.5, advanced)


def test_many_conflicts_are_decided_on_a_phone_after_a_preview(
    world: World, window: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "INLINE_S", 0)
    monkeypatch.setattr(work, "BATCH", 1)
    for record in world.records[:3]:
        edit(record, city="Lund", **({"credit": 300} if record == world.records[0] else {}))
        world.master.edit("accounts", str(record.external_id), {"city": "Bergen", "credit": 500})
    drain()
    here = window(world.people["ops"], size=PHONE)
    page = here.open(f"/admin/sync/conflict/?resource={world.resource.slug}")
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("remote_wins")
    page.get_by_role("button", name="Go").click()
    page.get_by_text("3 conflicts").wait_for()
    fields = page.locator("ul.legend").filter(has_text="city").locator("li")
    assert [" ".join(line.split()) for line in fields.all_inner_texts()] == [
        f"city ({world.resource.slug}) 3", f"credit ({world.resource.slug}) 1",
    ]  # fmt: skip
    assert here.too_wide() <= 0 and here.violations() == []
    world.master.edit("accounts", "ACC-0002", {"city": "Tartu"})
    edit(world.records[1], city="Oslo")  # it moves while somebody looks at the preview
    page.get_by_role("button", name="Let the remote win (3)").click()
    page.get_by_text("of 3").wait_for()
    assert page.get_by_text("Running").is_visible()
    with worker(work_off):
        page.locator("#bulk-progress .badge--success").wait_for()
        page.get_by_text("skipped because it moved since the preview").first.wait_for()
    assert here.too_wide() <= 0 and here.violations() == []
    page.get_by_role("link", name="Back to the list").first.click()
    assert f"resource={world.resource.slug}" in page.url
    assert [row.record_id for row in Conflict.objects.open()] == [world.records[1].pk]
    drain()
    kept = world.master.get("accounts", "ACC-0001")
    assert kept is not None and (kept["city"], kept["credit"]) == ("Bergen", 500)
