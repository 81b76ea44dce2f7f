"""Wherever a conflict can open, the resource's policies decide the same way: push, refresh, and held records."""

from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from rollback import holding
from rollback.holding import Reading
from syncportal.demo import DemoMaster
from syncportal.demo.seed import ACCOUNT_SCHEMA
from syncportal.remote.spec import spec_for
from syncportal.sync import records, refresh, transitions
from syncportal.sync.disputes import UNFIT, dispute
from syncportal.sync.models import Conflict, Event, Record
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status
from tests.factories import PERSON, delete, drain, edit, job_of, make_resource, shown, spec_of, take

pytestmark = pytest.mark.django_db(transaction=True)

LOCAL, REMOTE = {"city": "Lund"}, {"city": "Turku"}
# policy, local edit, remote edit -> the city here afterwards, None where a person is asked
CASES: list[Any] = [
    ({}, LOCAL, REMOTE, None),
    ({"conflict": "remote_wins"}, LOCAL, REMOTE, "Turku"),
    ({"conflict": "local_wins"}, LOCAL, REMOTE, "Lund"),
    ({"conflict": "local_wins", "fields": {"/city": "manual"}}, LOCAL, REMOTE, None),
    ({"fields": {"/city": "remote_wins"}}, LOCAL, REMOTE, "Turku"),
    ({}, LOCAL, {"notes": "theirs"}, "Lund"),
    ({"merge_disjoint": False}, LOCAL, {"notes": "theirs"}, None),
    ({"merge_disjoint": False, "conflict": "remote_wins"}, LOCAL, REMOTE, "Turku"),
    ({"merge_disjoint": False, "conflict": "local_wins"}, LOCAL, {**REMOTE, "notes": "theirs"}, None),
]
RULE = {"not": {"properties": {"city": {"const": "Lund"}, "notes": {"const": "no Lund"}}, "required": ["notes"]}}
UNFITTING: dict[str, Any] = {"schema": {**ACCOUNT_SCHEMA, **RULE}}


def in_both_ways(master: DemoMaster, policy: dict, mine: dict, theirs: dict, **config: Any) -> Record:
    [record] = take(master, make_resource(master, policy=policy, **config), "ACC-0001")
    edit(record, **mine)
    master.edit("accounts", "ACC-0001", theirs)
    return record


def came_to(record: Record, city: str | None) -> None:
    """Check what became of it: a conflict with its event, or the wanted city and no conflict."""
    record.refresh_from_db()
    if city is None:
        assert job_of(record).status == Status.VERSION_CONFLICT and Conflict.objects.open().count() == 1
        assert Event.objects.filter(record_id=record.pk, kind="sync.conflict").count() == 1
        assert record.data["city"] == "Lund", "what was entered here is kept"
    else:
        assert record.data["city"] == city and not Conflict.objects.exists()


@pytest.mark.parametrize(("policy", "mine", "theirs", "city"), CASES)
def test_push(master: DemoMaster, policy: dict, mine: dict, theirs: dict, city: str | None) -> None:
    record = in_both_ways(master, policy, mine, theirs)
    drain()
    came_to(record, city)
    if city is not None:
        there = master.get("accounts", "ACC-0001")
        assert there is not None and there["city"] == city
        assert job_of(record).status in {Status.SYNCED, Status.SKIPPED}


@pytest.mark.parametrize(("policy", "mine", "theirs", "city"), CASES)
def test_refresh(master: DemoMaster, policy: dict, mine: dict, theirs: dict, city: str | None) -> None:
    record = in_both_ways(master, policy, mine, theirs)
    refresh.refresh(record.pk, resource=record.resource, actor=PERSON)
    came_to(record, city)


@pytest.mark.parametrize(("policy", "mine", "theirs", "city"), CASES)
def test_a_record_that_a_group_or_an_undo_gives_back(
    master: DemoMaster, policy: dict, mine: dict, theirs: dict, city: str | None
) -> None:
    came_to(held_and_read(master, policy, mine, theirs), city)


def held_and_read(master: DemoMaster, policy: dict, mine: dict | None, theirs: dict, **config: Any) -> Record:
    """Hold a record, edit it (None: delete it) meanwhile, and advance it to what the remote holds."""
    [record] = take(master, make_resource(master, policy=policy, **config), "ACC-0001")
    transitions.hold([record.pk], holder="group:1", now=timezone.now())
    delete(record) if mine is None else edit(record, **mine)
    master.edit("accounts", "ACC-0001", theirs)
    advance(record, master)
    return record


def advance(record: Record, master: DemoMaster) -> None:
    there = shown(master.get("accounts", "ACC-0001") or {}, external_id="ACC-0001")
    with transaction.atomic():
        state = records.lock([record.pk])[record.pk]
        holding.advance([Reading(state, there, state.base, spec_for(record.resource))], now=timezone.now())


def test_a_deletion_meanwhile_never_goes_over_what_others_changed(master: DemoMaster) -> None:
    record = held_and_read(master, {"conflict": "local_wins"}, None, REMOTE)
    assert Conflict.objects.open().get().reason == "deleted_local"
    assert job_of(record).status == Status.VERSION_CONFLICT


def test_content_read_again_renews_the_open_conflict_instead_of_moving_the_record(master: DemoMaster) -> None:
    record = held_and_read(master, {}, LOCAL, REMOTE)
    master.edit("accounts", "ACC-0001", {"city": "Oulu"})
    advance(record, master)
    row = Conflict.objects.open().get()
    assert (row.remote or {})["city"] == "Oulu" and row.remote_version == "3"
    came_to(record, None)


@pytest.mark.parametrize("way", ["push", "refresh", "held"])
def test_a_merge_that_does_not_fit_the_schema_asks_a_person(master: DemoMaster, way: str) -> None:
    theirs = {"notes": "no Lund"}
    if way == "held":
        record = held_and_read(master, {}, LOCAL, theirs, **UNFITTING)
    else:
        record = in_both_ways(master, {}, LOCAL, theirs, **UNFITTING)
        drain() if way == "push" else refresh.refresh(record.pk, resource=record.resource, actor=PERSON)
    came_to(record, None)
    assert job_of(record).detail == UNFIT


@pytest.mark.parametrize("own_answer", [True, False])
def test_the_other_fields_of_our_own_answer_are_taken_whatever_the_policy(own_answer: bool) -> None:
    spec = spec_of(schema=None, policy={"merge_disjoint": False})
    base, local = {"a": 1, "b": 1}, {"a": 2, "b": 1}
    state = RecordState(1, 1, "A", local, base, "1", 2, Intent.UPDATE, None, None)
    there = shown({"a": 1, "b": 9}, version="2")
    moved, merge = records.advance(state, base=base, remote=there, spec=spec)
    found = dispute(state, moved, merge, shown=there, spec=spec, own_answer=own_answer)
    assert (found is None) is own_answer
