"""What stops a run or a repair half-way: a rate that grants a call now and then, refusals, outages, second thoughts."""

from collections.abc import Callable
from typing import Any

import pytest

from reconciliation import engine, findings, fixing, repairs, runs
from reconciliation.bulk_acts import how_it_went
from reconciliation.models import Discrepancy, Run
from reconciliation.pace import Pace
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.models import Gate, Resource
from syncportal.sync.events import WORKER
from syncportal.sync.models import Event
from syncportal.sync.slots import NoSlot
from tests.reconciliation.scene import agreed, found, person, reconcile, to_the_end

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def big(master: DemoMaster) -> DemoMaster:
    """Return the master with more rows than a page holds."""
    master.reset((accounts(180), shifts(1)))
    return master


def paged(master: DemoMaster, **changes: Any) -> Resource:
    page = {"style": "offset", "param": "offset", "size_param": "limit", "size": 50}
    return agreed(master, list={"path": "/accounts", "items": "/items", "page": page}, **changes)[0]


@pytest.fixture
def grant(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the remote's rate allow so many calls a slice and then none."""
    real, most, made = Pace.calls, [0], {}

    def calls(pace: Pace, wish: int) -> int:
        made[id(pace)] = made.get(id(pace), 0) + 1
        if made[id(pace)] > most[0]:
            raise NoSlot("no call yet")
        return real(pace, wish)

    def allow(number: int) -> None:
        most[0] = number
        made.clear()

    monkeypatch.setattr(Pace, "calls", calls)
    return allow


def slice_of(run: Run) -> Run:
    """Work on a run once, as if its pause were over."""
    Run.objects.filter(pk=run.pk).update(lease_until=None)
    return engine.run_slice(run.pk, seconds=20).run


def test_a_page_is_kept_where_the_rate_allows_one_call_at_a_time(big: DemoMaster, grant: Callable[[int], None]) -> None:
    run = runs.start(paged(big), actor=WORKER)
    for pages in (1, 2, 3):
        grant(1)
        now = slice_of(run)
        assert (now.remote_rows, now.checked, now.state) == (50 * pages, 50 * pages, "running")
        assert "no call yet" in now.problem
    grant(9)
    assert (slice_of(run).state, slice_of(run).matched) == ("finished", 180)


def test_single_reads_are_kept_where_the_rate_allows_a_few(big: DemoMaster, grant: Callable[[int], None]) -> None:
    resource, _ = agreed(big, list=None)
    run = runs.start(resource, actor=WORKER)
    for slices in (1, 2):
        grant(3)
        assert slice_of(run).checked == 3 * slices
    grant(1_000)
    assert slice_of(run).matched == 180


@pytest.mark.parametrize("phase", ["list", "detail"])
def test_a_refused_credential_pauses_the_remote_and_the_run_goes_on_when_it_is_resumed(
    big: DemoMaster, phase: str
) -> None:
    resource = paged(big)
    big.delete("accounts", "ACC-0005")
    rule = big.faults.add("status", status=401, phase=phase)
    run = runs.start(resource, actor=WORKER)
    assert slice_of(run).state == "running"
    assert Gate.objects.get(pk=resource.remote_id).pause_reason == "unauthorized"
    assert Event.objects.filter(kind="remote.paused", remote_id=resource.remote_id).count() == 1
    assert "paused" in slice_of(run).problem
    big.faults.remove(rule.number)
    limits.resume(resource.remote_id, now=db_now())
    assert slice_of(run).state == "finished"
    assert found(resource) == {"ACC-0005": ("missing_remote", "open")}


def test_reads_that_fail_open_the_breaker_and_nothing_is_concluded(big: DemoMaster) -> None:
    resource = paged(big)
    for number in range(1, 9):
        big.edit("accounts", f"ACC-000{number}", city="Elsewhere")
    big.faults.add("status", status=503, phase="detail")
    run = runs.start(resource, actor=WORKER)
    assert slice_of(run).phase == "confirming"
    assert limits.blocked(db_now())[resource.remote_id].reason == limits.BREAKER_OPEN
    assert Event.objects.filter(kind="breaker.opened", remote_id=resource.remote_id).count() == 1
    assert "breaker" in slice_of(run).problem and not Discrepancy.objects.exists()


def test_a_repair_that_was_taken_back_while_it_was_read_is_not_made(
    big: DemoMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource, _ = agreed(big, policy={"repair": {"data_mismatch": "alert"}})
    big.edit("accounts", "ACC-0001", city="Elsewhere")
    reconcile(resource)
    row = Discrepancy.objects.get()
    assert repairs.request([row.pk], direction="take_remote", actor=person()).ids
    real = fixing._settle

    def ignored_first(wish: Any, *rest: Any) -> None:
        repairs.ignore([row.pk], reason="it is right", actor=person("kim"))
        real(wish, *rest)

    monkeypatch.setattr(fixing, "_settle", ignored_first)
    fixing.work_off(seconds=5)
    row.refresh_from_db()
    assert (row.state, row.ignore_reason, row.outcome) == ("ignored", "it is right", "")
    assert not Event.objects.filter(kind="record.repaired").exists()


def test_the_slower_of_two_workers_does_not_write_over_what_the_faster_did(big: DemoMaster) -> None:
    resource, _ = agreed(big, policy={"repair": {"data_mismatch": "alert"}})
    big.edit("accounts", "ACC-0001", city="Elsewhere")
    reconcile(resource)
    row = Discrepancy.objects.get()
    repairs.request([row.pk], direction="take_remote", actor=person())
    fixing.work_off(seconds=5)
    fixing.findings.tried(row.pk, outcome="It is fixed already; nothing was changed.")
    row.refresh_from_db()
    assert (row.state, row.outcome) == ("fixed", "Take the remote's values: done.")
    assert to_the_end(runs.start(resource, actor=WORKER)).matched == 180


def worked_on(run: Run, *, most: int = 40) -> tuple[Run, int]:
    """Work on a run until it ends, the breaker closing each time; return how many slices that took."""
    for number in range(1, most):
        Gate.objects.update(breaker="closed", open_until=None)
        now = slice_of(run)
        if now.state != "running":
            return now, number
    raise AssertionError("the run does not end")


def test_a_page_that_always_fails_holds_the_brake_and_the_rest_is_read_object_by_object(big: DemoMaster) -> None:
    resource = paged(big)
    big.delete("accounts", "ACC-0170")
    big.faults.add("status", status=500, phase="list", skip=1)
    run, slices = worked_on(runs.start(resource, actor=WORKER))
    assert (run.state, slices) == ("braked", 9)
    assert "could not be read to its end" in run.problem and "500" in run.problem
    assert found(resource) == {"ACC-0170": ("missing_remote", "open")} and run.checked == 180


def test_a_list_that_never_shows_a_page_ends_the_run(big: DemoMaster) -> None:
    big.faults.add("status", status=500, phase="list")
    run, slices = worked_on(runs.start(paged(big), actor=WORKER))
    assert (run.state, slices, "500" in run.problem) == ("failed", 9, True)
    assert Event.objects.get(kind="reconciliation.finished").data["state"] == "failed"


def test_an_outage_of_any_length_ends_no_run(big: DemoMaster) -> None:
    rule = big.faults.add("status", status=503)
    run = runs.start(paged(big), actor=WORKER)
    for _ in range(30):
        assert slice_of(run).state == "running"
    assert slice_of(run).tries == 5
    big.faults.remove(rule.number)
    assert worked_on(run)[0].state == "finished"


@pytest.mark.parametrize("listed", [True, False])
def test_objects_that_always_fail_are_found_unreadable(big: DemoMaster, listed: bool) -> None:
    resource = paged(big) if listed else agreed(big, list=None)[0]
    sick = [f"ACC-000{number}" for number in (1, 2)]
    for name in sick:
        big.edit("accounts", name, city="Elsewhere")
        big.faults.add("status", status=500, phase="detail", object_id=name)
    run, _ = worked_on(runs.start(resource, actor=WORKER))
    assert (run.state, run.matched) == ("finished", 178)
    assert found(resource) == dict.fromkeys(sick, ("invalid_remote", "open"))
    assert "500" in Discrepancy.objects.first().detail


@pytest.mark.parametrize("listed", [True, False])
def test_a_remote_that_shows_no_single_object_ends_the_run(big: DemoMaster, listed: bool) -> None:
    resource = paged(big) if listed else agreed(big, list=None)[0]
    for number in range(10, 50):
        big.edit("accounts", f"ACC-00{number}", city="Elsewhere")
    big.faults.add("status", status=500, phase="detail")
    run, slices = worked_on(runs.start(resource, actor=WORKER))
    assert (run.state, slices, "500" in run.problem) == ("failed", 9, True)
    assert not Discrepancy.objects.exists()


def test_a_repair_whose_object_always_fails_is_given_up_and_can_be_asked_for_again(big: DemoMaster) -> None:
    resource, _ = agreed(big, policy={"repair": {"data_mismatch": "alert"}})
    big.edit("accounts", "ACC-0001", city="Elsewhere")
    reconcile(resource)
    row = Discrepancy.objects.get()
    rule = big.faults.add("status", status=500, phase="detail")

    def turn() -> Discrepancy:
        Discrepancy.objects.filter(wanted_at__isnull=False).update(wanted_at=db_now())
        fixing.work_off(seconds=5)
        row.refresh_from_db()
        return row

    repairs.request([row.pk], direction="take_remote", actor=person())
    for number in range(1, 9):
        assert turn().wanted_at is not None and f"tried {number} of 9 times" in row.outcome and "500" in row.outcome
    assert turn().wanted_at is None and "could not be read 9 times in a row" in row.outcome
    assert (row.state, how_it_went([row.pk])[row.pk].state) == ("open", "skipped")
    calls = len(big.requests())
    assert turn().state == "open" and len(big.requests()) == calls, "it is not tried any more"
    big.faults.remove(rule.number)
    assert repairs.request([row.pk], direction="take_remote", actor=person()).ids
    assert turn().state == "fixed"


@pytest.mark.parametrize("end", ["closed", "ignored"])
def test_a_repair_that_nobody_waits_for_any_more_is_not_said_to_wait(big: DemoMaster, end: str) -> None:
    resource, _ = agreed(big, policy={"repair": {"data_mismatch": "alert"}})
    big.edit("accounts", "ACC-0001", city="Elsewhere")
    reconcile(resource)
    row = Discrepancy.objects.get()
    repairs.request([row.pk], direction="take_remote", actor=person())
    findings.postpone([row.pk], why="Waiting, tried 1 of 9 times.", failed=True, until=db_now())
    if end == "closed":
        findings.close(resource.pk, [row.external_id], now=db_now())
    else:
        findings.ignore([row.pk], reason="Known.", user_id=None, now=db_now())
    row.refresh_from_db()
    assert (row.state, row.wanted_at, row.outcome) == (end, None, "")


def test_a_repair_that_may_not_be_tried_now_waits_and_says_why(big: DemoMaster) -> None:
    resource, _ = agreed(big, policy={"repair": {"data_mismatch": "alert"}})
    big.edit("accounts", "ACC-0001", city="Elsewhere")
    reconcile(resource)
    row = Discrepancy.objects.get()
    limits.pause(resource.remote_id, reason="person", detail="", now=db_now())
    repairs.request([row.pk], direction="take_remote", actor=person())
    for _ in range(12):
        Discrepancy.objects.update(wanted_at=db_now())
        fixing.work_off(seconds=5)
    row.refresh_from_db()
    assert row.wanted_at is not None and "paused" in row.outcome and row.tries == 0
