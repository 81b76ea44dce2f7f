"""What a run tells when it is over: a mail to operations, a file for a spreadsheet, and what is kept of old runs."""

import csv
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from reconciliation import journal, summary
from reconciliation.models import Discrepancy, Run
from reconciliation.states import Origin
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.ops.alerts import channels, sending, summaries
from syncportal.remote.errors import Forbidden
from syncportal.sync import pull
from tests.reconciliation.scene import agreed, person, reconcile

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def operations(settings) -> None:
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    channels.ensure()


def test_a_complete_run_is_summed_up_by_mail_once(master: DemoMaster, operations: None) -> None:
    master.reset((accounts(60), shifts(1)))
    resource, records = agreed(master)
    master.edit("accounts", "ACC-0001", city="Elsewhere")
    master.delete("accounts", "ACC-0002")
    reconcile(resource, dry_run=True)
    reconcile(resource, record_ids=[records["ACC-0003"].pk])
    run = reconcile(resource)
    now = timezone.now()
    assert summaries.duty(now) == "1 written"
    assert summaries.duty(now) == "0 written"
    sending.send_due()
    [letter] = mail.outbox
    assert letter.to == ["ops@example.org"] and f"Reconciliation of {resource.slug}: 1 needing action" in letter.subject
    assert "60 checked, 58 matched, 0 busy; 1 data mismatch, 1 missing at the remote; 1 fixed" in letter.body
    assert run.needing_action == 1


def test_a_run_that_found_nothing_is_told_only_if_nobody_started_it(master: DemoMaster, operations: None) -> None:
    resource, _ = agreed(master)
    reconcile(resource, actor=person())
    assert summaries.duty(timezone.now()) == "0 written"
    reconcile(resource, origin=Origin.SCHEDULE)
    assert summaries.duty(timezone.now()) == "1 written"


def test_a_braked_run_says_so_in_the_subject(master: DemoMaster, operations: None) -> None:
    master.reset((accounts(60), shifts(1)))
    resource, _ = agreed(master)
    for number in range(1, 11):
        master.delete("accounts", f"ACC-{number:04}")
    reconcile(resource)
    assert summaries.duty(timezone.now()) == "1 written"
    sending.send_due()
    [letter] = mail.outbox
    assert "the brake held" in letter.subject and "10 seem to be missing" in letter.body


def test_a_pull_that_was_given_up_is_told_by_mail_once(master: DemoMaster, operations: None) -> None:
    resource, _ = agreed(master)
    pull.run(pull.start(resource).pk)
    master.faults.add("status", status=403, phase="list", body={"error": "no\nlist"})
    with pytest.raises(Forbidden):
        pull.run(pull.start(resource).pk)
    assert summaries.duty(timezone.now()) == "1 written", "one that went well is not told"
    assert summaries.duty(timezone.now()) == "0 written"
    sending.send_due()
    [letter] = mail.outbox
    assert letter.subject.endswith(f"Pull of {resource.slug}: given up")
    assert "403" in letter.body and f"/admin/remote/resource/{resource.pk}/" in letter.body


def test_the_file_holds_a_line_a_field_and_no_formula(master: DemoMaster) -> None:
    master.reset((accounts(60), shifts(1)))
    resource, _ = agreed(master, policy={"repair": {"data_mismatch": "alert"}})
    master.edit("accounts", "ACC-0001", city="=cmd|' /C calc'!A0", notes="+1")
    reconcile(resource)
    lines = "".join(summary.csv_lines(Discrepancy.objects.select_related("resource")))
    rows = list(csv.DictReader(lines.splitlines()))
    assert [(row["pointer"], row["remote"]) for row in rows] == [("/city", "'=cmd|' /C calc'!A0"), ("/notes", "'+1")]
    assert {row["resource"] for row in rows} == {resource.slug}


def test_old_runs_are_forgotten_but_the_last(master: DemoMaster) -> None:
    resource, _ = agreed(master)
    ids = [reconcile(resource).pk for _ in range(3)]
    late = timezone.now() + timedelta(days=1)
    assert journal.prune(before=late) >= 2
    assert list(Run.objects.values_list("pk", flat=True)) == [ids[-1]]
