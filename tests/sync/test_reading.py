"""Reading the master again: refresh, pull, the dirty scan; and what a person decides about a conflict."""

from contextlib import suppress
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.kernel.clock import db_now
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Resource
from syncportal.sync import operate, pull, refresh, resolve, sweep, transitions
from syncportal.sync.models import Conflict, Event, Pull, Record, SyncJob
from syncportal.sync.resolve import Action, Decision
from syncportal.sync.states import Intent, Status
from tests.factories import (
    NEW_ACCOUNT,
    PERSON,
    Clock,
    create,
    delete,
    drain,
    edit,
    job_of,
    make_resource,
    take,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def resource(master: DemoMaster) -> Resource:
    return make_resource(master)


@pytest.fixture
def record(master: DemoMaster, resource: Resource) -> Record:
    return take(master, resource, "ACC-0001")[0]


def read(record: Record) -> str:
    return refresh.refresh(record.pk, resource=Resource.objects.get(pk=record.resource_id), actor=PERSON).outcome.value


# --- refresh


def test_a_refresh_takes_what_the_remote_changed_and_keeps_what_is_only_here(
    master: DemoMaster, record: Record
) -> None:
    assert read(record) == "unchanged"
    master.edit("accounts", "ACC-0001", notes="theirs")
    edit(record, city="Lund")
    assert read(record) == "updated"
    record.refresh_from_db()
    assert (record.data["notes"], record.data["city"], record.version) == ("theirs", "Lund", "2")
    assert job_of(record).status == Status.PENDING
    drain()
    assert master.get("accounts", "ACC-0001")["city"] == "Lund"


@pytest.mark.parametrize("status", [Status.ERROR, Status.DEAD_LETTER, Status.VALIDATION_FAILED, Status.SYNCED])
def test_a_refresh_keeps_the_status(master: DemoMaster, record: Record, status: str) -> None:
    SyncJob.objects.filter(pk=record.pk).update(status=status)
    master.edit("accounts", "ACC-0001", notes="theirs")
    assert read(record) == "updated"
    assert job_of(record).status == status


def test_a_refresh_of_both_sides_changed_asks_a_person(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    assert read(record) == "conflict"
    assert (job_of(record).status, Conflict.objects.get().fields) == (Status.VERSION_CONFLICT, ["/city"])
    master.edit("accounts", "ACC-0001", city="Oulu")
    assert read(record) == "conflict"
    assert Conflict.objects.get().remote["city"] == "Oulu", "the remote side is renewed"


def test_a_refresh_settles_what_was_in_doubt(master: DemoMaster, record: Record) -> None:
    edit(record, city="Lund")
    master.faults.add("html", phase="write", times=1)
    drain()
    assert (job_of(record).status, job_of(record).in_doubt) == (Status.VALIDATION_FAILED, True)
    assert read(record) == "updated"
    record.refresh_from_db()
    assert (job_of(record).in_doubt, record.base["city"]) == (False, "Lund")


def test_running_and_held_records_are_busy(master: DemoMaster, record: Record) -> None:
    transitions.hold([record.pk], holder="group 1", now=timezone.now())
    assert read(record) == "busy"
    transitions.release([record.pk], holder="group 1", now=timezone.now())
    edit(record, city="Lund")
    drain(keep_going=lambda: False)
    transitions.claim_many(job_of(record).remote_id, limit=1, holder="h", now=timezone.now(), lease_s=90)
    assert read(record) == "busy"


def test_an_object_that_is_gone_is_confirmed_before_a_person_is_asked(master: DemoMaster, record: Record) -> None:
    master.faults.add("status", status=404, phase="detail", times=1)
    assert read(record) == "unchanged"
    master.delete("accounts", "ACC-0001")
    assert read(record) == "conflict"
    assert Conflict.objects.get().reason == "deleted_remote"


def test_an_object_that_we_want_gone_or_never_sent_is_no_conflict_when_it_is_missing(
    master: DemoMaster, record: Record
) -> None:
    own = make_resource(master, create={"method": "PUT", "path": "/accounts/{0}", "id": "client"})
    fresh = create(own, {"id": "MINE-1", **NEW_ACCOUNT})
    delete(record)
    master.delete("accounts", "ACC-0001")
    assert [read(record), read(fresh)] == ["unchanged", "unchanged"]
    drain()
    record.refresh_from_db()
    assert record.deleted_at is not None and not Conflict.objects.exists()
    assert read(record) == "unchanged", "deleted on both sides"
    assert master.get("accounts", "MINE-1") is not None


def test_an_older_version_is_read_twice_and_then_shown(master: DemoMaster, record: Record) -> None:
    master.edit("accounts", "ACC-0001", notes="one")
    assert read(record) == "updated"
    master.faults.add("stale_version", times=1)
    assert read(record) == "unchanged"
    master.faults.add("stale_version")
    assert read(record) == "conflict"
    assert Conflict.objects.get().reason == "stale_remote"


@pytest.mark.parametrize("fault", [{"kind": "invalid_data", "field": "active"}, {"kind": "html"}, {"kind": "wrong_id"}])
def test_an_answer_that_cannot_be_trusted_is_not_applied(master: DemoMaster, record: Record, fault: dict) -> None:
    master.edit("accounts", "ACC-0001", notes="one")
    options = dict(fault)
    master.faults.add(options.pop("kind"), **options)
    assert read(record) in {"invalid", "failed"}
    record.refresh_from_db()
    assert record.version == "1"


def test_wishes_to_read_again_are_worked_off_in_the_background(
    master: DemoMaster, resource: Resource, record: Record
) -> None:
    [other] = take(master, resource, "ACC-0002")
    transitions.hold([other.pk], holder="group 1", now=timezone.now())
    master.edit("accounts", "ACC-0001", notes="theirs")
    done = operate.request_refresh([record.pk, other.pk], actor=PERSON)
    assert done.moved == (record.pk,)
    assert refresh.refresh_requested() == 1
    assert refresh.refresh_requested() == 0
    record.refresh_from_db()
    assert record.data["notes"] == "theirs"


# --- pull


def pull_all(resource: Resource) -> Any:
    return pull.run(pull.start(resource).pk)


def counts(done: Any) -> dict[str, int]:
    names = ("seen", "created", "updated", "unchanged", "busy", "invalid")
    return {name: getattr(done, name) for name in names if getattr(done, name)}


def test_a_pull_makes_records_and_pulling_again_changes_nothing(master: DemoMaster, resource: Resource) -> None:
    master.reset((accounts(120), shifts(1)))
    done = pull_all(resource)
    assert (done.state, counts(done)) == ("done", {"seen": 120, "created": 120})
    assert SyncJob.objects.filter(status=Status.SYNCED).count() == 120
    assert counts(pull_all(resource)) == {"seen": 120, "unchanged": 120}
    assert master.writes() == []
    assert sweep.sweep().dirty == 0, "what was pulled is not dirty"


def test_a_pull_takes_changes_and_leaves_busy_records_alone(master: DemoMaster, resource: Resource) -> None:
    pull_all(resource)
    one, two, three = (Record.objects.get(external_id=f"ACC-000{n}") for n in (1, 2, 3))
    for name in ("ACC-0001", "ACC-0002", "ACC-0003"):
        master.edit("accounts", name, notes="theirs")
    edit(two, city="Lund")
    transitions.hold([three.pk], holder="group 1", now=timezone.now())
    assert counts(pull_all(resource)) == {"seen": 10, "updated": 1, "unchanged": 7, "busy": 2}
    one.refresh_from_db()
    assert (one.data["notes"], one.version, job_of(one).status) == ("theirs", "2", Status.SYNCED)
    assert Event.objects.filter(kind="record.pulled").count() == 1


def test_a_pull_counts_invalid_objects_and_goes_on(master: DemoMaster, resource: Resource) -> None:
    rows = [dict(row) for row in accounts(4).rows]
    del rows[1]["email"]
    master.reset((accounts(0, rows=tuple(rows)), shifts(1)))
    assert counts(pull_all(resource)) == {"seen": 4, "created": 3, "invalid": 1}


@pytest.mark.parametrize("fault", ["page_loop", "page_repeat", "page_overlap"])
def test_a_list_that_repeats_itself_ends_and_doubles_nothing(
    master: DemoMaster, resource: Resource, fault: str
) -> None:
    from syncportal.remote.errors import RemoteError

    master.reset((accounts(120), shifts(1)))
    master.faults.add(fault, phase="list")
    started = pull.start(resource)
    with suppress(RemoteError):
        pull.run(started.pk)
    started.refresh_from_db()
    assert started.state in {"done", "failed"} and (started.state == "done" or started.problem)
    assert pull.run_waiting(seconds=1) == 0, "not again by itself"
    ids = list(Record.objects.filter(resource=resource).values_list("external_id", flat=True))
    assert len(ids) == len(set(ids)) >= 50


def test_a_pull_from_a_remote_that_is_down_pauses_between_tries(master: DemoMaster, resource: Resource) -> None:
    pull.start(resource)
    master.faults.add("status", status=500)
    assert [pull.run_waiting(seconds=1) for _ in range(3)] == [0, 0, 0]
    assert len(master.requests()) == 1


def test_a_pull_goes_on_where_it_stopped(master: DemoMaster, resource: Resource) -> None:
    from syncportal.remote.errors import RemoteError

    master.reset((accounts(120), shifts(1)))
    master.faults.add("status", status=500, phase="list", skip=1, times=1)
    started = pull.start(resource)
    with pytest.raises(RemoteError):
        pull.run(started.pk)
    started.refresh_from_db()
    assert (started.state, started.created) == ("running", 50)
    assert pull.start(resource).pk == started.pk
    done = pull.run(started.pk)
    assert (done.state, done.created) == ("done", 120)


def test_a_pull_revives_a_deleted_record_and_deletes_none(master: DemoMaster, resource: Resource) -> None:
    pull_all(resource)
    gone, kept = (Record.objects.get(external_id=f"ACC-000{n}") for n in (1, 2))
    delete(gone)
    drain()
    master.delete("accounts", "ACC-0002")
    master.create("accounts", {"id": "ACC-0001", **NEW_ACCOUNT})
    pull_all(resource)
    gone.refresh_from_db()
    assert (gone.deleted_at, gone.data["name"], job_of(gone).status) == (None, "Fresh", Status.SYNCED)
    kept.refresh_from_db()
    assert kept.deleted_at is None


def test_an_older_row_in_a_list_is_read_itself_before_anybody_is_asked(
    master: DemoMaster, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_all(resource)
    record = Record.objects.get(external_id="ACC-0001")
    lagging, _ = pull._page(client_for(resource), Pull(resource=resource))
    edit(record, city="Lund")
    drain()
    monkeypatch.setattr(pull, "_page", lambda *args: (lagging, db_now()))
    assert counts(pull_all(resource)) == {"seen": 10, "unchanged": 9, "busy": 1}
    assert refresh.refresh_requested() == 1
    assert not Conflict.objects.exists()
    assert (job_of(record).status, job_of(record).refresh_requested_at) == (Status.SYNCED, None)


def test_a_record_that_was_read_while_the_page_was_on_its_way_is_left_alone(
    master: DemoMaster, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_all(resource)
    record = Record.objects.get(external_id="ACC-0001")
    real = pull._page

    def slow_page(*args: Any) -> Any:
        page = real(*args)
        master.edit("accounts", "ACC-0001", notes="newer than the page")
        assert read(record) == "updated"
        return page

    monkeypatch.setattr(pull, "_page", slow_page)
    done = pull_all(resource)
    assert done.busy == 1 and not Conflict.objects.exists()
    record.refresh_from_db()
    assert record.data["notes"] == "newer than the page"


def test_a_tombstone_in_a_list_makes_no_record(master: DemoMaster) -> None:
    master.reset((accounts(5, tombstone=("deleted", True), list_tombstones=True), shifts(1)))
    resource = make_resource(master, tombstone={"/deleted": True})
    master.delete("accounts", "ACC-0001")
    assert counts(pull_all(resource))["created"] == 4


# --- changes that bypass saving


@pytest.mark.db
def test_a_change_that_bypassed_saving_is_found_and_pushed(master: DemoMaster, record: Record) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "UPDATE sync_record SET data = jsonb_set(data, '{city}', '\"Lund\"') WHERE id = %s", [record.pk]
            )
        else:
            cursor.execute("UPDATE sync_record SET data = json_set(data, '$.city', 'Lund') WHERE id = %s", [record.pk])
    assert sweep.sweep().dirty == 1
    assert sweep.sweep().dirty == 0
    record.refresh_from_db()
    assert (record.revision, job_of(record).status) == (2, Status.PENDING)
    drain()
    assert master.get("accounts", "ACC-0001")["city"] == "Lund"
    assert sweep.sweep().dirty == 0
    assert Event.objects.filter(kind="record.found_dirty").count() == 1


@pytest.mark.db
def test_no_writer_of_records_leaves_a_record_dirty(master: DemoMaster, resource: Resource) -> None:
    pull_all(resource)
    create(resource, {**NEW_ACCOUNT, "name": 'Åsa \u2028 "quoted" \\ 😀'})
    edit(Record.objects.get(external_id="ACC-0002"), city="Łódź")
    master.edit("accounts", "ACC-0003", notes="théirs")
    drain()
    pull_all(resource)
    read(Record.objects.get(external_id="ACC-0003"))
    assert sweep.sweep().dirty == 0


def test_a_change_that_bypassed_saving_during_a_conflict_is_seen_by_whoever_decides(
    master: DemoMaster, record: Record
) -> None:
    conflict = disputed(master, record)
    Record.objects.filter(pk=record.pk).update(data={**record.base, "city": "Oulu"})
    assert sweep.sweep().dirty == 1
    conflict.refresh_from_db()
    record.refresh_from_db()
    assert (conflict.local["city"], conflict.revision) == ("Oulu", record.revision)
    assert job_of(record).status == Status.VERSION_CONFLICT


# --- a person decides


def disputed(master: DemoMaster, record: Record) -> Conflict:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku", notes="theirs")
    drain()
    return Conflict.objects.get(record=record)


def decide(conflict: Conflict, action: Action, **options: Any) -> str:
    conflict.refresh_from_db()
    given = {"revision": conflict.revision, "remote_version": conflict.remote_version, **options}
    return resolve.resolve(conflict.pk, Decision(action, **given), actor=PERSON)


def test_use_remote_takes_it_over_and_sends_nothing(master: DemoMaster, record: Record) -> None:
    conflict = disputed(master, record)
    assert decide(conflict, Action.USE_REMOTE) == Status.SYNCED
    record.refresh_from_db()
    assert (record.data, record.base, record.version) == (conflict.remote, conflict.remote, "2")
    drain()
    assert len(master.writes()) == 1
    conflict.refresh_from_db()
    assert (conflict.state, conflict.local["city"]) == ("resolved", "Lund"), "the rejected values are kept"


def test_push_local_sends_ours_against_the_version_that_was_seen(master: DemoMaster, record: Record) -> None:
    assert decide(disputed(master, record), Action.PUSH_LOCAL) == Status.PENDING
    drain()
    held = master.get("accounts", "ACC-0001")
    assert (held["city"], job_of(record).status) == ("Lund", Status.SYNCED)
    assert master.writes()[-1].if_match == '"2"'


def test_push_local_over_a_newer_change_is_a_new_conflict(master: DemoMaster, record: Record) -> None:
    decide(disputed(master, record), Action.PUSH_LOCAL)
    master.edit("accounts", "ACC-0001", city="Oulu")
    drain()
    assert Conflict.objects.open().count() == 1
    assert master.get("accounts", "ACC-0001")["city"] == "Oulu"


def test_a_merge_puts_each_field_as_chosen(master: DemoMaster, record: Record) -> None:
    conflict = disputed(master, record)
    fields = {"/city": {"value": "Oulu"}, "/notes": "local"}
    assert decide(conflict, Action.MERGE, fields=fields) == Status.PENDING
    drain()
    held = master.get("accounts", "ACC-0001")
    assert (held["city"], held.get("notes")) == ("Oulu", record.data.get("notes"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"/city": "mine"},
        {"/city": "local", "/colour": "local"},
        {"/city": {"value": "X"}, "/tier": {"value": "lead"}},
        {"/city": "local", "/id": {"value": "ACC-9999"}},
    ],
)
def test_a_merge_that_cannot_be_is_refused_with_nothing_written(
    master: DemoMaster, record: Record, fields: dict
) -> None:
    conflict = disputed(master, record)
    with pytest.raises(resolve.ImpossibleDecision):
        decide(conflict, Action.MERGE, fields=fields)
    conflict.refresh_from_db()
    assert (conflict.state, job_of(record).status) == ("open", Status.VERSION_CONFLICT)


def test_whoever_decides_on_an_old_view_writes_nothing(master: DemoMaster, record: Record) -> None:
    conflict = disputed(master, record)
    with pytest.raises(resolve.StaleView):
        decide(conflict, Action.PUSH_LOCAL, revision=conflict.revision - 1)
    with pytest.raises(resolve.StaleView):
        decide(conflict, Action.USE_REMOTE, remote_version="1")
    assert job_of(record).status == Status.VERSION_CONFLICT


@pytest.mark.db
def test_of_two_who_decide_one_wins(master: DemoMaster, record: Record) -> None:
    conflict = disputed(master, record)
    decide(conflict, Action.USE_REMOTE)
    with pytest.raises(resolve.AlreadyResolved):
        decide(conflict, Action.PUSH_LOCAL)
    assert Event.objects.filter(kind="conflict.resolved").count() == 1


@pytest.mark.parametrize("action", [Action.USE_REMOTE, Action.PUSH_LOCAL])
def test_an_object_deleted_there_is_given_up_or_made_anew(master: DemoMaster, record: Record, action: Action) -> None:
    edit(record, city="Lund")
    master.delete("accounts", "ACC-0001")
    drain()
    conflict = Conflict.objects.get()
    with pytest.raises(resolve.ImpossibleDecision):
        decide(conflict, Action.MERGE, fields={"/city": "local"})
    decide(conflict, action)
    drain()
    record.refresh_from_db()
    if action is Action.USE_REMOTE:
        assert record.deleted_at is not None and len(master.writes()) == 1
    else:
        assert record.external_id not in (None, "ACC-0001")
        assert master.get("accounts", record.external_id)["city"] == "Lund"
    assert job_of(record).status == Status.SYNCED


@pytest.mark.parametrize("action", [Action.USE_REMOTE, Action.PUSH_LOCAL])
def test_a_deletion_over_a_change_is_taken_back_or_done(master: DemoMaster, record: Record, action: Action) -> None:
    delete(record)
    master.edit("accounts", "ACC-0001", notes="theirs")
    drain()
    decide(Conflict.objects.get(), action)
    drain()
    record.refresh_from_db()
    if action is Action.USE_REMOTE:
        assert (record.intent, record.data["notes"], record.deleted_at) == (Intent.UPDATE, "theirs", None)
        assert master.get("accounts", "ACC-0001") is not None
    else:
        assert master.get("accounts", "ACC-0001") is None and record.deleted_at is not None


def test_use_remote_while_in_doubt_reads_back_and_our_late_write_is_undone(master: DemoMaster, record: Record) -> None:
    clock = Clock()
    clock.forward(1)
    edit(record, city="Lund")
    master.faults.add("timeout_before", phase="write", times=1)
    drain(clock)
    assert job_of(record).in_doubt
    assert read(record) == "unchanged"
    master.edit("accounts", "ACC-0001", city="Turku")
    SyncJob.objects.filter(pk=record.pk).update(in_doubt=True)
    clock.to(job_of(record).due_at)
    drain(clock)
    conflict = Conflict.objects.get()
    decide(conflict, Action.USE_REMOTE)
    clock.forward(60)
    drain(clock)
    assert job_of(record).status in {Status.SYNCED, Status.SKIPPED}
    assert master.get("accounts", "ACC-0001")["city"] == "Turku"


@pytest.mark.parametrize(("policy", "expected"), [("remote_wins", "Turku"), ("local_wins", "Lund")])
def test_a_policy_decides_by_itself(master: DemoMaster, policy: str, expected: str) -> None:
    resource = make_resource(master, policy={"conflict": policy})
    [record] = take(master, resource, "ACC-0001")
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku")
    drain()
    record.refresh_from_db()
    assert (master.get("accounts", "ACC-0001")["city"], record.data["city"]) == (expected, expected)
    assert not Conflict.objects.exists()
