"""`manage.py reconcile`: exit codes and counts that scripts rely on."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from reconciliation import runs
from reconciliation.models import Discrepancy, Run
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.sync.events import WORKER
from tests.reconciliation.scene import agreed

pytestmark = pytest.mark.django_db(transaction=True)


def command(*arguments: str) -> tuple[int, dict]:
    out = io.StringIO()
    try:
        call_command("reconcile", *arguments, "--json", stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        return int(end.code or 0), json.loads(out.getvalue())
    return 0, json.loads(out.getvalue())


def test_it_says_agreement_difference_and_plan(master: DemoMaster) -> None:
    master.reset((accounts(60), shifts(1)))
    resource, _ = agreed(master)
    code, told = command(resource.slug)
    assert (code, told["match"], told["open"], told["missing_remote"]) == (0, 60, 0, 0)
    master.edit("accounts", "ACC-0001", city="Elsewhere")
    code, told = command(resource.slug, "--dry-run")
    assert (code, told["data_mismatch"], told["planned"], told["open"]) == (1, 1, 1, 1)
    code, told = command(resource.slug)
    assert (code, told["data_mismatch"], told["fixed"], told["open"]) == (0, 1, 1, 0)
    assert set(Run.objects.values_list("origin", flat=True)) == {"command"}


def test_it_goes_on_with_a_run_that_was_broken_off(master: DemoMaster) -> None:
    resource, _ = agreed(master)
    broken_off = runs.start(resource, actor=WORKER)
    assert command(resource.slug)[1]["run"] == broken_off.pk


def test_it_cancels_the_run_that_is_running(master: DemoMaster) -> None:
    resource, _ = agreed(master)
    running = runs.start(resource, actor=WORKER)
    code, told = command(resource.slug, "--cancel")
    assert (code, told["run"], told["state"]) == (0, running.pk, "cancelled")
    with pytest.raises(CommandError, match="nothing was cancelled") as refused:
        command(resource.slug, "--cancel")
    assert refused.value.returncode == 2 and Run.objects.count() == 1


@pytest.mark.parametrize("status", [503, 404])
def test_it_cannot_run_without_a_list(master: DemoMaster, status: int) -> None:
    resource, _ = agreed(master)
    master.faults.add("status", phase="list", status=status)
    with pytest.raises(CommandError) as refused:
        command(resource.slug)
    assert refused.value.returncode == 2
    assert Run.objects.get().state == ("running" if status == 503 else "failed")
    assert not Discrepancy.objects.exists()


def test_an_unknown_resource_names_the_known_ones(master: DemoMaster) -> None:
    resource, _ = agreed(master)
    with pytest.raises(CommandError, match=resource.slug) as refused:
        command("nothing")
    assert refused.value.returncode == 2
