"""The table of legal moves, and that the database moves nothing that stands outside it."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from syncportal.demo.seed import account_rows
from syncportal.remote.models import Resource
from syncportal.sync import error_groups, records, states, transitions
from syncportal.sync.causes import deadly
from syncportal.sync.models import SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status
from tests.factories import T0, make_remote, make_resource

pytestmark = pytest.mark.django_db

LEAVING = (
    states.COMPLETE, states.SKIP, states.REBASE, states.RETRY_LATER, states.GIVE_UP, states.FAIL, states.REJECT,
    states.MARK_CONFLICT, states.POSTPONE,
)  # fmt: skip


@pytest.fixture
def resource() -> Resource:
    return make_resource(make_remote("http://127.0.0.1:1/api"))


def job_in(resource: Resource, status: str, *, held_by: str = "", in_doubt: bool = False) -> int:
    document = next(account_rows(1))
    state = RecordState(0, resource.pk, f"id-{status}", document, document, "1", 1, Intent.UPDATE, None, None)
    [pk] = records.insert([state], now=T0)
    transitions.insert([transitions.NewJob(pk, resource.remote_id, False, 4)], now=T0)
    waiting = status in states.CLAIMABLE
    SyncJob.objects.filter(pk=pk).update(
        status=status,
        claim_no=7,
        attempts=1,
        due_at=T0 if waiting else None,
        lease_until=T0 + timedelta(seconds=90) if status == Status.PROCESSING else None,
        held_by=held_by,
        in_doubt=in_doubt,
    )
    return pk


def leave(verb: Any) -> Callable[[int], object]:
    def act(pk: int) -> object:
        move = transitions.Leaving(pk, 7, verb, verb.targets[0], attempts=1, due_at=T0)
        return transitions.leave_processing([move], now=T0)

    return act


ACTS: dict[str, Callable[[int], object]] = {
    "arm": lambda pk: transitions.arm([pk], now=T0),
    "claim": lambda pk: transitions.claim_many(
        SyncJob.objects.get(pk=pk).remote_id, limit=9, holder="h", now=T0, lease_s=90
    ),
    "rescue": lambda pk: transitions.rescue(now=T0 + timedelta(hours=1)),
    "requeue": lambda pk: transitions.requeue([pk], now=T0),
    "resolve": lambda pk: transitions.resolve(pk, target=Status.PENDING.value, now=T0, max_attempts=4),
    "hold": lambda pk: transitions.hold([pk], holder="g", now=T0),
    "refresh": lambda pk: transitions.request_refresh([pk], now=T0),
    "mark_conflict": lambda pk: transitions.mark_conflict([pk], reason="stale_remote", detail="", now=T0),
    **{verb.name + "_leaving": leave(verb) for verb in LEAVING},
}
SOURCES = {
    **{verb.name: verb.sources for verb in states.VERBS},
    # fail, like every way out of a claim, needs the claim; mark_conflict from outside needs that there is none.
    **{verb.name + "_leaving": frozenset({Status.PROCESSING.value}) for verb in LEAVING},
    "mark_conflict": states.MARK_CONFLICT.sources - {Status.PROCESSING.value},
}


@pytest.mark.db
@pytest.mark.parametrize("name", sorted(ACTS))
@pytest.mark.parametrize("status", Status.values)
def test_a_verb_moves_a_row_exactly_when_the_table_says_so(resource: Resource, name: str, status: str) -> None:
    pk = job_in(resource, status)

    def row() -> dict[str, Any]:
        return SyncJob.objects.filter(pk=pk).values().get()

    before = row()
    moved = ACTS[name](pk)
    assert bool(moved) is (status in SOURCES[name]), (name, status)
    if status not in SOURCES[name]:
        assert row() == before


def test_every_verb_of_the_table_is_tried_here_or_shown_elsewhere() -> None:
    tried = {name.removesuffix("_leaving") for name in ACTS}
    assert {verb.name for verb in states.VERBS} - tried == {"release"}


def test_a_stale_claim_number_moves_nothing(resource: Resource) -> None:
    pk = job_in(resource, Status.PROCESSING)
    for verb in LEAVING:
        move = transitions.Leaving(pk, 6, verb, verb.targets[0], attempts=1)
        assert transitions.leave_processing([move], now=T0) == set()


def test_a_way_out_that_is_not_in_the_table_is_a_bug_and_not_a_move(resource: Resource) -> None:
    pk = job_in(resource, Status.PROCESSING)
    with pytest.raises(ValueError):
        transitions.leave_processing([transitions.Leaving(pk, 7, states.COMPLETE, Status.ERROR, attempts=1)], now=T0)
    with pytest.raises(ValueError):
        transitions.resolve(pk, target=Status.ERROR.value, now=T0, max_attempts=4)


def test_a_held_record_is_neither_claimed_nor_held_twice_and_only_its_holder_releases_it(resource: Resource) -> None:
    pk = job_in(resource, Status.SYNCED)
    assert transitions.hold([pk], holder="group 1", now=T0) == {pk}
    assert transitions.hold([pk], holder="group 2", now=T0) == set()
    assert transitions.arm([pk], now=T0) == 1
    assert transitions.claim_many(resource.remote_id, limit=9, holder="h", now=T0, lease_s=90) == []
    assert transitions.release([pk], holder="group 2", now=T0) == 0
    assert transitions.release([pk], holder="group 1", now=T0) == 1
    assert len(transitions.claim_many(resource.remote_id, limit=9, holder="h", now=T0, lease_s=90)) == 1


def test_an_in_doubt_record_cannot_be_held(resource: Resource) -> None:
    pk = job_in(resource, Status.SYNCED, in_doubt=True)
    assert transitions.hold([pk], holder="group 1", now=T0) == set()


def test_a_job_that_is_not_due_is_not_claimed(resource: Resource) -> None:
    pk = job_in(resource, Status.RETRY_PENDING)
    SyncJob.objects.filter(pk=pk).update(due_at=T0 + timedelta(seconds=1))
    assert transitions.claim_many(resource.remote_id, limit=9, holder="h", now=T0, lease_s=90) == []
    later = T0 + timedelta(seconds=1)
    assert len(transitions.claim_many(resource.remote_id, limit=9, holder="h", now=later, lease_s=90)) == 1


def test_a_claim_counts_the_attempt_and_stores_what_it_will_send(resource: Resource) -> None:
    pk = job_in(resource, Status.PENDING)
    [claim] = transitions.claim_many(resource.remote_id, limit=9, holder="h", now=T0, lease_s=90)
    job = SyncJob.objects.get(pk=pk)
    assert (job.attempts, job.claim_no, job.claimed_by) == (2, 8, "h") == (claim.attempt, claim.claim_no, "h")
    assert job.lease_until == T0 + timedelta(seconds=90)
    assert [send["content"] for send in job.sends] == [claim.data]
    assert not job.in_doubt, "nothing was sent yet"


def test_the_third_death_of_a_worker_makes_a_dead_letter(resource: Resource) -> None:
    pk = job_in(resource, Status.PENDING)
    now = T0
    for death in (1, 2, 3):
        [_] = transitions.claim_many(resource.remote_id, limit=9, holder="h", now=now, lease_s=90)
        assert transitions.rescue(now=now + timedelta(seconds=90)) == [], "not before the lease is over"
        now += timedelta(seconds=91)
        [rescued] = transitions.rescue(now=now)
        assert rescued.dead is (death == 3)
        error_groups.add([deadly(rescued.remote_id)] if rescued.dead else [], now=now)
    job = SyncJob.objects.get(pk=pk)
    assert job.status == Status.DEAD_LETTER
    assert job.in_doubt, "the last worker may have sent something"
    assert transitions.requeue([pk], now=now) == {pk}
    job.refresh_from_db()
    assert (job.status, job.attempts, job.worker_deaths, job.in_doubt) == (Status.PENDING, 0, 0, True)


def test_the_printed_diagram_names_every_status_and_verb() -> None:
    text = states.diagram()
    for verb in states.VERBS:
        assert not verb.targets or re.search(rf"[:,] {verb.name}\b", text)
    assert all(status in text for status in Status.values)
