"""Objects and lists that the remote keeps from us: said in clear words, never taken for a broken credential."""

import pytest

from reconciliation import engine, runs
from reconciliation.models import Discrepancy
from syncportal.demo import DemoMaster
from syncportal.remote.models import Gate
from syncportal.sync.events import WORKER
from syncportal.sync.models import Event
from tests.reconciliation.scene import adds_up, agreed, reconcile

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


def test_an_object_that_alone_is_forbidden_says_so(master: DemoMaster) -> None:
    resource, _ = agreed(master)
    master.edit("accounts", "ACC-0003", city="Elsewhere")
    master.faults.add("status", status=403, object_id="ACC-0003", phase="detail")
    run = reconcile(resource)
    row = Discrepancy.objects.get()
    assert (run.state, row.kind, row.cause, row.state) == ("finished", "invalid_remote", "forbidden", "open")
    assert "does not let our credential read this object" in row.detail and "403" in row.detail
    assert adds_up(run) and not Gate.objects.filter(paused=True).exists()
    master.faults.clear()
    reconcile(resource)
    row.refresh_from_db()
    assert row.state in ("closed", "fixed")


def test_a_credential_that_is_refused_meanwhile_pauses_the_remote(master: DemoMaster) -> None:
    resource, _ = agreed(master)
    master.edit("accounts", "ACC-0003", city="Elsewhere")
    master.faults.add("status", status=403, phase="detail")
    master.faults.add("status", status=403, phase="list", skip=1)
    run = runs.start(resource, actor=WORKER)
    engine.run_slice(run.pk, seconds=20)
    assert Gate.objects.get().paused and not Discrepancy.objects.exists()
    assert Event.objects.filter(kind="remote.paused").count() == 1


def test_a_list_that_is_forbidden_fails_the_run(master: DemoMaster) -> None:
    resource, _ = agreed(master)
    master.faults.add("status", status=403, phase="list")
    run = reconcile(resource)
    assert (run.state, "403" in run.problem) == ("failed", True)
