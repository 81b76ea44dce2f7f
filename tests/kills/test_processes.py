"""The real supervisor and its real processes: how they end, who follows whom, and what a database hiccup costs."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from django_q.models import Schedule

from syncportal.demo import DemoMaster, accounts
from syncportal.ops import heartbeat
from syncportal.ops.duties import DUTIES
from syncportal.ops.models import Duty, Heartbeat
from syncportal.sync import local
from syncportal.sync.models import SyncJob
from tests.kills.installation import OPERATOR, Installation, children_of, until

pytestmark = [
    pytest.mark.db,
    pytest.mark.kills,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc"),
]


@pytest.fixture
def installation(child_environment: dict[str, str], tmp_path: Path) -> Iterator[Installation]:
    with DemoMaster((accounts(10),), latency_ms=5) as master:
        made = Installation(environment=child_environment, master=master, folder=tmp_path, seed=1)
        try:
            made.start_worker()
            assert until(lambda: Heartbeat.objects.filter(canary_at__isnull=False).exists(), seconds=40), made.logs()
            yield made
        finally:
            made.close()


def family(pid: int) -> list[int]:
    return [pid, *(one for child in children_of(pid) for one in family(child))]


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if _state(pid) not in ("", "Z")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def pushed(installation: Installation, number: int, *, seconds: float = 20) -> bool:
    """Tell whether an edit made now arrives at the master: rung for, long before the minute's sweep would find it."""
    before = installation.pushed()
    local.save(local.Edit(installation.records[0], {"notes": f"{number:06d}"}), actor=OPERATOR)
    return until(lambda: installation.pushed() > before, seconds=seconds, every=0.05)


def test_asked_to_end_it_ends_cleanly_with_everything_it_started(installation: Installation) -> None:
    everything = family(installation.worker.pid)
    assert len(everything) >= 7
    installation.worker.send_signal(signal.SIGTERM)
    assert installation.worker.wait(25) == 0
    assert until(lambda: gone(everything), seconds=10)
    assert Heartbeat.objects.get().state == "stopped"
    assert not heartbeat.alive(timezone.now())


def test_ctrl_c_while_a_slow_push_runs_finishes_the_push(installation: Installation) -> None:
    installation.master.latency_ms = 2_000
    local.save(local.Edit(installation.records[0], {"notes": "000001"}), actor=OPERATOR)
    assert until(lambda: installation.master.requests(), seconds=20)
    installation.worker.send_signal(signal.SIGINT)
    assert installation.worker.wait(25) == 0
    assert len(installation.master.writes()) == 1
    assert installation.unsettled() == []


def test_nobody_outlives_a_killed_supervisor(installation: Installation) -> None:
    everything = family(installation.worker.pid)
    installation.worker.kill()
    installation.worker.wait()
    assert until(lambda: gone(everything), seconds=24)


def test_nobody_outlives_a_supervisor_killed_together_with_its_pools_main_process(installation: Installation) -> None:
    everything = family(installation.worker.pid)
    for pid in (installation.worker.pid, children_of(installation.worker.pid)[0]):
        os.kill(pid, signal.SIGKILL)
    installation.worker.wait()
    assert until(lambda: gone(everything), seconds=10)


def test_a_malformed_schedule_is_mended_and_the_duties_go_on(installation: Installation) -> None:
    assert until(lambda: Schedule.objects.count() == len(DUTIES), seconds=30)
    Schedule.objects.filter(name="sweep").update(args="((((")
    Schedule.objects.create(name="theirs", func="os.system", args="'true'", next_run=timezone.now())
    assert pushed(installation, 1)
    assert until(
        lambda: Schedule.objects.filter(args="('sweep',)").exists() and Schedule.objects.count() == len(DUTIES),
        seconds=40,
    )
    assert until(lambda: Duty.objects.filter(name="sweep", last_ok=True).exists(), seconds=90)


def test_two_supervisors_share_the_work_and_either_may_end(installation: Installation) -> None:
    first = installation.worker
    installation.start_worker()
    assert until(lambda: Heartbeat.objects.filter(canary_at__isnull=False).count() == 2, seconds=40)
    assert pushed(installation, 1)
    first.terminate()
    assert first.wait(25) == 0
    assert pushed(installation, 2)
    assert Heartbeat.objects.filter(restarts__gt=0).count() == 0


@pytest.mark.skipif("connection.vendor != 'postgresql'")
def test_severed_database_connections_are_made_anew(installation: Installation) -> None:
    assert pushed(installation, 1)
    # What is under way when a connection is cut twice waits for its lease, which is longer than this test.
    assert until(lambda: SyncJob.objects.get(pk=installation.records[0]).status == "SYNCED", seconds=30)
    main = children_of(installation.worker.pid)
    for _ in range(3):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        time.sleep(0.3)
    # The slots of a drain that lost its connection while giving them back are free again after their 30 s.
    assert pushed(installation, 2, seconds=45), installation.logs()
    assert children_of(installation.worker.pid) == main
