"""The long form of retrying in bulk: real supervised workers, a kill -9 in the middle, a moving filter, a cancel.

`CHAOS_BULK` says how many records (`make chaos`: 20,000); without it this is skipped, and a thousand are retried beside
threads in tests/bulk. Prints one line of figures.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.bulk import work
from syncportal.bulk.models import BulkOperation
from syncportal.demo import DemoMaster, accounts
from syncportal.remote.models import SlotLease
from syncportal.sync import sweep
from syncportal.sync.models import SyncJob
from tests.bulk.retries import Retries, failed_records
from tests.kills.installation import ROOT, children_of, threads_of, until

ROWS = int(os.environ.get("CHAOS_BULK", "0"))
LATER = 100
PATIENCE_S = 900.0

pytestmark = [
    pytest.mark.db,
    pytest.mark.kills,
    pytest.mark.skipif(not ROWS, reason="the long form: CHAOS_BULK says how many records"),
]


@pytest.fixture
def retries(transactional_db: None) -> Iterator[Retries]:
    with DemoMaster((accounts(ROWS + LATER),)) as master:
        yield failed_records(master, ROWS, later=LATER)


@pytest.fixture
def worker(child_environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a supervisor with its pool; it ends in order."""
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runworker"], env=child_environment, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    yield process
    process.terminate()
    process.wait(60)


def kill_the_busiest(worker: subprocess.Popen[bytes]) -> bool:
    """Kill -9 the member of the pool that has the most threads, and let what the dead held run out."""
    main = next(iter(children_of(worker.pid)), None)
    sentinel = next(iter(children_of(main)), None) if main else None
    pool = children_of(sentinel)[:-2] if sentinel else []
    if not pool:
        return False
    os.kill(max(pool, key=threads_of), 9)
    time.sleep(1)
    past = timezone.now() - timedelta(seconds=1)
    SlotLease.objects.update(expires_at=past)
    SyncJob.objects.filter(status="PROCESSING").update(lease_until=past)
    BulkOperation.objects.update(lease_until=past)
    sweep.sweep()
    return True


def let_go(pk: int) -> int:
    return BulkOperation.objects.get(pk=pk).let_go


def test_thousands_go_out_once_each_while_a_worker_dies(
    retries: Retries, worker: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    began, pk = time.monotonic(), retries.start()
    assert until(lambda: BulkOperation.objects.get(pk=pk).done > 111, seconds=PATIENCE_S)
    retries.widen()
    assert until(lambda: kill_the_busiest(worker), seconds=20)
    assert until(lambda: BulkOperation.objects.get(pk=pk).state != "running", seconds=PATIENCE_S, every=1)
    operation = retries.check(pk)
    with capsys.disabled():
        print(
            f"\n{connection.vendor}: bulk retry of {ROWS:,} beside workers, one killed: {operation.done:,} done, "
            f"{operation.failed} failed, {sum(retries.writes().values()):,} writes at the master, none twice, "
            f"{time.monotonic() - began:.0f} s"
        )
    assert (operation.state, operation.done) == ("done", ROWS), operation.reason


def test_a_cancel_leaves_the_rest_as_it_was(
    retries: Retries, worker: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    pk = retries.start()
    assert until(lambda: let_go(pk) > ROWS // 4, seconds=PATIENCE_S)
    assert work.cancel(pk, by="ops")
    retries.widen()
    under_way = SyncJob.objects.filter(pk__in=retries.ids[:ROWS]).exclude(status__in=["SYNCED", "ERROR"])
    assert until(lambda: not under_way.exists(), seconds=PATIENCE_S, every=1)
    operation = retries.check(pk)
    with capsys.disabled():
        print(
            f"\n{connection.vendor}: bulk retry of {ROWS:,} cancelled: {operation.let_go:,} let go and written once, "
            f"{operation.waiting:,} as they were"
        )
    assert operation.state == "cancelled" and operation.let_go + operation.waiting == ROWS
