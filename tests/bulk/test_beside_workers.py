"""A thousand failed records retried in bulk while threads push: exact counts, nothing twice, cancel, moving filter."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connections

from syncportal.bulk import work, workers
from syncportal.bulk.acts import Act
from syncportal.bulk.models import BulkOperation
from syncportal.demo import DemoMaster, accounts
from syncportal.sync.models import SyncJob
from tests.bulk.retries import Retries, failed_records
from tests.factories import drain
from tests.kills.installation import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]
ROWS, LATER = 1_000, 50
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def running() -> Iterator[DemoMaster]:
    """Run one master for the module; each test resets it."""
    with DemoMaster((accounts(ROWS + LATER),)) as master:
        yield master


@pytest.fixture
def retries(running: DemoMaster, settings: object, monkeypatch: pytest.MonkeyPatch) -> Retries:
    """Make the failed records; a ramp looks again without a pause."""
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0)
    settings.REMOTE_ALLOWED_NETWORKS = ("127.0.0.0/8",)  # type: ignore[attr-defined]
    running.reset((accounts(ROWS + LATER),))
    running.faults.clear()
    return failed_records(running, ROWS, later=LATER)


class Threads:
    """Workers in threads: some push whatever is due, some go on with operations, until they are stopped."""

    def __init__(self, *, pushing: int = 2, working: int = 2) -> None:
        self.over = threading.Event()
        self.raised: list[BaseException] = []
        jobs = [drain] * pushing + [lambda: workers.run_waiting(seconds=1)] * working
        self.threads = [threading.Thread(target=self._run, args=(job,)) for job in jobs]

    def _run(self, job: Callable[[], object]) -> None:
        try:
            while not self.over.is_set():
                job()
                time.sleep(0.005)
        except BaseException as error:
            self.raised.append(error)
        finally:
            connections.close_all()

    def __enter__(self) -> "Threads":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE_S)
        assert self.raised == []


def state_of(pk: int) -> str:
    return BulkOperation.objects.values_list("state", flat=True).get(pk=pk)


def test_a_thousand_go_out_once_each_whatever_the_filter_does(retries: Retries) -> None:
    pk = retries.start()
    with Threads():
        assert until(lambda: BulkOperation.objects.get(pk=pk).done > 0, seconds=PATIENCE_S)
        retries.widen()
        assert not work.begin(pk, parameters={}), "a second tab starts nothing"
        assert until(lambda: state_of(pk) != "running", seconds=PATIENCE_S)
    operation = retries.check(pk)
    assert (operation.state, operation.done, operation.skipped, operation.failed) == ("done", ROWS, 0, 0)
    assert len(retries.writes()) == ROWS


def test_cancelled_in_the_middle_the_rest_stays(retries: Retries, monkeypatch: pytest.MonkeyPatch) -> None:
    pk = retries.start()
    halfway, cancelled, working = threading.Event(), threading.Event(), work._work

    def waits_halfway(operation: BulkOperation, act: Act, *, until: float) -> bool:
        if operation.let_go > 111:
            halfway.set()
            cancelled.wait(PATIENCE_S)
        return working(operation, act, until=time.monotonic() + 0.001)  # one batch at a time

    monkeypatch.setattr(work, "_work", waits_halfway)
    with Threads():
        assert halfway.wait(PATIENCE_S)
        assert work.cancel(pk, by="ops")
        cancelled.set()
        retries.widen()
        assert until(lambda: not _under_way(retries), seconds=PATIENCE_S)
    operation = retries.check(pk)
    assert operation.state == "cancelled" and operation.let_go > 111
    assert len(retries.writes()) == operation.let_go


def _under_way(retries: Retries) -> bool:
    return SyncJob.objects.filter(pk__in=retries.ids).exclude(status__in=["SYNCED", "ERROR"]).exists()
