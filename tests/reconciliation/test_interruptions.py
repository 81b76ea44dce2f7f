"""What stops a run or a repair half-way: a rate that grants a call now and then, refusals, outages, second thoughts."""

from collections.abc import Callable
from typing import Any

import pytest

from reconciliation import engine, fixing, repairs, runs
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
