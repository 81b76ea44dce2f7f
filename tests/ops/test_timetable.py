"""The timetable: schedules that mend themselves, duties that record how they went, ticks that survive an outage."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.signing import SignedPackage

from syncportal.kernel import doorbell
from syncportal.ops import duties, heartbeat, schedules, ticks
from syncportal.ops.duties import DUTIES, DutySpec
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import Duty, Heartbeat, WorkerState
from syncportal.ops.supervisor import TICK_S, PoolNews
from syncportal.ops.ticks import Ticker
from syncportal.sync import transitions
from syncportal.sync.models import SyncJob
from syncportal.sync.states import Status
from syncportal.sync.tasks import DRAIN
from tests.factories import NEW_ACCOUNT, create, make_remote, make_resource

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
RUNNING = PoolNews(WorkerState.RUNNING, 1.0, 0)


def names() -> list[str]:
    return sorted(Schedule.objects.values_list("name", flat=True))


def test_the_schedules_are_written_once_and_then_left_alone() -> None:
    now = timezone.now()
    assert sorted(schedules.ensure(now=now).written) == sorted(duty.name for duty in DUTIES)
    assert schedules.ensure(now=now) == schedules.Ensured()
    assert names() == sorted(duty.name for duty in DUTIES)


@pytest.mark.parametrize(
    "change",
    [
        {"args": "((((", "kwargs": None},
        {"kwargs": "{'q_options': 1}"},
        {"func": "os.system"},
        {"hook": "os.system"},
        {"schedule_type": "C", "cron": "not cron"},
        {"minutes": None},
        {"repeats": 0},
        {"cluster": "elsewhere"},
        {"next_run": None},
        {"next_run": timezone.now() + timedelta(days=400)},
        {"next_run": timezone.now() - timedelta(days=400)},
    ],
)
def test_a_row_that_was_changed_is_written_anew(change: dict[str, Any]) -> None:
    now = timezone.now()
    schedules.ensure(now=now)
    Schedule.objects.filter(name="sweep").update(**change)
    done = schedules.ensure(now=now)
    assert done.written == ("sweep",)
    assert Schedule.objects.get(name="sweep").args == "('sweep',)"


def test_foreign_and_doubled_rows_are_removed() -> None:
    now = timezone.now()
    schedules.ensure(now=now)
    Schedule.objects.create(name="theirs", func="os.system", args="'reboot'", next_run=now)
    row = Schedule.objects.get(name="seal")
    row.pk = None
    row.save()
    done = schedules.ensure(now=now)
    assert sorted(done.removed) == ["seal", "theirs"]
    assert names() == sorted(duty.name for duty in DUTIES)


def with_duty(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    monkeypatch.setattr(duties, "DUTIES", (DutySpec("probe", 60, "For the test.", work),))


def test_a_duty_leaves_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    with_duty(monkeypatch, lambda now: "3 done")
    duties.run("probe")
    row = Duty.objects.get(name="probe")
    assert (row.last_result, row.last_ok, row.failures, row.lease_until) == ("3 done", True, 0, None)
    assert row.last_started_at and row.last_finished_at and row.last_duration_ms is not None


def test_a_duty_that_fails_raises_nothing_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(now: object) -> str:
        raise ValueError("no paper")

    with_duty(monkeypatch, broken)
    duties.run("probe")
    duties.run("probe")
    row = Duty.objects.get(name="probe")
    assert (row.last_ok, row.failures, row.last_result, row.lease_until) == (False, 2, "ValueError: no paper", None)


def test_a_duty_runs_in_one_place_at_a_time_and_again_when_its_lease_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    inner: list[object] = []
    with_duty(monkeypatch, lambda now: str(inner.append(duties.run_now("probe"))))
    duties.run_now("probe")
    assert inner == [None]
    Duty.objects.update(lease_until=timezone.now() + timedelta(seconds=30))
    assert duties.run_now("probe") is None
    Duty.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert duties.run_now("probe") is not None


def test_every_duty_of_the_list_runs_on_an_empty_database() -> None:
    for duty in DUTIES:
        duties.run(duty.name)
    assert list(Duty.objects.filter(last_ok=True).values_list("name", flat=True)) == sorted(d.name for d in DUTIES)


def test_the_tick_rings_for_a_duty_that_its_schedule_forgot() -> None:
    now = timezone.now()
    assert set(duties.overdue(now)) == {duty.name for duty in DUTIES}
    for duty in DUTIES:
        duties.run(duty.name)
    assert duties.overdue(timezone.now()) == []
    Duty.objects.filter(name="sweep").update(last_started_at=now - timedelta(minutes=5))
    assert duties.overdue(now) == ["sweep"]
    ticks.Ticker("host", 1).tick(RUNNING)
    assert OrmQ.objects.count() == 1


def test_the_first_tick_after_its_time_rings_for_a_due_retry_and_its_task_claims_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = create(make_resource(make_remote("http://127.0.0.1:1/api")), NEW_ACCOUNT)
    for duty in DUTIES:
        duties.run(duty.name)
    due_at = timezone.now() + timedelta(seconds=25)
    SyncJob.objects.filter(pk=record.pk).update(status=Status.RETRY_PENDING, attempts=1, due_at=due_at)
    OrmQ.objects.all().delete()
    now = due_at - timedelta(seconds=TICK_S)
    monkeypatch.setattr(ticks, "db_now", lambda: now)
    ticker = Ticker("host", 7)
    for moment, rung in ((due_at - timedelta(milliseconds=1), []), (due_at, [DRAIN])):
        now = moment
        ticker.tick(RUNNING)
        assert [SignedPackage.loads(row.payload)["func"] for row in OrmQ.objects.all()] == rung
    [claim] = transitions.claim_many(record.resource.remote_id, limit=9, holder="w", now=due_at, lease_s=90)
    assert (claim.record_id, claim.attempt) == (record.pk, 2)
    assert TICK_S + settings.Q_CLUSTER["poll"] < 1, "a tick and the pool's look at the queue fit into the second"


def test_a_supervisor_is_alive_while_it_beats_and_gone_when_it_ends_or_falls_silent() -> None:
    now = timezone.now()
    assert not heartbeat.alive(now)
    ticker = Ticker("host", 7, info={"workers": 3})
    ticker.tick(PoolNews(WorkerState.STARTING, None, 0))
    ticker.tick(RUNNING)
    row = Heartbeat.objects.get()
    assert (row.name, row.state, row.info) == ("host:7", "running", {"workers": 3})
    assert row.canary_at is not None
    now = timezone.now()
    assert heartbeat.alive(now)
    assert [worker.alive for worker in heartbeat.seen(now)] == [True]
    assert not heartbeat.alive(now + timedelta(seconds=31))
    ticker.tick(PoolNews(WorkerState.STOPPED, None, 0))
    assert not heartbeat.alive(timezone.now())


def test_supervisors_of_the_past_are_forgotten_after_a_day() -> None:
    now = timezone.now()
    heartbeat.beat(Beat("old", 1, WorkerState.RUNNING), now=now - timedelta(days=2))
    heartbeat.beat(Beat("new", 1, WorkerState.RUNNING), now=now)
    assert [worker.name for worker in heartbeat.seen(now)] == ["new:1"]
    assert heartbeat.forget_old(now=now) == 1


def test_a_tick_survives_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(now: object) -> None:
        raise OperationalError("connection refused")

    ticker = Ticker("host", 7)
    with monkeypatch.context() as broken:
        broken.setattr(ticks.sweep, "ring_for_due", away)
        ticker.tick(RUNNING)
        assert not ticker.reachable
    ticker.tick(RUNNING)
    assert ticker.reachable


def test_working_off_with_nothing_to_do_ends_and_keeps_the_books() -> None:
    done = ticks.work_off()
    assert (done.pushed, done.refreshed, done.pull_slices, done.failed) == (0, 0, 0, [])
    assert set(Duty.objects.values_list("name", flat=True)) == {"sweep", "seal", "summaries", "alerts", "conflicts"}


def test_working_off_goes_on_past_work_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks.refresh, "refresh_requested", lambda: 1 / 0)
    slices = iter([1, 1, 0])
    monkeypatch.setattr(ticks.pull, "run_waiting", lambda seconds: next(slices))
    done = ticks.work_off()
    assert (done.pull_slices, done.failed) == (2, ["refresh"])


def test_the_doorbell_knows_the_duties() -> None:
    assert doorbell.ring(duties.RUN, "sweep")
