"""What a master can refuse a push, and when it is tried again or given up. Time is virtual."""

from datetime import timedelta
from typing import Any

import pytest

from syncportal.demo import DemoMaster
from syncportal.remote.models import Gate, Resource
from syncportal.sync import operate
from syncportal.sync.models import Event, Record, SyncJob, SyncLog
from syncportal.sync.states import Status
from tests.factories import PERSON, Clock, drain, edit, job_of, make_remote, make_resource, take
from tests.sync.scene import until_quiet

pytestmark = pytest.mark.django_db(transaction=True)


def test_retries_come_after_5_25_and_125_seconds_and_then_it_is_a_dead_letter(
    master: DemoMaster, record: Record, clock: Clock
) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=500, phase="write")
    for attempt, least in enumerate((5, 25, 125), 1):
        drain(clock)
        job = job_of(record)
        assert (job.status, job.attempts, job.reason) == (Status.RETRY_PENDING, attempt, "server_fault")
        wait_s = (job.due_at - clock.now).total_seconds()
        assert least <= wait_s <= least * 1.25 + 1
        clock.to(job.due_at - timedelta(milliseconds=1))
        assert drain(clock).settled == 0, "never earlier"
        clock.forward(0.001)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.attempts, job.reason) == (Status.DEAD_LETTER, 4, "max_attempts")
    assert list(SyncLog.objects.filter(purpose="write").values_list("http_status", flat=True)) == [500] * 4
    assert Event.objects.filter(kind="sync.failed").count() == 3, "an error event per failed attempt"
    assert Event.objects.filter(kind="sync.dead_lettered").count() == 1
    assert drain(clock).settled == 0


def test_a_dead_letter_goes_out_again_when_an_operator_asks(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    rule = master.faults.add("status", status=500, phase="write")
    until_quiet(clock)
    master.faults.remove(rule.number)
    done = operate.requeue([record.pk, 999], actor=PERSON)
    assert (done.moved, list(done.left_out.values())) == ((record.pk,), ["not found"])
    assert job_of(record).attempts == 0
    until_quiet(clock)
    assert job_of(record).status == Status.SYNCED
    assert SyncLog.objects.filter(outcome="give_up").exists(), "history is kept"
    assert operate.requeue([record.pk], actor=PERSON).left_out == {record.pk: "synced"}


def test_an_hours_outage_makes_no_dead_letter(master: DemoMaster, clock: Clock) -> None:
    resource = make_resource(master)
    rows = take(master, resource, *(f"ACC-{n:04d}" for n in range(1, 9)))
    for row in rows:
        edit(row, city="Lund")
    master.go_down()
    try:
        began = clock.now
        while clock.now < began + timedelta(hours=1):
            drain(clock)
            clock.forward(30)
        assert set(SyncJob.objects.values_list("status", flat=True)) == {Status.RETRY_PENDING}
        assert max(SyncJob.objects.values_list("attempts", flat=True)) < 4
        assert Gate.objects.get(pk=resource.remote_id).breaker == "open"
        assert Event.objects.filter(kind="breaker.opened").count() == 1
    finally:
        master.come_up()
    clock.forward(300)
    until_quiet(clock)
    assert set(SyncJob.objects.values_list("status", flat=True)) == {Status.SYNCED}
    assert Event.objects.filter(kind="breaker.closed").count() == 1
    assert len(master.writes()) == 8


def test_a_storm_of_500_opens_the_breaker_before_attempts_run_out(master: DemoMaster, clock: Clock) -> None:
    rows = take(master, make_resource(master), *(f"ACC-{n:04d}" for n in range(1, 9)))
    for row in rows:
        edit(row, city="Lund")
    rule = master.faults.add("status", status=500)
    for _ in range(120):
        drain(clock)
        clock.forward(30)
    assert set(SyncJob.objects.values_list("status", flat=True)) == {Status.RETRY_PENDING}
    master.faults.remove(rule.number)
    clock.forward(300)
    until_quiet(clock)
    assert set(SyncJob.objects.values_list("status", flat=True)) == {Status.SYNCED}


@pytest.mark.parametrize(
    ("status", "retry_after", "least", "most"),
    [
        (429, "", 0, 10),
        (429, "60", 60, 61),
        (429, "date:90", 80, 95),
        (503, "60", 60, 61),
        (429, "100000000", 3600, 3601),
        (429, "garbage", 0, 10),
        (429, "past", 0, 10),
    ],
)
def test_being_asked_to_wait_is_no_attempt(
    master: DemoMaster, record: Record, clock: Clock, status: int, retry_after: str, least: float, most: float
) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=status, retry_after=retry_after, times=1)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.attempts, job.reason) == (Status.RETRY_PENDING, 0, "throttled")
    assert least <= (job.due_at - clock.now).total_seconds() <= most
    until_quiet(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


def test_a_retry_after_that_is_longer_than_our_own_delay_wins(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=500, retry_after="40", phase="write", times=1)
    drain(clock)
    job = job_of(record)
    assert job.attempts == 1
    assert 40 <= (job.due_at - clock.now).total_seconds() <= 41


def test_a_refused_credential_pauses_the_remote_once_and_burns_no_attempts(master: DemoMaster, clock: Clock) -> None:
    resource = make_resource(master)
    rows = take(master, resource, *(f"ACC-{n:04d}" for n in range(1, 9)))
    for row in rows:
        edit(row, city="Lund")
    rule = master.faults.add("status", status=401)
    drain(clock)
    clock.forward(60)
    calls = len(master.requests())
    assert drain(clock).settled == 0 and len(master.requests()) == calls, "paused: no more calls"
    assert Event.objects.filter(kind="remote.paused").count() == 1
    assert set(SyncJob.objects.values_list("attempts", flat=True)) == {0}
    assert set(SyncJob.objects.values_list("status", flat=True)) <= {Status.PENDING, Status.RETRY_PENDING}
    edit(rows[0], city="Turku")
    assert job_of(rows[0]).status == Status.PENDING, "edits are accepted meanwhile"
    master.faults.remove(rule.number)
    assert operate.resume(resource.remote, actor=PERSON)
    until_quiet(clock)
    assert set(SyncJob.objects.values_list("status", flat=True)) == {Status.SYNCED}
    assert len(master.writes()) == 8


def test_a_forbidden_object_is_an_error_of_its_own(master: DemoMaster, resource: Resource, clock: Clock) -> None:
    one, two = take(master, resource, "ACC-0001", "ACC-0002")
    edit(one, city="Lund")
    edit(two, city="Lund")
    master.faults.add("status", status=403, object_id="ACC-0001")
    drain(clock)
    assert [(job_of(row).status, job_of(row).reason) for row in (one, two)] == [
        (Status.ERROR, "rejected"), (Status.SYNCED, ""),
    ]  # fmt: skip
    assert not Event.objects.filter(kind="remote.paused").exists()


def test_forbidding_everything_is_a_refused_credential(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=403)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.attempts) == (Status.RETRY_PENDING, 0)
    assert Event.objects.filter(kind="remote.paused").count() == 1


