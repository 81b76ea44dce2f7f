"""Ramps: more is let go of only when all before ended well; they stop at the first failure and say why."""

from typing import Any

import pytest

from syncportal.bulk import acts, work, workers
from syncportal.bulk.acts import Batch, Result
from syncportal.bulk.models import BulkOperation
from syncportal.bulk.states import RAMP, RowState, next_limit
from syncportal.sync import bulk_acts
from syncportal.sync.models import SyncJob
from tests.bulk.counting import COUNT_PATH, NOW, Counter, counts, started
from tests.factories import agreed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ramp(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Let the counting act be watched, and look again without a pause."""
    monkeypatch.setattr(COUNT_PATH, counter.act(watch=counter.watch))
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0)
    return counter


def well(counter: Counter, *ids: int) -> None:
    counter.fates |= dict.fromkeys(ids, RowState.DONE)


def test_the_steps_of_a_ramp() -> None:
    assert (1, *(next_limit(limit) for limit in RAMP)) == (1, 11, 111, None)


def test_a_ramp_lets_go_of_more_only_when_all_before_ended_well(ramp: Counter) -> None:
    pk = started(300, ramp=True)
    work.run(pk, seconds=5)
    assert ramp.seen == [1]
    work.run(pk, seconds=5)
    assert ramp.seen == [1], "the first is still under way"
    well(ramp, 1)
    work.run(pk, seconds=5)
    assert len(ramp.seen) == 11
    well(ramp, *range(2, 11))  # one of ten is missing
    work.run(pk, seconds=5)
    assert len(ramp.seen) == 11
    well(ramp, 11)
    work.run(pk, seconds=5)
    assert len(ramp.seen) == 111
    well(ramp, *range(12, 112))
    work.run(pk, seconds=5)
    assert len(ramp.seen) == 300 and counts(pk)[0] == "running"
    well(ramp, *range(112, 301))
    work.run(pk, seconds=5)
    assert counts(pk) == ("done", 300, 0, 0, 0)


def test_a_ramp_stops_at_the_first_failure_and_says_why(ramp: Counter) -> None:
    pk = started(50, ramp=True)
    work.run(pk, seconds=5)
    ramp.fates[1] = RowState.FAILED
    work.run(pk, seconds=5)
    assert counts(pk) == ("stopped", 0, 0, 1, 49)
    assert BulkOperation.objects.get(pk=pk).reason == "1 of 1 let go so far failed: 503 again"
    assert ramp.seen == [1] and not workers.ring_for_due(NOW())
    assert work.go_on(pk) and not work.go_on(pk)
    work.run(pk, seconds=5)
    assert len(ramp.seen) == 50
    assert work.cancel(pk, by="ops") and counts(pk)[0] == "cancelled"


def test_rows_that_are_left_out_are_no_step(ramp: Counter, monkeypatch: Any) -> None:
    left_out = Result(RowState.SKIPPED, "both sides agree")

    def run(batch: Batch) -> dict[int, Result]:
        return ramp.run(batch) | {pk: left_out for pk in batch.ids if pk <= 150}

    monkeypatch.setattr(COUNT_PATH, ramp.act(watch=ramp.watch, run=run))
    pk = started(300, ramp=True)
    work.run(pk, seconds=20)
    assert counts(pk) == ("running", 0, 150, 0, 149), "only one was let go"


def test_a_ramp_names_a_cause_that_it_did_not_set_out_to_mend(ramp: Counter, monkeypatch: Any) -> None:
    found = [acts.Cause("HTTP 503", "/x", 1, new=True), acts.Cause("HTTP 422", "/y", 1)]
    monkeypatch.setattr(COUNT_PATH, ramp.act(watch=ramp.watch, causes=lambda ids, parameters: found))
    pk = started(50, ramp=True)
    work.run(pk, seconds=5)
    ramp.fates[1] = RowState.FAILED
    work.run(pk, seconds=5)
    reason = BulkOperation.objects.get(pk=pk).reason
    assert reason == "1 of 1 let go so far failed: 503 again. A new cause appeared: HTTP 503."


@pytest.mark.parametrize(
    ("status", "attempts", "reason", "fate"),
    [
        ("SYNCED", 0, "", RowState.DONE),
        ("PENDING", 0, "", RowState.WAITING),
        ("RETRY_PENDING", 0, "", RowState.WAITING),
        ("RETRY_PENDING", 1, "", RowState.FAILED),
        ("RETRY_PENDING", 1, "worker_died", RowState.WAITING),
        ("DEAD_LETTER", 4, "", RowState.FAILED),
        ("VERSION_CONFLICT", 1, "", RowState.FAILED),
    ],
)
def test_how_a_requeued_record_counts(status: str, attempts: int, reason: str, fate: RowState) -> None:
    [record] = agreed(1)
    due = NOW() if status in ("PENDING", "RETRY_PENDING") else None
    SyncJob.objects.filter(pk=record.pk).update(
        status=status, attempts=attempts, due_at=due, reason=reason, detail="HTTP 503"
    )
    gone = record.pk + 1_000
    assert {pk: seen.state for pk, seen in bulk_acts.how_it_went([record.pk, gone]).items()} == {
        record.pk: fate, gone: RowState.SKIPPED,
    }  # fmt: skip
