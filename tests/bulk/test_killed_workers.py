"""kill -9 in the middle of a batch: each row is acted on once, and the next worker goes on."""

import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from syncportal.bulk import journal, work
from syncportal.bulk.models import BulkOperation
from syncportal.sync.models import Event, SyncJob
from tests.bulk.counting import counts, operation
from tests.factories import agreed

pytestmark = [pytest.mark.db, pytest.mark.kills]


@pytest.mark.parametrize(("point", "done"), [("acted", 100), ("counted", 100), ("committed", 200)])
def test_a_killed_worker_acts_on_no_row_twice(child_environment: dict[str, str], point: str, done: int) -> None:
    rows = agreed(250)
    SyncJob.objects.update(status="ERROR", due_at=None)
    pk = operation(0, act="records.requeue", ids=[row.pk for row in rows])
    assert work.begin(pk, parameters={})
    command = [sys.executable, "-m", "tests.bulk.victim", str(pk), point]
    died = subprocess.run(command, env=child_environment, capture_output=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    assert counts(pk) == ("running", done, 0, 0, 250 - done)
    assert SyncJob.objects.filter(status="PENDING").count() == done
    assert not work.run(pk, seconds=5), "the dead worker's lease still holds"
    BulkOperation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert journal.waiting_for_a_worker(timezone.now()).exists()
    work.run(pk, seconds=30)
    assert counts(pk) == ("done", 250, 0, 0, 0)
    assert Event.objects.filter(kind="job.requeued").count() == 250
