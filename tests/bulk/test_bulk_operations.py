"""Bulk operations: frozen rows, one act a row however workers die, cancel, rights.

A thousand rows at once; `make chaos` asks for 20,000 (`BULK_RECORDS`).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from syncportal.access import roles
from syncportal.bulk import acts, journal, work, workers
from syncportal.bulk.acts import Batch
from syncportal.bulk.models import BulkOperation
from syncportal.bulk.states import FINISH, State
from syncportal.sync import bulk_acts
from syncportal.sync.models import Event, SyncJob
from tests.bulk.counting import COUNT_PATH, NOW, Counter, Killed, counts, operation, started
from tests.factories import agreed

pytestmark = pytest.mark.django_db(transaction=True)
MANY = int(os.environ.get("BULK_RECORDS", "1000"))


def test_nothing_happens_before_the_preview_is_confirmed(counter: Counter) -> None:
    pk = operation(5)
    assert not work.run(pk, seconds=5)
    assert counter.seen == [] and counts(pk) == ("draft", 0, 0, 0, 5)


def test_every_row_is_acted_on_once_in_order(counter: Counter) -> None:
    pk = started(work.BATCH * 2 + 7)
    assert not work.run(pk, seconds=5)
    assert counter.seen == list(range(1, work.BATCH * 2 + 8))
    assert counts(pk) == ("done", work.BATCH * 2 + 7, 0, 0, 0)
    assert not work.begin(pk, parameters={})  # a second click starts nothing
    assert not work.run(pk, seconds=5) and len(counter.seen) == work.BATCH * 2 + 7


def test_a_slice_ends_in_time_and_the_next_goes_on(counter: Counter) -> None:
    pk = started(3)
    assert work.run(pk, seconds=0), "it could go on at once"
    assert counter.seen == []
    assert workers.ring_for_due(NOW())
    workers.bulk()
    assert counts(pk)[:2] == ("done", 3)


@pytest.mark.db
def test_a_worker_that_dies_takes_the_act_and_its_outcome_with_it(counter: Counter, monkeypatch: Any) -> None:
    records = agreed(3)
    monkeypatch.setattr(COUNT_PATH, counter.act(run=_requeue_then(counter)))
    SyncJob.objects.update(status="ERROR", due_at=None)
    counter.dies_after = 1
    pk = started(0, ids=[record.pk for record in records])
    with pytest.raises(Killed):
        work.run(pk, seconds=5)
    assert SyncJob.objects.filter(status="ERROR").count() == 3 and counts(pk) == ("running", 0, 0, 0, 3)
    assert not work.run(pk, seconds=5), "the dead worker's lease still holds"
    BulkOperation.objects.update(lease_until=NOW() - timedelta(seconds=1))
    work.run(pk, seconds=5)
    assert counts(pk) == ("done", 3, 0, 0, 0)
    assert Event.objects.filter(kind="job.requeued").count() == 3


def _requeue_then(counter: Counter) -> Any:
    def run(batch: Batch) -> Any:
        done = bulk_acts.REQUEUE.run(batch)
        counter.run(batch)
        return done

    return run


@pytest.mark.db
def test_two_workers_share_no_row(counter: Counter) -> None:
    pk = started(work.BATCH * 4)

    def slice_(_: int) -> None:
        try:
            work.run(pk, seconds=5)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(slice_, range(4)))
    assert sorted(counter.seen) == list(range(1, work.BATCH * 4 + 1))
    assert counts(pk)[:2] == ("done", work.BATCH * 4)


def test_a_lease_of_a_clock_that_was_put_back_holds_nothing_up(counter: Counter) -> None:
    pk = started(3)
    ahead = NOW() + timedelta(days=1)
    assert journal.claim(pk, now=ahead) is not None and journal.claim(pk, now=ahead) is None
    work.run(pk, seconds=5)
    assert counts(pk) == ("done", 3, 0, 0, 0)


def test_cancel_stops_at_the_batch_and_what_was_done_stays(counter: Counter, monkeypatch: Any) -> None:
    pk = started(work.BATCH * 3)

    def cancelled_after(batch: Batch) -> Any:
        transaction.on_commit(lambda: work.cancel(pk, by="ops"))
        return counter.run(batch)

    monkeypatch.setattr(COUNT_PATH, counter.act(run=cancelled_after))
    assert not work.run(pk, seconds=5)
    assert counts(pk) == ("cancelled", work.BATCH, 0, 0, 2 * work.BATCH)
    assert not work.run(pk, seconds=5) and len(counter.seen) == work.BATCH
    assert not work.cancel(pk, by="ops")


def test_what_a_batch_was_about_to_write_is_refused_after_a_cancel(counter: Counter) -> None:
    pk = started(3)
    taken = journal.claim(pk, now=NOW())
    assert taken is not None and work.cancel(pk, by="ops")
    with pytest.raises(journal.Fenced):
        journal.advance(taken, now=NOW())
    with pytest.raises(journal.Fenced):
        journal.end(taken, FINISH, now=NOW())


def test_a_bug_in_one_row_fails_that_row_only(counter: Counter) -> None:
    counter.breaks_on = 3
    pk = started(5)
    work.run(pk, seconds=5)
    assert counts(pk) == ("done", 4, 0, 1, 0)
    assert sorted(counter.seen) == [1, 2, 4, 5]
    assert "internal error" in BulkOperation.objects.get(pk=pk).rows.get(state="failed").outcome


def test_a_row_that_the_database_refuses_fails_alone(counter: Counter, monkeypatch: Any) -> None:
    def refusing(batch: Batch) -> Any:
        if 2 in batch.ids:
            raise IntegrityError("a constraint")
        return counter.run(batch)

    monkeypatch.setattr(COUNT_PATH, counter.act(run=refusing))
    pk = started(3)
    work.run(pk, seconds=5)
    assert counts(pk) == ("done", 2, 0, 1, 0)


def test_a_lost_connection_fails_no_row(counter: Counter, monkeypatch: Any) -> None:
    def lost(batch: Batch) -> Any:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(COUNT_PATH, counter.act(run=lost))
    pk = started(3)
    with pytest.raises(OperationalError):
        work.run(pk, seconds=5)
    assert counts(pk) == ("running", 0, 0, 0, 3)


def test_of_two_operations_over_the_same_rows_the_older_acts(counter: Counter, monkeypatch: Any) -> None:
    monkeypatch.setattr(COUNT_PATH, counter.act(watch=counter.watch))
    first, second = started(3), started(5)
    work.run(second, seconds=5)
    assert counter.seen == [4, 5] and counts(second) == ("done", 2, 3, 0, 0)
    work.run(first, seconds=5)
    assert sorted(counter.seen) == [1, 2, 3, 4, 5]
    outcome = BulkOperation.objects.get(pk=second).rows.filter(state="skipped").first().outcome
    assert outcome == "another operation that runs now has it"
    third = started(3)
    work.run(third, seconds=5)
    assert counts(third) == ("done", 3, 0, 0, 0), "one that has ended keeps nothing"


def test_a_long_operation_leaves_time_to_the_next(counter: Counter, monkeypatch: Any) -> None:
    given: list[float] = []
    monkeypatch.setattr(work, "run", lambda pk, seconds: given.append(seconds) or True)
    started(3), started(3), started(3)
    assert workers.run_waiting(seconds=9) == 3
    assert given == pytest.approx([3, 4.5, 9], abs=0.5)


def test_a_preview_asks_for_the_scope_once(counter: Counter) -> None:
    asked: list[int] = []
    act = counter.act(scope=lambda user, ids: asked.append(len(ids)) or set(ids))
    user = User.objects.create_superuser("root")
    assert acts.preview_of(act, list(range(500)), user=user, parameters={}).taken == 500
    assert asked == [500]


def test_a_right_that_is_taken_away_ends_the_act_in_the_middle(monkeypatch: Any) -> None:
    roles.make_roles()
    person = User.objects.create_user("olga")
    person.groups.add(Group.objects.get(name=roles.OPERATIONS))
    rows = agreed(work.BATCH + 20)
    SyncJob.objects.update(status="ERROR", due_at=None)
    new = journal.NewOperation("records.requeue", [row.pk for row in rows], person.pk, "olga")
    pk = journal.prepare(new, now=NOW()).pk
    assert work.begin(pk, parameters={})
    batch = work._batch

    def revoked_after(*args: Any, **options: Any) -> Any:
        step = batch(*args, **options)
        transaction.on_commit(person.groups.clear)
        return step

    monkeypatch.setattr(work, "_batch", revoked_after)
    work.run(pk, seconds=20)
    assert counts(pk) == ("done", work.BATCH, 20, 0, 0)
    assert SyncJob.objects.filter(status="ERROR").count() == 20


def test_rights_are_those_of_the_moment(counter: Counter, monkeypatch: Any) -> None:
    pk = started(3)
    monkeypatch.setattr(COUNT_PATH, counter.act(scope=lambda user, ids: {2}))
    work.run(pk, seconds=5)
    assert counts(pk) == ("done", 1, 2, 0, 0)
    later = started(2)
    User.objects.update(is_active=False)
    work.run(later, seconds=5)
    assert counts(later) == ("done", 0, 2, 0, 0) and counter.seen == [2]


def test_an_act_that_is_not_known_any_more_stops_the_operation(counter: Counter) -> None:
    pk = started(2, act="tests.gone")
    work.run(pk, seconds=5)
    assert counts(pk) == ("stopped", 0, 0, 0, 2)


# --- at scale


@pytest.mark.db
def test_very_many_are_requeued_with_exact_counts_beside_workers() -> None:
    records, faster = agreed(MANY), MANY // 10
    SyncJob.objects.update(status="ERROR", due_at=None)
    taken = [record.pk for record in records[:faster]]
    SyncJob.objects.filter(pk__in=taken).update(status="PENDING", due_at=NOW())  # somebody else was faster
    pk = operation(0, act="records.requeue", ids=[record.pk for record in records])
    SyncJob.objects.filter(pk=agreed(1)[0].pk).update(status="ERROR")
    assert work.begin(pk, parameters={})
    with CaptureQueriesContext(connection) as queries:
        work.run(pk, seconds=600)
    assert counts(pk) == ("done", MANY - faster, faster, 0, 0)
    assert len(queries) < 300 * MANY / 1_000
    assert Event.objects.filter(kind="job.requeued").count() == MANY - faster
    assert SyncJob.objects.filter(status="ERROR").count() == 1, "a row that came later is not touched"


def test_old_previews_and_operations_are_forgotten(counter: Counter) -> None:
    draft, done, stopped = operation(1), started(1), started(1)
    work.run(done, seconds=5)
    BulkOperation.objects.filter(pk=stopped).update(state=State.STOPPED)
    assert journal.prune(NOW() + timedelta(hours=2)) == 0
    assert journal.prune(NOW() + timedelta(days=2)) == 1 and not BulkOperation.objects.filter(pk=draft).exists()
    assert journal.prune(NOW() + timedelta(days=91)) == 1
    assert BulkOperation.objects.get().pk == stopped, "nothing open is forgotten"


def test_the_worker_task_never_raises(counter: Counter, monkeypatch: Any) -> None:
    monkeypatch.setattr(work, "run", lambda *args, **options: 1 / 0)
    started(1)
    workers.bulk()


def test_every_registered_act_resolves() -> None:
    for name in acts.known():
        assert acts.act_of(name).name == name
