"""Pushes whose answer cannot be true, or shows something else than was sent."""

from typing import Any

import pytest

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.sync import operate
from syncportal.sync.models import Conflict, Record, SyncLog
from syncportal.sync.states import Status
from tests.factories import ACCOUNTS, PERSON, Clock, drain, edit, job_of, make_resource, take
from tests.sync.scene import until_quiet

pytestmark = pytest.mark.django_db(transaction=True)


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
        ({"kind": "gzip_bomb", "mb": 34}, "too_large"),
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
