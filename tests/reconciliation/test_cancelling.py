"""Cancelling a run: once, with its event, and nothing of it goes on."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from reconciliation import engine, journal, runs
from reconciliation.journal import Fenced, Progress, Suspicion
from reconciliation.models import Run, SpooledRow, Suspect
from reconciliation.runs import NotPossible
from syncportal.demo import DemoMaster
from syncportal.kernel.clock import db_now
from syncportal.sync.events import WORKER
from syncportal.sync.models import Event
from tests.reconciliation.scene import agreed, person, reconcile

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
