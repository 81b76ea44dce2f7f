"""What happens elsewhere shows on open pages by itself: under a server with streams, and under one without."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, Locator, Page

from syncportal.bulk import journal, work
from syncportal.bulk.journal import NewOperation
from syncportal.bulk.models import BulkOperation
from syncportal.sync import local
from syncportal.sync.events import Actor
from syncportal.sync.models import SyncJob
from syncportal.sync.states import Status
from tests.admin.conftest import HOSTILE, World, loopback_is_allowed, master, running_master, world
from tests.browser.conftest import PATIENCE_MS, Window, shows_within
from tests.browser.test_admin_journeys import record_url, worker
from tests.factories import Clock, drain, edit

__all__ = ["loopback_is_allowed", "master", "running_master", "world"]
pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def asgi(django_db_setup: None, django_db_blocker: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run gunicorn as the README says, on the database of the tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("asgi")
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ, "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "DATA_DIR": str(settings.DATA_DIR), "PUBLIC_URL": url, "REMOTE_ALLOWED_NETWORKS": "127.0.0.0/8",
    }  # fmt: skip
    command = ["-m", "gunicorn", "-k", "asgi", "--graceful-timeout", "1", "--no-control-socket", "-b", url[7:]]
    with (folder / "web.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, *command, "syncportal.asgi:application"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 30
        while not _answers(url):
            assert server.poll() is None and time.monotonic() < until, (folder / "web.log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def streaming(world: World, browser: Browser, asgi: str) -> Iterator[Callable[..., Window]]:
    """Return a function that opens a window of a person's, served by gunicorn."""
    contexts = []
    complaints: list[str] = []

    def make(who: str, *, size: dict[str, int] | None = None) -> Window:
        context = browser.new_context(viewport=size or {"width": 1440, "height": 900})  # type: ignore[arg-type]
        contexts.append(context)
        client = Client()
        client.force_login(world.people[who])
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": asgi}])
        made = Window(context.new_page(), asgi, complaints)
        made.page.set_default_timeout(PATIENCE_MS)
        made.page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        made.page.on("pageerror", lambda error: complaints.append(str(error)))
        return made

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


def save(world: World, **changes: object) -> None:
    """Save the first record as Olga does."""
    olga = Actor("user", world.people["olga"].pk, "olga")
    local.save(local.Edit(world.records[0].pk, changes), actor=olga)


def stream_is_on(page: Page) -> None:
    page.wait_for_selector("html[data-stream=on]", state="attached")


def test_a_save_shows_as_synced_within_two_seconds_on_any_page(world: World, streaming: Callable[..., Window]) -> None:
    here = streaming("olga")
    page = here.open(record_url(world.records[0]))
    stream_is_on(page)

    def saved(number: int) -> Locator:
        page.get_by_label("City").fill(f"Bergen {number}")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved. Syncing…").wait_for()
        return page.locator("#state-body").get_by_text("Both sides agree.")

    with worker():
        shows_within(2, saved)
    assert page.locator(".toast").count() == 0, "the page itself says it"
    page.get_by_label("City").fill("Lund")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Syncing…").wait_for()
    here.open("/admin/sync/record/")
    stream_is_on(page)
    drain()
    toast = page.locator(".toast", has_text="synced")
    toast.wait_for()
    assert here.violations() == []
    toast.get_by_role("link").click()
    page.locator("#state-body").get_by_text("Both sides agree.").wait_for()


def test_failures_stay_until_they_are_dismissed_or_over_and_stand_as_text(
    world: World, streaming: Callable[..., Window]
) -> None:
    here = streaming("olga", size={"width": 390, "height": 844})
    page = here.open("/admin/work/")
    stream_is_on(page)
    world.master.faults.add("status", phase="write", status=503)
    save(world, name=HOSTILE[0])
    drain()
    toast = page.locator(".toast")
    toast.get_by_text("retry in").wait_for()
    assert HOSTILE[0] in toast.inner_text()
    assert here.too_wide() <= 0
    world.master.faults.clear()
    drain(Clock(timezone.now() + timedelta(minutes=1)))
    toast.get_by_text("synced").wait_for()
    assert toast.count() == 1
    page.get_by_role("button", name="Dismiss").click()
    assert page.locator(".toast").count() == 0


def test_somebody_elses_act_shows_on_a_page_at_rest(world: World, streaming: Callable[..., Window]) -> None:
    page = streaming("ops").open(record_url(world.records[0]))
    stream_is_on(page)
    edit(world.records[0], city="Elsewhere")
    page.locator("#state-body").get_by_text("Pending").wait_for()
    page.locator("#state-body").get_by_text("The values changed since you opened this form.").wait_for()


def test_progress_that_is_no_event_shows_within_two_seconds(world: World, streaming: Callable[..., Window]) -> None:
    world.master.faults.add("status", phase="write", status=422, times=1)
    edit(world.records[0], city="Lund")
    drain()
    new = NewOperation("records.requeue", [world.records[0].pk], world.people["ops"].pk, "ops", ramp=True)
    operation = journal.prepare(new, now=timezone.now())
    work.begin(operation.pk, parameters={})
    work.run(operation.pk, seconds=1)
    page = streaming("ops").open(reverse("admin:bulk_bulkoperation_change", args=[operation.pk]))
    stream_is_on(page)
    drain()
    page.wait_for_timeout(900)  # until the page has looked again because of the drain's events
    BulkOperation.objects.update(lease_until=None)
    work.run(operation.pk, seconds=1)  # notes that the record agreed, which no event tells
    progress = page.locator("#bulk-progress")
    asks = [progress.get_attribute(name) for name in ("hx-trigger", "data-live-slow-ms")]
    assert asks == ["every 1s, live", "0"], "also while the stream is on"
    page.get_by_text("1 of 1").wait_for()


def test_hidden_tabs_close_their_stream_and_go_on_where_they_were(
    world: World, streaming: Callable[..., Window]
) -> None:
    page = streaming("olga").open("/admin/work/")
    stream_is_on(page)
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); " \
           "document.dispatchEvent(new Event('visibilitychange'))"  # fmt: skip
    page.evaluate(hide % "true")
    page.wait_for_selector("html[data-stream=off]", state="attached")
    save(world, city="Hidden")
    drain()
    assert page.locator(".toast").count() == 0
    page.evaluate(hide % "false")
    page.locator(".toast", has_text="synced").wait_for()


def test_without_streams_pages_ask(world: World, window: Callable[..., Window]) -> None:
    here = window(world.people["olga"])
    with here.page.expect_response(lambda answer: answer.url.endswith("/admin/live/") and answer.status == 200):
        page = here.open("/admin/work/")
    save(world, city="Asked")
    drain()
    page.locator(".toast", has_text="synced").wait_for()
    assert SyncJob.objects.get(pk=world.records[0].pk).status == Status.SYNCED
    assert page.locator("html").get_attribute("data-stream") == "off"
