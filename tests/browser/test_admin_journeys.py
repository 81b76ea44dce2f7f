"""What people do on the record pages, in a real browser."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.urls import reverse

from syncportal.sync.models import Conflict, Record
from syncportal.sync.states import Status
from tests.admin.conftest import HOSTILE, World, loopback_is_allowed, master, running_master, world
from tests.browser.conftest import BOTH_THEMES, DESKTOP, PHONE, Window
from tests.factories import drain, edit, job_of

__all__ = ["loopback_is_allowed", "master", "running_master", "world"]
pytestmark = pytest.mark.browser
Opens = Callable[..., Window]


@contextmanager
def worker(work: Callable[[], object] = drain) -> Iterator[None]:
    """Push what is due, or do other work, in a thread of its own until the block ends, as a worker would."""
    stopped = threading.Event()

    def again_and_again() -> None:
        while not stopped.wait(0.2):
            work()
        connection.close()

    thread = threading.Thread(target=again_and_again)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def record_url(record: Record) -> str:
    return reverse("admin:sync_record_change", args=[record.pk])


def conflict_url(conflict: Conflict) -> str:
    return reverse("admin:sync_conflict_change", args=[conflict.pk])


def test_an_edit_is_saved_and_its_outcome_appears_by_itself(world: World, window: Opens) -> None:
    here = window(world.people["olga"])
    page = here.open(record_url(world.records[0]))
    page.get_by_label("City").fill("Bergen")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved. Syncing…").wait_for()
    assert page.locator("#state-body").get_by_text("Pending").is_visible()
    with worker():
        page.locator("#state-body").get_by_text("Both sides agree.").wait_for()
        page.locator("#history").get_by_text("Sent and confirmed").wait_for()
    assert page.locator("#state-body").get_attribute("hx-trigger") == "live", "it asks no more by itself"
    kept = world.master.get("accounts", "ACC-0001")
    assert kept is not None and kept["city"] == "Bergen"


def test_input_survives_while_the_state_moves(world: World, window: Opens) -> None:
    edit(world.records[0], city="First")
    page = window(world.people["olga"]).open(record_url(world.records[0]))
    page.get_by_label("Notes").fill("half a sentence")
    with worker():
        page.locator("#state-body").get_by_text("Both sides agree.").wait_for()
    assert page.get_by_label("Notes").input_value() == "half a sentence"


def test_without_scripts_an_edit_works_and_a_link_looks_again(world: World, window: Opens) -> None:
    page = window(world.people["olga"], scripts=False).open(record_url(world.records[0]))
    page.get_by_label("City").fill("Bergen")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved. Syncing…").wait_for()
    drain()
    page.get_by_role("link", name="Look again").click()
    page.get_by_text("Both sides agree.").wait_for()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
@pytest.mark.parametrize("way", ["remote", "local", "merge"])
def test_a_conflict_is_decided_three_ways(world: World, window: Opens, size: dict[str, int], way: str) -> None:
    found = world.conflict(world.records[0], remote={"city": "Oslo", "credit": 500}, city="Bergen", credit=300)
    here = window(world.people["olga"], size=size)
    page = here.open(conflict_url(found))
    assert here.too_wide() <= 0
    assert here.violations() == []
    if way == "remote":
        page.get_by_role("button", name="Use remote").dblclick()
    elif way == "local":
        page.get_by_role("button", name="Push local").click()
    else:
        city, credit = page.get_by_role("group", name="City"), page.get_by_role("group", name="Credit")
        city.get_by_label("At the remote").check()
        assert city.locator("[data-result]").inner_text() == "Oslo"
        credit.get_by_label("Another value for Credit").fill("420")  # typing chooses its radio button
        assert credit.get_by_role("radio", name="Another value").is_checked()
        assert credit.locator("[data-result]").inner_text() == "420"
        page.get_by_text("Every field is decided.").wait_for()
        page.get_by_role("button", name="Save the merge and send it").dblclick()
    page.get_by_text("Resolved:").wait_for()
    with worker():
        page.locator("#conflict-state").get_by_text("Both sides agree.").wait_for()  # by itself, without a reload
    assert here.too_wide() <= 0 and here.violations() == []
    kept = world.master.get("accounts", "ACC-0001")
    wanted = {"remote": ("Oslo", 500), "local": ("Bergen", 300), "merge": ("Oslo", 420)}[way]
    assert kept is not None and (kept["city"], kept["credit"]) == wanted
    assert job_of(world.records[0]).status in (Status.SYNCED, Status.SKIPPED)


def test_a_conflict_is_decided_without_scripts(world: World, window: Opens) -> None:
    found = world.conflict(world.records[0], remote={"city": "Oslo"}, city="Bergen")
    page = window(world.people["olga"], size=PHONE, scripts=False).open(conflict_url(found))
    page.get_by_role("button", name="Save the merge and send it").click()
    page.get_by_text("Choose the local value").wait_for()
    page.get_by_role("radio", name="Here").check()
    page.get_by_role("button", name="Show the result first").click()
    page.get_by_text("nothing is written yet").wait_for()
    assert page.locator("[data-result]").inner_text() == "Bergen"
    page.get_by_role("button", name="Save the merge and send it").click()
    page.get_by_text("Resolved:").wait_for()
    drain()
    page.get_by_role("link", name="Look again").click()
    page.get_by_text("Both sides agree.").wait_for()


def test_a_conflict_is_decided_with_the_keyboard_alone(world: World, window: Opens) -> None:
    found = world.conflict(world.records[0], remote={"city": "Oslo"}, city="Bergen")
    page = window(world.people["olga"]).open(conflict_url(found))
    seen: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        what = page.evaluate(FOCUSED)
        seen.append(what)
        if page.evaluate("document.activeElement.type") == "radio" and not page.locator("input:checked").count():
            page.keyboard.press("Space")
        if what == "Another value for City":
            page.keyboard.press("Enter")  # decides nothing
        if what == "Save the merge and send it":
            page.keyboard.press("Enter")
            break
    assert {"Skip to main content", "Use remote", "Push local"} <= set(seen), seen
    page.get_by_text("Resolved:").wait_for()


def test_bulk_requeue_from_the_list_keeps_filter(world: World, window: Opens) -> None:
    world.master.faults.add("status", phase="write", status=422)
    for record in world.records[:3]:
        edit(record, city="Bergen")
    drain()
    page = window(world.people["ops"]).open("/admin/sync/record/?status=ERROR")
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("requeue")
    page.get_by_role("button", name="Go").click()
    page.get_by_role("button", name="Requeue (3)").click()
    page.get_by_text("3 requeued.").wait_for()
    assert page.url.endswith("?status=ERROR")


FOCUSED = "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText.trim()"
PAGES: dict[str, Any] = {
    "start": lambda w: "/admin/",
    "my work": lambda w: "/admin/work/",
    "records": lambda w: "/admin/sync/record/",
    "record": lambda w: record_url(w.records[0]),
    "failed record": lambda w: record_url(w.records[1]),
    "new record": lambda w: f"/admin/sync/record/add/?resource={w.resource.slug}",
    "delete": lambda w: reverse("admin:sync_record_delete", args=[w.records[1].pk]),
    "conflicts": lambda w: "/admin/sync/conflict/",
    "conflict": lambda w: conflict_url(Conflict.objects.get()),
    "log": lambda w: "/admin/sync/synclog/",
    "exchange": lambda w: reverse("admin:sync_synclog_change", args=[w.records[1].logs.first().pk]),
    "events": lambda w: "/admin/sync/event/",
    "remotes": lambda w: "/admin/remote/remote/",
    "remote": lambda w: reverse("admin:remote_remote_change", args=[w.resource.remote_id]),
    "remote history": lambda w: reverse("admin:remote_remote_history", args=[w.resource.remote_id]),
    "resources": lambda w: "/admin/remote/resource/",
    "resource": lambda w: reverse("admin:remote_resource_change", args=[w.resource.pk]),
    "timetable": lambda w: "/admin/ops/duty/",
    "workers": lambda w: "/admin/ops/heartbeat/",
    "probe": lambda w: reverse("admin:remote_resource_probe", args=[w.resource.pk]),
    "bulk operations": lambda w: "/admin/bulk/bulkoperation/",
    "discrepancies": lambda w: "/admin/reconciliation/discrepancy/",
    "runs": lambda w: "/admin/reconciliation/run/",
    "grouped updates": lambda w: "/admin/rollback/group/",
    "compensating tasks": lambda w: "/admin/rollback/compensatingtask/",
    "keys": lambda w: reverse("admin:access_apikey_changelist"),
    "new key": lambda w: reverse("admin:access_apikey_add"),
    "digest": lambda w: reverse("admin:ops_digest"),
}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
def test_no_page_has_serious_barriers_or_is_too_wide(world: World, window: Opens, size: dict[str, int]) -> None:
    world.conflict(world.records[0], remote={"city": HOSTILE[0]}, city=HOSTILE[1], name="long " * 20)
    world.master.faults.add("status", object_id="ACC-0002", status=422)
    edit(world.records[1], notes=" ".join(HOSTILE) + "w" * 300)
    drain()
    problems = []
    here = window(world.people["anna"], size=size)
    for name, where in PAGES.items():
        here.open(where(world))
        problems += [f"{name}: {one}" for one in here.violations(*BOTH_THEMES)]
        if here.too_wide() > 0:
            problems.append(f"{name}: {here.too_wide()} px too wide")
    assert not problems, "\n".join(problems)
