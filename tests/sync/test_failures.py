"""What a master can do to a push, and what becomes of the job. Time is virtual: no test waits for a retry."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote import limits
from syncportal.remote.models import Gate, Resource
from syncportal.sync import operate
from syncportal.sync.models import Conflict, Event, Record, SyncJob, SyncLog
from syncportal.sync.states import Status
from tests.factories import (
    ACCOUNTS,
    NEW_ACCOUNT,
    NEW_SHIFT,
    PERSON,
    SHIFTS,
    Clock,
    create,
    delete,
    drain,
    edit,
    job_of,
    make_remote,
    make_resource,
    take,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.forward(5)
    return clock


@pytest.fixture
def resource(master: DemoMaster) -> Resource:
    return make_resource(master)


@pytest.fixture
def record(master: DemoMaster, resource: Resource) -> Record:
    return take(master, resource, "ACC-0001")[0]


def until_quiet(clock: Clock, *, most: int = 30) -> None:
    """Drain again and again, letting time pass until the next due job, until nothing waits."""
    for _ in range(most):
        drain(clock)
        waiting = SyncJob.objects.claimable().order_by("due_at").first()
        if waiting is None:
            return
        clock.to(waiting.due_at)
        for block in limits.blocked(clock.now).values():
            if block.until is not None:
                clock.to(block.until)
    raise AssertionError("it never became quiet")


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


def test_a_missing_object_is_confirmed_and_then_for_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.delete("accounts", "ACC-0001")
    drain(clock)
    conflict = Conflict.objects.get()
    assert (job_of(record).status, conflict.reason, conflict.remote) == (
        Status.VERSION_CONFLICT, "deleted_remote", None,
    )  # fmt: skip
    assert [request.method for request in master.requests()] == ["PUT", "GET"]


def test_an_object_that_is_missing_only_once_is_no_conflict(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=404, phase="update", times=1)
    drain(clock)
    assert not Conflict.objects.exists()
    assert job_of(record).status == Status.ERROR


def test_a_stale_write_is_merged_with_a_change_of_other_fields(
    master: DemoMaster, record: Record, clock: Clock
) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", notes="theirs")
    assert drain(clock).by_verb == {"rebase": 1, "complete": 1}
    record.refresh_from_db()
    held = master.get("accounts", "ACC-0001")
    assert (held["city"], held["notes"], job_of(record).status) == ("Lund", "theirs", Status.SYNCED)
    assert record.data["notes"] == "theirs"
    assert Event.objects.get(kind="sync.merged").data["merged_fields"] == ["/notes"]


def test_a_stale_write_over_the_same_field_waits_for_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    drain(clock)
    conflict = Conflict.objects.get()
    assert (conflict.reason, conflict.fields, conflict.remote_version) == ("precondition_failed", ["/city"], "2")
    assert (conflict.base["city"], conflict.local["city"], conflict.remote["city"]) == (
        record.data["city"], "Lund", "Turku",
    )  # fmt: skip
    assert master.get("accounts", "ACC-0001")["city"] == "Turku"
    assert Event.objects.filter(kind="sync.conflict").count() == 1


def test_the_same_edit_made_on_both_sides_is_skipped(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Lund")
    drain(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SKIPPED, 1)


def test_a_deletion_against_a_change_is_always_for_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    delete(record)
    master.edit("accounts", "ACC-0001", notes="theirs")
    drain(clock)
    assert Conflict.objects.get().reason == "deleted_local"
    assert master.get("accounts", "ACC-0001") is not None


def test_endless_conflicting_changes_end_with_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    for number in range(12):
        master.edit("accounts", "ACC-0001", notes=f"{number}")
        drain(clock, keep_going=once())
        if job_of(record).status == Status.VERSION_CONFLICT:
            break
    assert job_of(record).status == Status.VERSION_CONFLICT
    assert number == 3, "at most three rebases in a row"


def once() -> Callable[[], bool]:
    """Return a `keep_going` that lets one round of claims happen."""
    left = [True]
    return lambda: bool(left and left.pop())


UNKNOWN: list[dict[str, Any]] = [
    {"kind": "timeout_after"},
    {"kind": "reset_after"},
    {"kind": "truncate"},
    {"kind": "status", "status": 500, "apply": True},
    {"kind": "status", "status": 504, "apply": True},
    {"kind": "status", "status": 503, "retry_after": "7", "apply": True},
]


@pytest.mark.parametrize("fault", UNKNOWN, ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}")
@pytest.mark.parametrize("what", ["update", "create", "delete"])
def test_an_unknown_outcome_is_read_back_and_never_applied_twice(
    master: DemoMaster, clock: Clock, what: str, fault: dict[str, Any]
) -> None:
    if (what, fault["kind"]) == ("delete", "truncate"):
        pytest.skip("an answer to a deletion has no body to cut")
    kind = SHIFTS if what == "create" and fault["kind"] == "reset_after" else ACCOUNTS
    resource = make_resource(master, kind)
    if what == "create":
        record = create(resource, NEW_SHIFT if kind is SHIFTS else NEW_ACCOUNT)
    else:
        [record] = take(master, resource, "ACC-0001")
        edit(record, city="Lund") if what == "update" else delete(record)
    options = dict(fault)
    master.faults.add(options.pop("kind"), phase="write", times=1, **options)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.in_doubt) == (Status.RETRY_PENDING, True)
    until_quiet(clock)
    job = job_of(record)
    assert (job.status, job.in_doubt, job.sends) == (Status.SYNCED, False, [])
    assert len(master.writes()) == 1
    record.refresh_from_db()
    assert record.external_id and (record.deleted_at is not None) is (what == "delete")


@pytest.mark.parametrize("fault", ["timeout_before", "reset_before"])
def test_an_unknown_outcome_that_never_arrived_is_sent_again(
    master: DemoMaster, record: Record, clock: Clock, fault: str
) -> None:
    edit(record, city="Lund")
    master.faults.add(fault, phase="write", times=1)
    until_quiet(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)
    keys = {request.idempotency_key for request in master.requests(method="PUT")}
    assert len(keys) == 1, "the same key for an unchanged re-send"


def test_an_edit_gets_a_new_idempotency_key(master: DemoMaster, record: Record, clock: Clock) -> None:
    for city in ("Lund", "Turku"):
        edit(record, city=city)
        drain(clock)
        clock.forward(1)
    assert len({write.idempotency_key for write in master.writes()}) == 2


@pytest.mark.parametrize("conditional", [True, False])
def test_a_write_that_arrives_late_is_known_for_ours(master: DemoMaster, clock: Clock, conditional: bool) -> None:
    """The first write is delivered after the second attempt has read back; the newest edit wins all the same."""
    precondition = ACCOUNTS["precondition"] if conditional else {"send": "none"}
    resource = make_resource(master, precondition=precondition, idempotency_header=None)
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.faults.add("timeout_before", phase="write", times=1)
    drain(clock)
    edit(record, city="Turku")
    clock.to(job_of(record).due_at)
    if conditional:
        master.faults.script(["reset_before"], phase="write")
    drain(clock)
    assert master.writes() == [], "without conditional writes nothing is settled yet" if not conditional else ""
    master.edit("accounts", "ACC-0001", city="Lund")  # the late delivery of our own first write
    until_quiet(clock)
    assert job_of(record).status == Status.SYNCED
    assert not Conflict.objects.exists()
    assert master.get("accounts", "ACC-0001")["city"] == "Turku"


def test_without_conditional_writes_a_resend_waits_until_the_first_can_no_longer_arrive(
    master: DemoMaster, clock: Clock
) -> None:
    resource = make_resource(master, precondition={"send": "none"}, idempotency_header=None)
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.faults.add("timeout_before", phase="write", times=1)
    sent_at = clock.now
    drain(clock)
    clock.to(job_of(record).due_at)
    drain(clock)
    job = job_of(record)
    assert (job.status, job.reason, job.attempts) == (Status.RETRY_PENDING, "settling", 1)
    assert job.due_at >= sent_at + timedelta(seconds=30)
    until_quiet(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


def test_without_conditional_writes_the_object_is_compared_before_it_is_written(
    master: DemoMaster, clock: Clock
) -> None:
    resource = make_resource(master, precondition={"send": "none"})
    one, two = take(master, resource, "ACC-0001", "ACC-0002")
    edit(one, city="Lund")
    edit(two, city="Lund")
    master.edit("accounts", "ACC-0002", city="Turku")
    drain(clock)
    assert [job_of(row).status for row in (one, two)] == [Status.SYNCED, Status.VERSION_CONFLICT]
    assert master.get("accounts", "ACC-0002")["city"] == "Turku"


def test_precondition_that_the_probe_found_ignored_is_not_relied_upon(master: DemoMaster, clock: Clock) -> None:
    master.reset((accounts(10, precondition="ignored"),))
    resource = make_resource(master)
    resource.guarantees = {"conditional_writes": "no"}
    resource.save()
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    drain(clock)
    assert Conflict.objects.get().reason == "concurrent_edit"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "wrong_id"}, "wrong_id"),
        ({"kind": "invalid_data", "how": "type", "field": "active"}, "types"),
        ({"kind": "html"}, "not_json"),
        ({"kind": "huge", "mb": 9}, "too_large"),
        ({"kind": "nan"}, ""),
        ({"kind": "duplicate_keys"}, ""),
        ({"kind": "deep"}, ""),
        ({"kind": "nul"}, ""),
        ({"kind": "surrogate"}, ""),
        ({"kind": "utf16"}, ""),
        ({"kind": "gzip_bomb"}, "too_large"),
    ],
    ids=lambda value: value["kind"] + value.get("how", "") if isinstance(value, dict) else "",
)
def test_an_answer_that_cannot_be_trusted_stops_and_says_that_the_write_was_applied(
    master: DemoMaster, record: Record, clock: Clock, fault: dict[str, Any], code: str
) -> None:
    edit(record, city="Lund")
    before = Record.objects.filter(pk=record.pk).values("data", "base", "version").get()
    options = dict(fault)
    master.faults.add(options.pop("kind"), phase="write", times=1, **options)
    drain(clock)
    job = job_of(record)
    assert job.status == Status.VALIDATION_FAILED, (job.status, job.reason, job.detail)
    assert job.detail.startswith("The remote applied it, local not updated: ")
    assert not code or SyncLog.objects.filter(error_code=code).exists()
    assert job.in_doubt and len(master.writes()) == 1
    assert Record.objects.filter(pk=record.pk).values("data", "base", "version").get() == before
    clock.forward(3600)
    assert drain(clock).settled == 0, "never sent again by itself"
    operate.requeue([record.pk], actor=PERSON)
    until_quiet(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1), "read back, not sent twice"


def test_an_answer_that_lacks_what_was_sent_is_read_back_and_then_judged(
    master: DemoMaster, record: Record, clock: Clock
) -> None:
    edit(record, city="Lund")
    master.faults.add("invalid_data", how="missing", field="name")
    drain(clock)
    job = job_of(record)
    assert (job.status, job.reason, job.in_doubt) == (Status.VALIDATION_FAILED, "required", True)
    assert job.detail.startswith("The remote applied it, local not updated: /name")


def test_a_bad_checksum_is_looked_at_twice(master: DemoMaster, clock: Clock) -> None:
    master.reset((accounts(10, checksum_fields=("name", "city")), shifts(1)))
    checksum = {"from": "body", "pointer": "/checksum", "fields": ["/name", "/city"]}
    resource = make_resource(master, checksum=checksum, read_only=["/updated_at", "/checksum"])
    one, two = take(master, resource, "ACC-0001", "ACC-0002")
    edit(one, city="Lund")
    edit(two, city="Lund")
    master.faults.add("bad_checksum", object_id="ACC-0001", times=1)
    master.faults.add("bad_checksum", object_id="ACC-0002")
    drain(clock)
    assert job_of(one).status == Status.SYNCED
    assert (job_of(two).status, job_of(two).reason) == (Status.VALIDATION_FAILED, "checksum")


@pytest.mark.parametrize("answer", ["asked", "current", "empty"])
def test_success_that_changed_nothing_is_found_out(
    master: DemoMaster, record: Record, clock: Clock, answer: str
) -> None:
    edit(record, city="Lund")
    master.faults.add("no_change", answer=answer, phase="write")
    drain(clock)
    job = job_of(record)
    if answer == "asked":  # a lie in every detail but the version cannot be told from the truth
        assert job.status in {Status.SYNCED, Status.ERROR}
    else:
        assert (job.status, job.reason) == (Status.ERROR, "not_applied")
        assert "/city" in job.detail


def test_an_answer_without_a_body_is_read_back(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("no_content", phase="write")
    drain(clock)
    record.refresh_from_db()
    assert (job_of(record).status, record.version, record.base["city"]) == (Status.SYNCED, "2", "Lund")


def test_a_lower_version_in_the_answer_is_looked_at_again(master: DemoMaster, clock: Clock) -> None:
    resource = make_resource(master)
    one, two = take(master, resource, "ACC-0001", "ACC-0002")
    for row in (one, two):
        edit(row, city="Lund")
        drain(clock)
        edit(row, city="Turku")
    master.faults.add("wrong_version", how="lower", object_id="ACC-0001", phase="write", times=1)
    master.faults.add("wrong_version", how="lower", object_id="ACC-0002")
    clock.forward(1)
    drain(clock)
    assert job_of(one).status == Status.SYNCED
    assert Conflict.objects.get().reason == "stale_remote"
    assert job_of(two).status == Status.VERSION_CONFLICT


def test_a_stale_answer_to_our_own_write_is_read_again(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("stale_version", phase="write", times=1)
    drain(clock)
    record.refresh_from_db()
    assert (job_of(record).status, record.version) == (Status.SYNCED, "2")


def test_other_content_under_the_same_version_is_a_conflict(master: DemoMaster, clock: Clock) -> None:
    master.reset((accounts(10, version_style="second"), shifts(1)))
    resource = make_resource(master, precondition={"send": "none"})
    [record] = take(master, resource, "ACC-0001")
    Record.objects.filter(pk=record.pk).update(
        base={**record.base, "notes": "other"}, data={**record.base, "notes": "other"}
    )
    edit(record, city="Lund")
    drain(clock)
    assert Conflict.objects.get().reason == "version_reuse"


def test_a_value_that_the_master_spells_differently_is_the_same_value(master: DemoMaster, clock: Clock) -> None:
    master.reset((accounts(10, spelling="loose"), shifts(1)))
    schema = {**ACCOUNTS["schema"], "properties": {**ACCOUNTS["schema"]["properties"], "active": {}, "notes": {}}}
    resource = make_resource(master, schema=schema, normalize={"/notes": ["empty_null"]}, compared=None)
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    drain(clock)
    assert job_of(record).status == Status.SYNCED, job_of(record).detail


def test_a_field_that_comes_back_different_is_for_a_person(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("latency", latency_ms=200, phase="detail")
    master.faults.add("no_content", phase="write", times=1)
    seen = []

    def keep_going() -> bool:
        if not seen and master.writes():
            seen.append(master.edit("accounts", "ACC-0001", city="Turku"))
        return True

    drain(clock, keep_going=keep_going)
    assert (job_of(record).status, Conflict.objects.get().reason) == (Status.VERSION_CONFLICT, "concurrent_edit")
    assert master.get("accounts", "ACC-0001")["city"] == "Turku"


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


# --- ambiguous creates


def blind(master: DemoMaster) -> Resource:
    """Return a resource with nothing to settle an ambiguous create by."""
    return make_resource(master, idempotency_header=None)


def test_an_ambiguous_create_with_nothing_to_settle_it_by_asks_a_person(master: DemoMaster, clock: Clock) -> None:
    record = create(blind(master), NEW_ACCOUNT)
    master.faults.add("reset_after", phase="create", times=1)
    until_quiet(clock)
    job = job_of(record)
    assert (job.status, job.reason, job.in_doubt) == (Status.ERROR, "create_unknown", True)
    assert len(master.writes()) == 1
    edit(record, city="Lund")
    until_quiet(clock)
    assert job_of(record).reason == "create_unknown", "an edit does not make it less ambiguous"
    with pytest.raises(operate.LinkRefused):
        operate.link(record.pk, " ", actor=PERSON)
    operate.link(record.pk, "ACC-0011", actor=PERSON)
    until_quiet(clock)
    record.refresh_from_db()
    assert (job_of(record).status, record.external_id) == (Status.SYNCED, "ACC-0011")
    assert [write.method for write in master.writes()] == ["POST", "PUT"]
    assert master.get("accounts", "ACC-0011")["city"] == "Lund"


def test_an_ambiguous_create_can_be_sent_again_on_a_persons_word(master: DemoMaster, clock: Clock) -> None:
    record = create(blind(master), NEW_ACCOUNT)
    master.faults.add("reset_before", phase="create", times=1)
    until_quiet(clock)
    assert job_of(record).reason == "create_unknown"
    operate.requeue([record.pk], actor=PERSON, forget_sends=True)
    until_quiet(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


def test_only_an_ambiguous_create_can_be_forgotten(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    master.faults.add("html", phase="write", times=1)
    drain(clock)
    assert job_of(record).status == Status.VALIDATION_FAILED
    done = operate.requeue([record.pk], actor=PERSON, forget_sends=True)
    assert done.moved == () and job_of(record).in_doubt


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("kind", ["key", "lookup"])
def test_an_ambiguous_create_that_was_edited_meanwhile_makes_one_object(
    master: DemoMaster, clock: Clock, kind: str, arrived: bool
) -> None:
    """Also when a worker dies before it sends: what it claimed but never sent must not be taken for sent."""
    resource = make_resource(master, ACCOUNTS if kind == "key" else SHIFTS)
    record = create(resource, NEW_ACCOUNT if kind == "key" else NEW_SHIFT)
    master.faults.add("reset_after" if arrived else "reset_before", phase="create", times=1)
    drain(clock)
    edit(record, **({"email": "other@example.org"} if kind == "key" else {"code": "NEW-2"}))
    clock.to(job_of(record).due_at)
    die_over(record, clock)
    until_quiet(clock)
    record.refresh_from_db()
    assert job_of(record).status == Status.SYNCED
    held = master.get("accounts" if kind == "key" else "shifts", record.external_id)
    assert (held.get("email"), held.get("code")) in {("other@example.org", None), (None, "NEW-2")}
    assert len(master.store.listed("accounts" if kind == "key" else "shifts")) == 11


def die_over(record: Record, clock: Clock) -> None:
    """Let a worker claim the record and die before it sends anything."""
    from syncportal.sync import transitions

    claims = transitions.claim_many(
        job_of(record).remote_id, limit=9, holder="dead", now=clock.now, lease_s=90, record_ids=[record.pk]
    )
    assert len(claims) == 1
    clock.forward(91)
    assert len(transitions.rescue(now=clock.now)) == 1


@pytest.mark.parametrize("write_answer", ["empty", "stub"])
@pytest.mark.parametrize("fault", ["timeout_before", "status", "html"])
def test_a_create_whose_check_afterwards_fails_is_not_sent_again(
    master: DemoMaster, clock: Clock, write_answer: str, fault: str
) -> None:
    master.reset((accounts(10), shifts(10, write_answer=write_answer)))
    record = create(make_resource(master, SHIFTS), NEW_SHIFT)
    settings = {"status": 500} if fault == "status" else {}
    master.faults.add(fault, phase="read", times=1, **settings)
    drain(clock)
    assert job_of(record).in_doubt
    if job_of(record).status == Status.VALIDATION_FAILED:
        operate.requeue([record.pk], actor=PERSON)
    until_quiet(clock)
    assert job_of(record).status == Status.SYNCED
    assert len(master.writes()) == 1


def test_an_id_that_the_answer_told_is_kept_even_if_the_check_fails(master: DemoMaster, clock: Clock) -> None:
    master.reset((accounts(10, write_answer="stub"), shifts(1)))
    record = create(blind(master), NEW_ACCOUNT)
    master.faults.add("status", status=500, phase="detail", times=1)
    until_quiet(clock)
    record.refresh_from_db()
    assert (job_of(record).status, record.external_id, len(master.writes())) == (Status.SYNCED, "ACC-0011", 1)


def test_deleting_an_ambiguous_create_settles_it_first(master: DemoMaster, resource: Resource, clock: Clock) -> None:
    record = create(resource, NEW_ACCOUNT)
    master.faults.add("reset_after", phase="create", times=1)
    drain(clock)
    delete(record)
    until_quiet(clock)
    record.refresh_from_db()
    assert record.deleted_at is not None
    assert [write.method for write in master.writes()] == ["POST", "DELETE"]


def test_deleting_an_ambiguous_create_under_our_own_id_waits_until_it_can_no_longer_arrive(
    master: DemoMaster, clock: Clock
) -> None:
    own = {"method": "PUT", "path": "/accounts/{0}", "id": "client"}
    record = create(make_resource(master, create=own, idempotency_header=None), {"id": "MINE-1", **NEW_ACCOUNT})
    sent_at = clock.now
    master.faults.add("timeout_before", phase="write", times=1)
    drain(clock)
    delete(record)
    while job_of(record).status in {Status.PENDING, Status.RETRY_PENDING} and clock.now < sent_at + timedelta(
        seconds=29
    ):
        clock.to(min(job_of(record).due_at, sent_at + timedelta(seconds=29)))
        drain(clock)
    assert job_of(record).status == Status.RETRY_PENDING, "a late delivery would make an object that nobody knows"
    master.create("accounts", {"id": "MINE-1", **NEW_ACCOUNT})
    until_quiet(clock)
    record.refresh_from_db()
    assert record.deleted_at is not None
    assert master.get("accounts", "MINE-1") is None


def test_a_dead_workers_job_is_read_back_before_it_is_sent(master: DemoMaster, record: Record, clock: Clock) -> None:
    edit(record, city="Lund")
    die_over(record, clock)
    assert (job_of(record).status, job_of(record).in_doubt) == (Status.RETRY_PENDING, True)
    drain(clock)
    assert [request.method for request in master.requests()] == ["GET", "PUT"]
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


def test_a_stale_holders_result_is_dropped_and_kept_in_the_log(
    master: DemoMaster, record: Record, clock: Clock
) -> None:
    from syncportal.sync import transitions

    edit(record, city="Lund")
    master.faults.add("latency", latency_ms=150, times=1)
    done = []

    def keep_going() -> bool:
        if not done and master.requests():
            transitions.rescue(now=clock.now + timedelta(hours=1))
            done.append(True)
        return len(done) == 0

    drain(clock, keep_going=keep_going)
    job = job_of(record)
    assert (job.status, job.reason) == (Status.RETRY_PENDING, "worker_died")
    assert SyncLog.objects.get().outcome == "discarded"
    clock.forward(7200)
    drain(clock)
    assert (job_of(record).status, len(master.writes())) == (Status.SYNCED, 1)


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


def test_a_read_back_that_cannot_be_trusted_does_not_claim_that_nothing_was_sent(
    master: DemoMaster, record: Record, clock: Clock
) -> None:
    edit(record, city="Lund")
    master.faults.add("reset_after", phase="update", times=1)
    drain(clock)
    clock.to(job_of(record).due_at)
    master.faults.add("html", phase="detail")
    drain(clock)
    job = job_of(record)
    assert (job.status, job.in_doubt) == (Status.VALIDATION_FAILED, True)
    assert job.detail.startswith("It is still unknown whether an earlier write arrived")
