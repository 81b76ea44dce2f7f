"""Two people decide one conflict, and somebody saves while another decides: one wins, the other sees why."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from syncportal.sync import local, open_conflicts, records, resolve
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict, Event, Record
from syncportal.sync.resolve import Action, AlreadyResolved, Decision, StaleView
from syncportal.sync.states import Intent, Status
from syncportal.sync.transitions import NewJob, insert
from tests.factories import PERSON, job_of, make_remote, make_resource, shown
from tests.racing import at_once

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
ROUNDS = 8


@pytest.fixture
def resource(transactional_db: None) -> Any:
    return make_resource(make_remote("http://127.0.0.1:1/api"), schema=None)


def conflicting(resource: Any, number: int) -> Conflict:
    now = timezone.now()
    base, mine = {"id": f"A{number}", "city": "Turku"}, {"id": f"A{number}", "city": "Lund"}
    state = records.RecordState(0, resource.pk, f"A{number}", mine, base, "1", 2, Intent.UPDATE, None, None)
    [pk] = records.insert([state], now=now)
    insert([NewJob(pk, resource.remote_id, True, 4)], now=now)
    there = shown({**base, "city": "Oslo"}, version="2")
    known = records.states_of([pk])[pk]
    found = open_conflicts.ask(known, there, "concurrent_edit", base=base, fields=["/city"], now=now)
    return Conflict.objects.get(pk=found)


def decide(row: Conflict, action: Action, who: str) -> Callable[[], str]:
    decision = Decision(action, 2, "2", {"/city": {"value": who}} if action is Action.MERGE else {})
    return lambda: resolve.resolve(row.pk, decision, actor=Actor("user", label=who))


def test_of_people_who_decide_at_once_one_wins(resource: Any) -> None:
    for number in range(ROUNDS):
        row = conflicting(resource, number)
        results = at_once(
            decide(row, Action.USE_REMOTE, "Olga"), decide(row, Action.PUSH_LOCAL, "Otto"),
            decide(row, Action.MERGE, "Ops"), decide(row, Action.MERGE, "Ops"),
        )  # fmt: skip
        won = [result for result in results if isinstance(result, str)]
        lost = [result for result in results if isinstance(result, AlreadyResolved)]
        assert (len(won), len(lost)) == (1, 3), results
        row.refresh_from_db()
        told = Event.objects.get(kind="conflict.resolved", record_id=row.record_id)
        city = {"use_remote": "Oslo", "push_local": "Lund", "merge": "Ops"}[row.resolution]
        record = Record.objects.get(pk=row.record_id)
        assert (record.data["city"], told.data["action"], record.version) == (city, row.resolution, "2")


def test_a_decision_and_a_new_save_at_once_lose_neither(resource: Any) -> None:
    for number in range(ROUNDS):
        row = conflicting(resource, number)
        decided, saved = at_once(
            decide(row, Action.USE_REMOTE, "Olga"),
            lambda row=row: local.save(local.Edit(row.record_id, {"city": "Porto"}), actor=PERSON),
        )
        assert isinstance(saved, local.Saved), saved
        record = Record.objects.get(pk=row.record_id)
        row.refresh_from_db()
        assert record.data["city"] == "Porto", "what was saved is there, whoever was first"
        if isinstance(decided, StaleView):
            assert (row.state, row.local["city"], job_of(record).status) == ("open", "Porto", Status.VERSION_CONFLICT)
            assert saved.conflict_id == row.pk
        else:
            assert decided == "SYNCED" and row.state == "resolved"
            assert (job_of(record).status, record.base["city"]) == (Status.PENDING, "Oslo")
