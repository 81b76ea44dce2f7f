"""The dashboard in a real browser: what goes wrong appears by itself, and nothing under the person's hands moves."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page

from syncportal.ops import heartbeat
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState
from syncportal.ops.screens.dashboard import REFRESH_S
from syncportal.remote.models import Gate
from tests.admin.conftest import World, loopback_is_allowed, master, running_master, world
from tests.browser.conftest import BOTH_THEMES, DESKTOP, PHONE, Window
from tests.factories import Clock, drain, edit

__all__ = ["loopback_is_allowed", "master", "running_master", "world"]
pytestmark = pytest.mark.browser
Opens = Callable[..., Window]


def beat(*, ago_s: float = 0) -> None:
    told = Beat("worker-1", 7, WorkerState.RUNNING, canary_age_s=1)
    heartbeat.beat(told, now=timezone.now() - timedelta(seconds=ago_s))


def let_it_refresh(page: Page) -> None:
    """Let the page's clock pass one interval, and wait for the answer."""
    with page.expect_response(lambda answer: "/admin/" in answer.url):
        page.clock.fast_forward(1_000 * REFRESH_S + 100)


def opened(window: Opens, world: World, path: str = "/admin/", **how: object) -> tuple[Window, Page]:
    here = window(world.people["ops"], **how)
    here.page.clock.install()
    return here, here.open(path)


def test_a_worker_that_dies_is_told_within_a_minute(world: World, window: Opens) -> None:
    beat()
    _, page = opened(window, world)
    page.get_by_text("Everything is in order.").wait_for()
    assert heartbeat.FRESH.total_seconds() + REFRESH_S < 60
    beat(ago_s=heartbeat.FRESH.total_seconds() + 1)
    let_it_refresh(page)
    page.get_by_text("No worker is running.").wait_for()
    beat()
    let_it_refresh(page)
    page.get_by_text("Everything is in order.").wait_for()
    assert page.get_by_text("No worker is running.").count() == 0


def test_a_breaker_opens_and_closes_before_ones_eyes(world: World, window: Opens) -> None:
    beat()
    _, page = opened(window, world)
    clock = Clock()
    for record in world.records:
        edit(record, city="Lund")
    world.master.faults.add("status", status=500)
    for _ in range(3):
        drain(clock)
        clock.forward(7)
    assert Gate.objects.get().breaker == "open"
    let_it_refresh(page)
    page.locator("#d-banners").get_by_text("does not answer").wait_for()
    page.locator("#d-remotes").get_by_text("Breaker open").wait_for()
    assert page.locator("#d-errors").get_by_text("http_500").is_visible()
    world.master.faults.clear()
    for _ in range(4):
        clock.forward(700)
        drain(clock)
    beat()
    let_it_refresh(page)
    page.locator("#d-remotes").get_by_text("Running").wait_for()
    assert page.get_by_text("does not answer").count() == 0
    assert page.locator("#d-statuses").get_by_label("Synced: 6").is_visible()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_navigation_counts_along(world: World, window: Opens, size: dict[str, int]) -> None:
    beat()
    _, page = opened(window, world, size=size)
    where = "Main" if size == DESKTOP else "Main, small screens"
    if size == PHONE:
        page.locator(".mobile-menu summary").click()
    nav = page.get_by_role("navigation", name=where, exact=True)
    link = nav.get_by_role("link", name="Conflicts", exact=True)
    link.focus()
    kept = page.evaluate_handle("document.activeElement")
    world.conflict(world.records[0], remote={"credit": 500}, credit=300)
    let_it_refresh(page)
    nav.get_by_role("link", name="Conflicts 1 open").wait_for()
    assert page.evaluate("kept => kept === document.activeElement && kept.isConnected", kept), "the link itself stays"
    assert page.locator("[data-nav] [aria-live], [data-nav] [role=status]").count() == 0


def test_focus_scroll_and_opened_details_survive_a_refresh(world: World, window: Opens) -> None:
    beat()
    edit(world.records[0], city="Lund")
    drain()
    _, page = opened(window, world, "/admin/?window=7d")
    page.get_by_text("Show as table").click()
    link = page.locator("#d-statuses").get_by_label("Synced: 6")
    link.focus()
    page.evaluate("window.scrollTo(0, 320)")
    edit(world.records[1], city="Lund")
    let_it_refresh(page)
    page.locator("#d-statuses").get_by_label("Pending: 1").wait_for()
    assert page.evaluate("window.scrollY") == 320
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Synced: 5"
    assert page.locator("#d-table").get_by_role("table").is_visible()


def test_a_lost_connection_is_told_and_ends(world: World, window: Opens) -> None:
    beat()
    here, page = opened(window, world)
    page.route("**/admin/", lambda route: route.abort())
    page.clock.fast_forward(1_000 * REFRESH_S + 100)
    page.get_by_text("The connection to the server is lost; trying again.").wait_for()
    page.unroute("**/admin/")
    let_it_refresh(page)
    page.locator("[data-lost]").wait_for(state="hidden")
    here.complaints[:] = [text for text in here.complaints if "ERR_FAILED" not in text]


def test_somebody_signed_out_elsewhere_is_told(world: World, window: Opens) -> None:
    beat()
    _, page = opened(window, world)
    page.context.clear_cookies()
    page.clock.fast_forward(1_000 * REFRESH_S + 100)
    page.get_by_text("You are not signed in any more").wait_for()


@pytest.mark.parametrize("state", ["empty", "full"])
def test_no_serious_violation_and_nothing_too_wide(
    world: World, window: Opens, transactional_db: None, state: str
) -> None:
    if state == "full":
        world.conflict(world.records[0], remote={"credit": 500}, credit=300)
        world.master.faults.add_json(
            {"kind": "status", "settings": {"status": 422}, "object_id": "ACC-0003", "phase": "write"}
        )
        edit(world.records[2], city="Lund")
        edit(world.records[3], city="Lund")
        drain()
    for size in ({"width": 1440, "height": 900}, PHONE):
        here = window(world.people["ops"], size=size)
        here.open("/admin/")
        assert here.violations(*BOTH_THEMES) == []
        assert here.too_wide() == 0


def test_without_scripts_the_filters_work_by_a_button(world: World, window: Opens) -> None:
    beat()
    page = window(world.people["ops"], scripts=False).open("/admin/?window=7d")
    page.get_by_label("Resource", exact=True).select_option(world.resource.slug)
    page.get_by_role("button", name="Show").click()
    assert "window=7d" in page.url and f"resource={world.resource.slug}" in page.url
    assert page.locator("#d-scope").get_by_text("last 7 days").is_visible()
