"""What a person, or a policy, decides about a conflict, and what is sent then."""

from typing import Any

import pytest

from syncportal.demo import DemoMaster
from syncportal.sync import resolve
from syncportal.sync.models import Conflict, Event, Record, SyncJob
from syncportal.sync.resolve import Action, Decision
from syncportal.sync.states import Intent, Status
from tests.factories import PERSON, Clock, delete, drain, edit, job_of, make_resource, take
from tests.sync.scene import disputed, read

pytestmark = pytest.mark.django_db(transaction=True)


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
