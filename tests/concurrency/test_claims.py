"""Many processes on one real database: a job is claimed once. The ways that look right and are not must fail here."""

import multiprocessing
from collections import Counter
from collections.abc import Callable

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from syncportal.demo.seed import account_rows
from syncportal.sync import records, states, transitions
from syncportal.sync.models import SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status
from tests.factories import make_remote, make_resource

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]
PROCESSES, JOBS = 8, 1_500


def due_jobs(count: int) -> int:
    """Make due jobs and return their remote."""
    resource = make_resource(make_remote("http://127.0.0.1:1/api"))
    now = timezone.now()
    wanted = [
        RecordState(0, resource.pk, row["id"], row, None, None, 1, Intent.UPDATE, None, None)
        for row in account_rows(count)
    ]
    ids = records.insert(wanted, now=now)
    transitions.insert([transitions.NewJob(pk, resource.remote_id, True, 4) for pk in ids], now=now)
    return resource.remote_id


def claimed_by_all(claim: Callable[[int], list[int]], remote_id: int, *, processes: int = PROCESSES) -> Counter:
    """Let processes claim until nothing is left; return how often each record was claimed."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(processes), context.Queue()
    connections.close_all()

    def work() -> None:
        connections.close_all()
        mine: list[int] = []
        start.wait()
        while got := claim(remote_id):
            mine += got
        results.put(mine)
        connections.close_all()

    running = [context.Process(target=work, daemon=True) for _ in range(processes)]
    for process in running:
        process.start()
    claimed = Counter(pk for _ in running for pk in results.get(timeout=120))
    for process in running:
        process.join(20)
    return claimed


def by_the_product(remote_id: int) -> list[int]:
    claims = transitions.claim_many(remote_id, limit=16, holder="p", now=timezone.now(), lease_s=90)
    return [claim.record_id for claim in claims]


def by_reading_then_saving(remote_id: int) -> list[int]:
    found = list(SyncJob.objects.filter(remote_id=remote_id, status=Status.PENDING).order_by("pk")[:5])
    for job in found:
        job.status, job.lease_until, job.due_at = Status.PROCESSING, timezone.now(), None
        job.save()
    return [job.pk for job in found]


def by_a_subselect_with_a_limit(remote_id: int) -> list[int]:
    sql = """UPDATE sync_syncjob SET status = 'PROCESSING', lease_until = %s, due_at = NULL WHERE record_id IN
             (SELECT record_id FROM sync_syncjob WHERE remote_id = %s AND status = 'PENDING' ORDER BY record_id LIMIT 1)
             RETURNING record_id"""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, [timezone.now(), remote_id])
        return [row[0] for row in cursor.fetchall()]


def doubled(claimed: Counter) -> int:
    return sum(1 for times in claimed.values() if times > 1)


def test_eight_processes_claim_every_job_exactly_once() -> None:
    claimed = claimed_by_all(by_the_product, due_jobs(JOBS))
    assert (len(claimed), doubled(claimed)) == (JOBS, 0)
    assert set(SyncJob.objects.values_list("status", "claim_no").distinct()) == {(Status.PROCESSING, 1)}


def test_control_reading_and_then_saving_claims_twice() -> None:
    assert doubled(claimed_by_all(by_reading_then_saving, due_jobs(200), processes=4)) > 0


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite runs one writer at a time")
def test_control_a_subselect_with_a_limit_claims_twice_on_postgresql() -> None:
    assert doubled(claimed_by_all(by_a_subselect_with_a_limit, due_jobs(200), processes=4)) > 0


def test_stale_holders_move_nothing() -> None:
    remote_id = due_jobs(1)
    [claim] = transitions.claim_many(remote_id, limit=1, holder="a", now=timezone.now(), lease_s=-1)
    with transaction.atomic():
        assert [rescued.record_id for rescued in transitions.rescue(now=timezone.now())] == [claim.record_id]
    [again] = transitions.claim_many(remote_id, limit=1, holder="b", now=timezone.now(), lease_s=90)
    late = transitions.Leaving(claim.record_id, claim.claim_no, states.COMPLETE, Status.SYNCED.value, attempts=1)
    assert transitions.leave_processing([late], now=timezone.now()) == set()
    assert SyncJob.objects.get().claim_no == again.claim_no
