"""Drift that one switch of the demo master plants is found, explained and repaired."""

import pytest

from reconciliation import fixing
from reconciliation.models import Discrepancy
from syncportal.demo import DemoMaster
from tests.factories import drain, edit, job_of
from tests.reconciliation.scene import agreed, person, reconcile

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_write_that_the_master_confirmed_and_did_not_keep(master: DemoMaster) -> None:
    resource, records = agreed(master)
    record = records["ACC-0001"]
    master.faults.add_json({"preset": "lost-writes"})
    for city in ("Oslo", "Bergen"):  # what is lost twice is not what stood before the last edit
        edit(record, city=city)
        drain()
    master.faults.remove("lost-writes")
    assert job_of(record).status == "SYNCED", "the master said so"
    run = reconcile(resource)
    row = Discrepancy.objects.get()
    assert (row.kind, row.cause, run.needing_action) == ("data_mismatch", "our_write_lost", 1)
    fixing.fix(row.pk, direction="push_local", actor=person())
    drain()
    kept = master.get("accounts", "ACC-0001")
    assert kept is not None and kept["city"] == "Bergen"
    assert (reconcile(resource).matched, job_of(record).status) == (20, "SYNCED")
