"""From a save to the master and back: the real drain, a real server, the write log as the truth."""

import pytest

from syncportal.demo import DemoMaster
from syncportal.remote.models import Resource
from syncportal.sync import local
from syncportal.sync.models import Conflict, Event, Record, SyncLog
from syncportal.sync.states import Intent, Status
from tests.factories import (
    ACCOUNTS,
    NEW_ACCOUNT,
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


@pytest.mark.db
def test_a_save_is_durable_at_once_and_then_reaches_the_master(master: DemoMaster, record: Record) -> None:
    saved = edit(record, city="Lund")
    assert saved.changed and saved.revision == 2
    job = job_of(record)
    assert (job.status, job.attempts) == (Status.PENDING, 0)
    assert master.requests() == [], "nobody waited for the remote"
    assert drain().by_verb == {"complete": 1}
    record.refresh_from_db()
    assert master.get("accounts", "ACC-0001")["city"] == "Lund"
    assert (job_of(record).status, record.version, record.data) == (Status.SYNCED, "2", record.base)
    [write] = master.writes()
    assert write.if_match == '"1"'
    log = SyncLog.objects.get()
    assert (log.method, log.http_status, log.outcome, log.final) == ("PUT", 200, "complete", True)
    assert [verdict["stage"] for verdict in log.verdicts] == [
        "http_status", "json", "required", "types", "rules", "version", "checksum",
    ]  # fmt: skip
    kinds = list(Event.objects.order_by("id").values_list("kind", flat=True))
    assert kinds == ["record.edited", "sync.succeeded"]


def test_a_replacing_master_is_sent_the_whole_object_less_what_only_it_sets(master: DemoMaster, record: Record) -> None:
    edit(record, city=None, notes="new")
    drain()
    after = master.writes()[0].after
    assert "city" not in after and after["notes"] == "new" and after["name"] == record.data["name"]
    assert "updated_at" not in SyncLog.objects.get().request_body


def test_a_merging_master_is_sent_only_what_differs(master: DemoMaster) -> None:
    [record] = take(master, make_resource(master, SHIFTS), "SH-0001")
    edit(record, seats=9, worker=None)
    drain()
    assert SyncLog.objects.get().request_body.replace(" ", "") == '{"seats":9,"worker":null}'
    assert job_of(record).status == Status.SYNCED
    assert "worker" not in master.get("shifts", "SH-0001")


def test_saving_what_the_record_already_says_changes_nothing(record: Record) -> None:
    saved = edit(record, name=record.data["name"])
    assert not saved.changed and job_of(record).status == Status.SYNCED
    assert not Event.objects.exists()


def test_an_edit_that_does_not_fit_is_refused_with_every_reason_and_never_leaves(
    master: DemoMaster, record: Record
) -> None:
    with pytest.raises(local.InvalidEdit) as refused:
        edit(record, tier="platinum", credit=-1)
    assert [problem.pointer for problem in refused.value.problems] == ["/credit", "/tier"]
    for changes in ({"id": "ACC-9"}, {"version": 7}, {"updated_at": "now"}):
        with pytest.raises(local.InvalidEdit):
            edit(record, **changes)
    drain()
    record.refresh_from_db()
    assert (record.revision, master.requests()) == (1, [])


def test_an_edit_of_an_old_view_is_refused_and_shows_the_present_revision(record: Record) -> None:
    edit(record, city="Lund")
    with pytest.raises(local.StaleRevision) as refused:
        local.save(local.Edit(record.pk, {"city": "Turku"}, revision=1), actor=PERSON)
    assert refused.value.current == 2


def test_edits_coalesce_and_only_the_newest_content_is_sent(master: DemoMaster, record: Record) -> None:
    for city in ("Lund", "Turku", "Oporto"):
        edit(record, city=city)
    drain()
    assert [write.after["city"] for write in master.writes()] == ["Oporto"]


def test_content_that_goes_back_before_it_was_sent_is_skipped(master: DemoMaster, record: Record) -> None:
    city = record.data["city"]
    edit(record, city="Lund")
    edit(record, city=city)
    assert drain().by_verb == {"skip": 1}
    assert (job_of(record).status, master.writes()) == (Status.SKIPPED, [])


@pytest.mark.db
def test_an_edit_during_a_push_is_pushed_next(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    report = drain_with(lambda: edit(record, city="Turku", notes="second"), master)
    assert report.by_verb == {"complete": 2}
    record.refresh_from_db()
    assert [write.after["city"] for write in master.writes()] == ["Lund", "Turku"]
    assert (job_of(record).status, record.data["notes"]) == (Status.SYNCED, "second")


def drain_with(meanwhile, master: DemoMaster, *, clock: Clock | None = None):
    """Drain while `meanwhile` happens once, after the first claim and before its outcome is stored."""
    master.faults.add("latency", latency_ms=150, times=1)
    pending = [meanwhile]

    def keep_going() -> bool:
        if pending and master.requests():
            pending.pop()()
        return True

    return drain(clock, keep_going=keep_going)


def test_an_edit_during_a_push_that_fails_is_what_the_next_attempt_sends(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=500, phase="write", times=1)
    clock = Clock()
    clock.forward(0.001)
    drain_with(lambda: edit(record, city="Turku"), master, clock=clock)
    job = job_of(record)
    assert (job.status, job.attempts, job.in_doubt) == (Status.RETRY_PENDING, 1, True)
    clock.to(job.due_at)
    drain(clock)
    assert [write.after["city"] for write in master.writes()] == ["Turku"]
    assert job_of(record).status == Status.SYNCED


def test_an_edit_during_a_push_that_is_refused_is_tried_on_its_own(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.faults.add("status", status=422, phase="write", times=1)
    drain_with(lambda: edit(record, city="Turku"), master)
    assert job_of(record).status == Status.SYNCED
    assert [write.after["city"] for write in master.writes()] == ["Turku"]


def test_an_object_with_the_masters_id_is_created_once(master: DemoMaster, resource: Resource) -> None:
    record = create(resource, NEW_ACCOUNT)
    assert (record.external_id, record.intent) == (None, Intent.CREATE)
    drain()
    record.refresh_from_db()
    assert (record.external_id, record.intent, record.version) == ("ACC-0011", Intent.UPDATE, "1")
    assert job_of(record).status == Status.SYNCED
    [write] = master.writes()
    assert write.idempotency_key


def test_an_object_with_our_own_id_is_created_and_never_overwrites(master: DemoMaster) -> None:
    own = make_resource(
        master, create={"method": "PUT", "path": "/accounts/{0}", "id": "client"}, idempotency_header=None
    )
    record = create(own, {"id": "MINE-1", **NEW_ACCOUNT})
    taken = create(own, {"id": "ACC-0003", **NEW_ACCOUNT})
    drain()
    assert master.get("accounts", "MINE-1")["name"] == "Fresh"
    assert (job_of(record).status, job_of(taken).status) == (Status.SYNCED, Status.VERSION_CONFLICT)
    assert [write.object_id for write in master.writes()] == ["MINE-1"]


def test_our_own_id_on_a_master_without_preconditions_is_looked_at_first(master: DemoMaster) -> None:
    own = make_resource(
        master, precondition={"send": "none"}, idempotency_header=None,
        create={"method": "POST", "path": "/accounts", "id": "client"},
    )  # fmt: skip
    record = create(own, {"id": "MINE-1", **NEW_ACCOUNT})
    taken = create(own, {"id": "ACC-0003", **NEW_ACCOUNT})
    drain()
    assert (job_of(record).status, job_of(taken).status) == (Status.SYNCED, Status.VERSION_CONFLICT)
    assert [write.object_id for write in master.writes()] == ["MINE-1"]


def test_two_records_cannot_stand_for_one_id(master: DemoMaster, record: Record) -> None:
    own = make_resource(master, create={"method": "PUT", "path": "/accounts/{0}", "id": "client"})
    create(own, {"id": "MINE-1", **NEW_ACCOUNT})
    with pytest.raises(local.InvalidEdit):
        create(own, {"id": "MINE-1", **NEW_ACCOUNT})


def test_a_pulled_twin_gives_way_to_the_record_whose_create_made_the_object(
    master: DemoMaster, resource: Resource
) -> None:
    record = create(resource, NEW_ACCOUNT)
    master.faults.add("reset_after", phase="create", times=1)
    clock = Clock()
    clock.forward(1)
    drain(clock)
    take(master, resource, "ACC-0011")
    clock.to(job_of(record).due_at)
    drain(clock)
    assert [row.pk for row in Record.objects.filter(resource=resource)] == [record.pk]
    assert job_of(record).status == Status.SYNCED
    assert len(master.writes()) == 1


@pytest.mark.db
def test_a_deletion_is_sent_against_the_version_we_know_and_hides_the_record(
    master: DemoMaster, record: Record
) -> None:
    delete(record)
    assert drain().by_verb == {"complete": 1}
    record.refresh_from_db()
    assert master.get("accounts", "ACC-0001") is None
    assert record.deleted_at is not None and job_of(record).status == Status.SYNCED
    assert not Record.objects.present().filter(pk=record.pk).exists()
    with pytest.raises(local.RecordGone):
        edit(record, city="Lund")


def test_a_deletion_of_what_is_gone_already_is_done(master: DemoMaster, record: Record) -> None:
    master.delete("accounts", "ACC-0001")
    delete(record)
    drain()
    record.refresh_from_db()
    assert record.deleted_at is not None


def test_a_record_that_was_never_sent_is_deleted_without_a_call(master: DemoMaster, resource: Resource) -> None:
    record = create(resource, NEW_ACCOUNT)
    delete(record)
    drain()
    record.refresh_from_db()
    assert record.deleted_at is not None and job_of(record).status == Status.SYNCED
    assert master.requests() == []


def test_a_deletion_that_is_taken_back_in_time_never_happens(master: DemoMaster, record: Record) -> None:
    delete(record)
    edit(record, city="Lund")
    drain()
    assert master.get("accounts", "ACC-0001")["city"] == "Lund"


@pytest.mark.parametrize("kind", ["accounts", "shifts"])
def test_a_deletion_that_is_taken_back_too_late_makes_the_object_anew(master: DemoMaster, kind: str) -> None:
    resource = make_resource(master, ACCOUNTS if kind == "accounts" else SHIFTS)
    [record] = take(master, resource, "ACC-0002" if kind == "accounts" else "SH-0002")
    delete(record)
    drain_with(lambda: edit(record, **({"city": "Lund"} if kind == "accounts" else {"seats": 9})), master)
    record.refresh_from_db()
    job = job_of(record)
    assert (job.status, job.reason, record.deleted_at) == (Status.SYNCED, "", None)
    assert record.external_id not in (None, "ACC-0002", "SH-0002")
    assert master.get(kind, record.external_id) is not None


def test_a_create_that_is_deleted_while_it_is_sent_is_deleted_there_too(master: DemoMaster, resource: Resource) -> None:
    record = create(resource, NEW_ACCOUNT)
    drain_with(lambda: delete(record), master)
    record.refresh_from_db()
    assert [write.method for write in master.writes()] == ["POST", "DELETE"]
    assert record.deleted_at is not None


def test_ten_thousand_edits_would_be_few_queries(
    master: DemoMaster, resource: Resource, django_assert_max_num_queries
) -> None:
    rows = take(master, resource, *(f"ACC-{n:04d}" for n in range(1, 11)))
    with django_assert_max_num_queries(12):
        local.save_many([local.Edit(row.pk, {"city": "Lund"}) for row in rows], actor=PERSON)


def test_a_batch_is_saved_whole_or_not_at_all(record: Record, master: DemoMaster, resource: Resource) -> None:
    [other] = take(master, resource, "ACC-0002")
    with pytest.raises(local.InvalidEdit) as refused:
        local.save_many([local.Edit(record.pk, {"city": "Lund"}), local.Edit(other.pk, {"tier": "lead"})], actor=PERSON)
    assert refused.value.record_id == other.pk
    record.refresh_from_db()
    assert record.revision == 1


def test_an_edit_while_a_person_has_to_decide_only_renews_the_local_side(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    drain()
    assert job_of(record).status == Status.VERSION_CONFLICT
    saved = edit(record, city="Zagreb")
    conflict = Conflict.objects.get()
    assert saved.conflict_id == conflict.pk
    assert (conflict.local["city"], conflict.revision, conflict.fields) == ("Zagreb", saved.revision, ["/city"])
    assert job_of(record).status == Status.VERSION_CONFLICT


def test_deleting_during_a_conflict_asks_about_the_deletion(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    drain()
    delete(record)
    conflict = Conflict.objects.get()
    assert (conflict.reason, job_of(record).reason) == ("deleted_local", "deleted_local")
    edit(record, city="Zagreb")
    conflict.refresh_from_db()
    assert conflict.reason == "concurrent_edit"


def test_deleting_what_is_gone_at_the_remote_accepts_that(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.delete("accounts", "ACC-0001")
    drain()
    assert Conflict.objects.get().reason == "deleted_remote"
    delete(record)
    record.refresh_from_db()
    assert (job_of(record).status, Conflict.objects.get().state) == (Status.SYNCED, "resolved")
    assert record.deleted_at is not None


def test_no_call_leaves_while_a_transaction_is_open(master: DemoMaster, record: Record) -> None:
    from django.db import transaction

    from syncportal.kernel.tx import OpenTransaction

    edit(record, city="Lund")
    with transaction.atomic(), pytest.raises(OpenTransaction):
        drain()
    assert master.requests() == []


def test_a_resource_that_cannot_be_called_fails_its_jobs_with_what_to_do(master: DemoMaster) -> None:
    auth = {"kind": "basic", "credential": "env:SYNCPORTAL_TEST_NOT_SET"}
    resource = make_resource(make_remote(master.api_url, auth=auth))
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    drain()
    job = job_of(record)
    assert (job.status, job.reason, job.attempts) == (Status.ERROR, "misconfigured", 0)
    assert "SYNCPORTAL_TEST_NOT_SET" in job.detail
