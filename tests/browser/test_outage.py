"""An outage from its switch to its end, as somebody sees it who never saw the product before. Time is passed in."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.core import mail
from playwright.sync_api import Page

from syncportal.ops import heartbeat
from syncportal.ops.alerts import evaluate, sending
from syncportal.ops.alerts.models import Alert
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState
from syncportal.ops.screens.dashboard import REFRESH_S
from syncportal.sync.models import SyncJob
from tests.admin.conftest import World, loopback_is_allowed, master, running_master, world
from tests.browser.conftest import Window
from tests.factories import Clock, drain, edit

__all__ = ["loopback_is_allowed", "master", "running_master", "world"]
pytestmark = pytest.mark.browser


def a_minutes_duties(clock: Clock) -> None:
    """Do what the worker does each minute: beat, judge the rules, send what people are to be told."""
    heartbeat.beat(Beat("worker-1", 7, WorkerState.RUNNING, canary_age_s=1), now=clock.now)
    evaluate.evaluate(clock.now)
    sending.send_due(clock=clock)


def let_it_refresh(page: Page) -> None:
    with page.expect_response(lambda answer: "/admin/" in answer.url):
        page.clock.fast_forward(1_000 * REFRESH_S + 100)


def subjects() -> list[str]:
    return [message.subject.removeprefix("[SyncPortal] ") for message in mail.outbox]


def test_an_outage_says_what_since_when_whom_and_what_to_do_and_ends_by_itself(
    world: World, window: Callable[..., Window], settings: Any
) -> None:
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    clock, here = Clock(), window(world.people["ops"])
    a_minutes_duties(clock)
    name = str(world.resource.remote)
    board = here.page
    board.clock.install()
    here.open("/admin/")
    board.get_by_text("Everything is in order.").wait_for()

    switchboard = board.context.new_page()
    switchboard.goto(f"{world.master.url}/_demo/")
    switchboard.get_by_role("button", name="Switch on storm-503").click()
    for record in world.records:
        edit(record, city="Lund")
    clock.now = max(clock.now, datetime.now(clock.now.tzinfo))
    for _ in range(3):
        drain(clock)
        clock.forward(7)
    a_minutes_duties(clock)

    let_it_refresh(board)
    banner = board.locator(f"#b-remote-{world.resource.remote_id}")
    banner.get_by_text(f"{name} does not answer.").wait_for()
    told = banner.inner_text()
    assert "The breaker has been open for" in told, "since when"
    assert "6 records wait; no attempt is counted meanwhile" in told, "what is affected"
    assert "It is asked again by itself" in told and "what waits is sent when it answers" in told, "what happens"
    assert "503" in told, "what it answered"
    assert banner.get_by_role("link", name="test the connection, or pause it").is_visible(), "what one can do"
    assert board.locator("[data-nav=side]").get_by_role("link", name="Alerts 1 open").is_visible()
    assert subjects() == [f"Critical: Remote is down: {name}"]
    banner.get_by_role("link", name="6 records wait").click()
    board.locator("a.row-title").nth(5).wait_for()
    assert board.locator("a.row-title").count() == 6

    here.open(f"/admin/ops/alert/{Alert.objects.get().pk}/")
    alert = board.locator("#content")
    for words in ("Critical", "Nobody has taken it on", "What the system does", "What you can do", "Operations mail"):
        assert alert.get_by_text(words).first.is_visible(), words
    here.open("/admin/")

    switchboard.get_by_role("button", name="Switch everything off").click()
    for _ in range(6):
        clock.forward(700)
        drain(clock)
    assert set(SyncJob.objects.values_list("status", flat=True)) == {"SYNCED"}
    a_minutes_duties(clock)
    heartbeat.beat(Beat("worker-1", 7, WorkerState.RUNNING, canary_age_s=1), now=datetime.now(clock.now.tzinfo))
    let_it_refresh(board)
    board.locator("#d-remotes").get_by_text("Running").wait_for()
    assert board.get_by_text("does not answer").count() == 0
    assert board.locator("#d-statuses").get_by_label("Synced: 6").is_visible()
    assert board.locator("[data-nav=side]").get_by_role("link", name="Alerts", exact=True).is_visible()
    assert all(world.master.get("accounts", str(record.external_id))["city"] == "Lund" for record in world.records)
    assert [alert.state for alert in Alert.objects.all()] == ["resolved"]
    assert subjects()[1:] == [f"Resolved: Critical: Remote is down: {name}"]
    here.open(f"/admin/ops/alert/{Alert.objects.get().pk}/")
    assert alert.get_by_text("It is over.").first.is_visible()