def test_permanent_refusals_stop_with_the_remotes_own_words(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=422, body='{"error": "city is unknown to us"}', phase="write")
    drain(clock)
    job = job_of(record)
    assert (job.status, job.reason, job.in_doubt) == (Status.ERROR, "rejected", False)
    assert "city is unknown to us" in job.detail


def test_a_redirect_is_never_followed(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("redirect", phase="write", url=f"{master.url}/api/accounts/ACC-0002")
    drain(clock)
    assert job_of(record).status == Status.ERROR
    assert master.writes() == []


def test_a_status_can_be_declared_transient(master: DemoMaster, clock: Clock) -> None:
    resource = make_resource(make_remote(master.api_url, transient=[423]))
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.faults.add("status", status=423, phase="write", times=1)
    drain(clock)
    assert (job_of(record).status, job_of(record).in_doubt) == (Status.RETRY_PENDING, False)
    until_quiet(clock)
    assert job_of(record).status == Status.SYNCED


def test_what_our_own_code_breaks_ends_as_a_dead_letter_and_never_stops_the_others(
    master: DemoMaster, resource: Resource, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from syncportal.sync import executor

    poison, healthy = take(master, resource, "ACC-0001", "ACC-0002")
    edit(poison, city="Lund")
    edit(healthy, city="Lund")
    real = executor.attempt

    def attempt(claim: Any, *args: Any, **options: Any) -> Any:
        if claim.record_id == poison.pk:
            raise RuntimeError("a bug")
        return real(claim, *args, **options)

    monkeypatch.setattr(executor, "attempt", attempt)
    until_quiet(clock)
    assert job_of(healthy).status == Status.SYNCED
    assert (job_of(poison).status, job_of(poison).reason, job_of(poison).attempts) == (Status.DEAD_LETTER, "poison", 4)


def test_signing_in_that_fails_for_a_while_costs_no_job(master: DemoMaster, clock: Clock, monkeypatch: Any) -> None:
    monkeypatch.setenv("SYNCPORTAL_TEST_LOGIN", "user:secret")
    auth = {
        "kind": "login", "credential": "env:SYNCPORTAL_TEST_LOGIN", "token_path": "/accounts",
        "token_body": {"u": "{user}", "p": "{password}"}, "token_pointer": "/token",
    }  # fmt: skip
    resource = make_resource(make_remote(master.api_url, auth=auth))
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.faults.add("status", status=503)
    drain(clock)
    job = job_of(record)
    assert job.status == Status.RETRY_PENDING, (job.status, job.reason, job.detail)
