"""Cancelling a run: once, with its event, and nothing of it goes on."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from reconciliation import engine, fixing, journal, runs
from reconciliation.journal import Fenced, Progress, Suspicion
from reconciliation.models import Run, SpooledRow, Suspect
from reconciliation.runs import NotPossible
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.kernel.clock import db_now
from syncportal.sync.events import WORKER
from syncportal.sync.models import Event
from tests.reconciliation.scene import agreed, found, person, reconcile, to_the_end

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


def test_a_run_is_cancelled_once_and_leaves_nothing_to_work_on(master: DemoMaster) -> None:
    resource, _ = agreed(master)
    run = runs.start(resource, actor=WORKER)
    journal.suspect(run.pk, [Suspicion("ACC-0001", "data_mismatch")])
    journal.spool(run.pk, [SpooledRow(run=run, external_id="ACC-0001", digest="d", page="")])
    runs.cancel(run.pk, actor=person())
    run.refresh_from_db()
    assert (run.state, run.phase, run.finished_at is not None) == ("cancelled", "done", True)
    assert not Suspect.objects.exists() and not SpooledRow.objects.exists()
    told = Event.objects.get(kind="reconciliation.cancelled")
    assert (told.data["run"], told.actor_label) == (run.pk, "pat")
    with pytest.raises(NotPossible) as refused:
        runs.cancel(run.pk, actor=person())
    assert refused.value.code == "not_running"
    assert engine.run_slice(run.pk, seconds=1).worked is False
    assert reconcile(resource).state == "finished", "another run may start"


def test_a_slice_whose_run_is_cancelled_writes_nothing_more(master: DemoMaster) -> None:
    run = runs.start(agreed(master)[0], actor=WORKER)
    claimed = journal.claim(run.pk, now=db_now())
    assert claimed is not None
    runs.cancel(run.pk, actor=person())
    progress = Progress()
    progress.counts["checked"] += 5
    with pytest.raises(Fenced):
        journal.advance(claimed, progress, now=db_now())
    run.refresh_from_db()
    assert (run.checked, run.state) == (0, "cancelled")


def test_a_cancelled_dry_run_has_no_plan(master: DemoMaster) -> None:
    run = runs.start(agreed(master)[0], actor=WORKER, dry_run=True)
    runs.cancel(run.pk, actor=person())
    with pytest.raises(NotPossible) as refused:
        runs.apply_plan(run.pk, actor=person())
    assert refused.value.code == "cancelled"


@pytest.mark.parametrize("ended", ["cancelled", "failed"])
def test_a_later_run_that_saw_nothing_leaves_the_plan(master: DemoMaster, ended: str) -> None:
    master.reset((accounts(30), shifts(1)))
    resource, _ = agreed(master)
    master.edit("accounts", "ACC-0001", city="Elsewhere")
    master.edit("accounts", "ACC-0002", city="Elsewhere")
    dry = reconcile(resource, dry_run=True)
    later = runs.start(resource, actor=WORKER)
    with pytest.raises(NotPossible, match="right now") as refused:
        runs.apply_plan(dry.pk, actor=person())
    assert refused.value.code == "superseded"
    if ended == "cancelled":
        runs.cancel(later.pk, actor=person())
    else:
        master.faults.add("status", phase="list", status=404)
        assert to_the_end(later).state == "failed"
    assert runs.apply_plan(dry.pk, actor=person()) == 2
    fixing.work_off(seconds=5)
    assert set(found(resource).values()) == {("data_mismatch", "fixed")}


def test_what_a_later_selection_looked_at_again_is_no_longer_in_the_plan(master: DemoMaster) -> None:
    master.reset((accounts(30), shifts(1)))
    resource, records = agreed(master)
    master.edit("accounts", "ACC-0001", city="Elsewhere")
    master.edit("accounts", "ACC-0002", city="Elsewhere")
    dry = reconcile(resource, dry_run=True)
    reconcile(resource, dry_run=True, record_ids=[records["ACC-0001"].pk])
    assert (runs.plan_of(dry), dry.planned) == ({"take_remote": 1}, 2)
    assert runs.apply_plan(dry.pk, actor=person()) == 1


@pytest.mark.parametrize("ended", ["cancelled", "removed"])
def test_the_command_ends_when_its_run_does(master: DemoMaster, monkeypatch: pytest.MonkeyPatch, ended: str) -> None:
    resource = agreed(master)[0]

    def meanwhile(run: Run, **options: Any) -> None:
        if ended == "cancelled":
            runs.cancel(run.pk, actor=person())
        else:
            Run.objects.filter(pk=run.pk).delete()
        journal.advance(run, Progress(), now=db_now())

    monkeypatch.setattr(engine, "_work", meanwhile)
    with pytest.raises(CommandError, match=ended) as refused:
        call_command("reconcile", resource.slug, stdout=io.StringIO(), stderr=io.StringIO())
    assert refused.value.returncode == 2
