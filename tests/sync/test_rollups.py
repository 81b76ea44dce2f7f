"""The roll-ups say what the final exchanges of the sync log say, and are written with them."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from syncportal.demo import DemoMaster
from syncportal.kernel.bulk import add_rows
from syncportal.remote.payloads import Exchange
from syncportal.sync import events, rollups
from syncportal.sync.claims import Logged
from syncportal.sync.events import AttemptLog
from syncportal.sync.models import Rollup, SyncLog
from tests.factories import Clock, drain, edit, make_resource, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]

THREADS, BATCHES = 6, 8
T0 = datetime(2026, 3, 2, 9, 58, tzinfo=UTC)
NOTHING = dict.fromkeys(rollups.BUCKETS, 0)


def exchange(at: datetime, took: int, error: str = "") -> Logged:
    return Logged(Exchange("write", "PUT", "http://remote/x", {}, None, 200, {}, None, 0, at, took, error))


def naive(span_s: int) -> Counter:
    """Count the final exchanges of the log by hand."""
    found: Counter = Counter()
    for row in SyncLog.objects.filter(final=True, outcome__in=rollups.COUNTED):
        begin = rollups.begin_of(row.at, span_s)
        bound = next((bound for bound in rollups.BOUNDS_MS if row.duration_ms <= bound), "more")
        key = (begin, row.resource_id, row.outcome, row.error_code or row.error_kind)
        found[*key, "attempts"] += 1
        found[*key, "total_ms"] += row.duration_ms
        found[*key, f"took_{bound}"] += 1
    return +found


def kept(span_s: int) -> Counter:
    """Return the same from the roll-ups."""
    found: Counter = Counter()
    for row in Rollup.objects.filter(span_s=span_s):
        key = (row.begins_at, row.resource_id, row.outcome, row.error)
        for name in ("attempts", "total_ms", *rollups.BUCKETS):
            found[*key, name] += getattr(row, name)
    return +found


def test_what_the_drain_settles_is_counted_once_in_every_span(master: DemoMaster) -> None:
    resource = make_resource(master)
    rows = take(master, resource, *(f"ACC-{number:04d}" for number in range(1, 6)))
    master.faults.add_json({"kind": "status", "settings": {"status": 422}, "object_id": "ACC-0001", "phase": "write"})
    master.faults.add_json({"kind": "status", "settings": {"status": 503}, "object_id": "ACC-0002", "phase": "write"})
    for row in rows:
        edit(row, city="Lund")
    clock = Clock(timezone.now() + timedelta(milliseconds=1))
    drain(clock)
    clock.forward(10)
    drain(clock)
    counted: Counter = Counter()
    for row in Rollup.objects.filter(span_s=rollups.DAY_S, resource=resource):  # two days at midnight
        counted[row.outcome, row.error] += row.attempts
    assert counted == {("complete", ""): 3, ("fail", "http_422"): 1, ("retry_later", "http_503"): 2}
    for span_s in rollups.SPANS_S:
        assert kept(span_s) == naive(span_s)


@hypothesis(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([*sorted(rollups.COUNTED), "discarded", "refresh_applied"]),
                st.sampled_from(["", "http_503", "timeout"]),
                st.integers(0, 12_000),
                st.integers(-90_000, 90_000),
                st.integers(0, 2),
            ),
            max_size=6,
        ),
        max_size=4,
    )
)
def test_any_batches_add_up_to_what_the_log_holds(master: DemoMaster, batches: list) -> None:
    Rollup.objects.all().delete()
    SyncLog.objects.all().delete()
    resource = make_resource(master)
    record = take(master, resource, "ACC-0001")[0]
    for batch in batches:
        logs = [
            AttemptLog(record.pk, resource.pk, 1, 1, outcome, code,
                       [exchange(T0, 3, "timeout")] * before + [exchange(T0 + timedelta(seconds=late), took)])
            for outcome, code, took, late, before in batch
        ]  # fmt: skip
        events.write_logs(logs)
        rollups.add(logs)
    for span_s in rollups.SPANS_S:
        assert kept(span_s) == naive(span_s)
    record.delete()


def test_workers_that_settle_at_once_neither_lose_counts_nor_wait_in_a_circle(master: DemoMaster) -> None:
    resource = make_resource(master)
    kinds = [(outcome, f"http_{500 + number}") for outcome in sorted(rollups.FAILED) for number in range(12)]
    together = threading.Barrier(THREADS)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        together.wait()
        for _ in range(BATCHES):
            mixed = chance.sample(kinds, len(kinds))
            logs = [AttemptLog(1, resource.pk, 1, 1, outcome, code, [exchange(T0, 30)]) for outcome, code in mixed]
            with transaction.atomic():  # no second try: a deadlock would be an error
                rollups.add(logs)
        connections.close_all()

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work, seed) for seed in range(THREADS)]:
            done.result()
    counted = {row.attempts for row in Rollup.objects.all()}
    assert counted == {THREADS * BATCHES} and Rollup.objects.count() == len(kinds) * len(rollups.SPANS_S)


def test_an_attempt_without_an_exchange_is_not_counted(master: DemoMaster) -> None:
    resource = make_resource(master)
    rollups.add([AttemptLog(1, resource.pk, 1, 1, "fail", "misconfigured", [])])
    assert not Rollup.objects.exists()


def test_old_roll_ups_are_forgotten_and_the_totals_stay(master: DemoMaster) -> None:
    resource = make_resource(master)
    rollups.add([AttemptLog(1, resource.pk, 1, 1, "complete", "", [exchange(T0, 30)])])
    assert rollups.prune(T0 + timedelta(days=1)) == 0
    assert rollups.prune(T0 + timedelta(days=3)) == 1
    assert rollups.prune(T0 + timedelta(days=92)) == 2
    assert [row.span_s for row in Rollup.objects.all()] == [rollups.EVER_S]


def test_rows_of_numbers_are_inserted_or_added(master: DemoMaster) -> None:
    resource = make_resource(master)
    row = {"span_s": 0, "begins_at": T0, "resource_id": resource.pk, "outcome": "complete", "error": "",
           "attempts": 2, "total_ms": 2**40, **NOTHING}  # fmt: skip
    add_rows(Rollup, [row, {**row, "outcome": "fail"}], key=rollups.KEY)
    add_rows(Rollup, [{**row, "attempts": 3}], key=rollups.KEY)
    found = {one.outcome: (one.attempts, one.total_ms) for one in Rollup.objects.all()}
    assert found == {"complete": (5, 2**41), "fail": (2, 2**40)}
