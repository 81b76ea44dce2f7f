"""Failures with one cause are one row: counted with the outcomes, ended by success, seen by whom they concern."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from syncportal.demo import DemoMaster
from syncportal.sync import error_groups, error_reading, retention, sweep, transitions
from syncportal.sync.causes import DEADLY, MANY, cause_of
from syncportal.sync.error_models import ErrorGroup, ErrorHour
from syncportal.sync.error_states import GroupState
from syncportal.sync.events import Actor
from syncportal.sync.models import Event, Record, SyncJob, SyncLog
from tests.factories import Clock, drain, edit, make_remote, make_resource, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]
OPS = Actor("user", label="ops")


@pytest.fixture
def ops() -> User:
    return User.objects.create_superuser("ops")


@pytest.fixture
def rows(master: DemoMaster) -> list[Record]:
    """Make five records that agree with the master."""
    return take(master, make_resource(master), *(f"ACC-{number:04d}" for number in range(1, 6)))


def refuse(master: DemoMaster, *external_ids: str, status: int = 422) -> None:
    for external_id in external_ids:
        master.faults.add_json(
            {"kind": "status", "settings": {"status": status}, "object_id": external_id, "phase": "write"}
        )


def push(rows: list[Record], city: str = "Lund", clock: Clock | None = None) -> None:
    for row in rows:
        edit(row, city=city)
    drain(clock)


def seen(user: User, now: Any = None) -> dict[str, tuple[int, str]]:
    now = now or timezone.now()
    return {group.code: (group.affected, group.state) for group in error_reading.groups_of(user, now=now)}


def test_failures_with_one_cause_are_one_row(master: DemoMaster, rows: list[Record], ops: User) -> None:
    refuse(master, "ACC-0001", "ACC-0002", "ACC-0003")
    refuse(master, "ACC-0004", status=503)
    push(rows)
    groups = {group.code: group for group in ErrorGroup.objects.all()}
    assert {code: group.occurrences for code, group in groups.items()} == {"http_422": 3, "http_503": 1}
    refused = groups["http_422"]
    assert (refused.kind, refused.remote_id) == ("rejected", rows[0].resource.remote_id)
    assert refused.first_seen_at == refused.last_seen_at
    assert sum(ErrorHour.objects.filter(group=refused).values_list("attempts", flat=True)) == 3
    assert seen(ops) == {"http_422": (3, "open"), "http_503": (1, "open")}
    assert SyncLog.objects.filter(error_group=refused).count() == 3
    found = error_reading.sample(ops, refused.pk)
    assert found is not None and found.http_status == 422


def test_a_later_success_ends_the_error_and_history_stays(master: DemoMaster, rows: list[Record], ops: User) -> None:
    refuse(master, "ACC-0001", "ACC-0002")
    push(rows)
    [first] = ErrorGroup.objects.all()
    master.faults.clear()
    push(rows[:1], city="Umeå")
    assert seen(ops) == {"http_422": (1, "open")}
    push(rows[1:2], city="Umeå")
    assert seen(ops) == {"http_422": (0, "over")}
    refuse(master, "ACC-0001")
    push(rows[:1], city="Kiruna")
    [again] = ErrorGroup.objects.all()
    assert (again.pk, again.occurrences, again.first_seen_at) == (first.pk, 3, first.first_seen_at)
    assert again.last_seen_at > first.last_seen_at
    assert seen(ops) == {"http_422": (1, "open")}


def test_another_failure_takes_the_place_of_the_one_before(master: DemoMaster, rows: list[Record], ops: User) -> None:
    clock = Clock(timezone.now() + timedelta(seconds=1))
    refuse(master, "ACC-0001", status=503)
    push(rows[:1], clock=clock)
    master.faults.clear()
    refuse(master, "ACC-0001")
    clock.forward(10)
    drain(clock)
    assert seen(ops) == {"http_503": (0, "over"), "http_422": (1, "open")}


def test_a_pause_keeps_the_error_a_decision_ends_it(master: DemoMaster, rows: list[Record], ops: User) -> None:
    clock = Clock(timezone.now() + timedelta(seconds=1))
    refuse(master, "ACC-0001", status=503)
    push(rows[:1], clock=clock)
    master.faults.clear()
    refuse(master, "ACC-0001", status=429)
    clock.forward(10)
    drain(clock)
    assert SyncJob.objects.get(pk=rows[0].pk).status == "RETRY_PENDING"
    assert seen(ops)["http_503"] == (1, "open")
    transitions.mark_conflict([rows[0].pk], reason="concurrent_edit", detail="", now=timezone.now())
    assert seen(ops) == {"http_503": (0, "over")}


def test_a_record_in_agreement_has_no_error(master: DemoMaster, rows: list[Record]) -> None:
    refuse(master, "ACC-0001")
    push(rows[:1])
    with pytest.raises(IntegrityError), transaction.atomic():
        SyncJob.objects.filter(pk=rows[0].pk).update(status="SYNCED")


def test_pushes_without_failures_pay_nothing(master: DemoMaster, rows: list[Record]) -> None:
    def statements(about: str) -> tuple[int, int]:
        """Push all rows; return the statements about groups, and how many batches were settled."""
        with CaptureQueriesContext(connection) as queries:
            push(rows, city=about)
        said = [query["sql"] for query in queries]
        about_groups = sum("sync_errorgroup" in sql or "sync_errorhour" in sql for sql in said)
        return about_groups, sum('INSERT INTO "sync_rollup"' in sql for sql in said)

    assert statements("Lund")[0] == 0
    refuse(master, "ACC-0001", "ACC-0002")
    refuse(master, "ACC-0003", "ACC-0004", "ACC-0005", status=503)
    written, batches = statements("Umeå")
    assert 0 < written <= 4 * batches
    written, batches = statements("Oslo")
    assert 0 < written == 3 * batches, "causes that are known are looked up and counted"


def test_a_remote_that_says_something_new_each_time_does_not_flood_the_list(
    master: DemoMaster, rows: list[Record], ops: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote_id, other = rows[0].resource.remote_id, make_remote("http://127.0.0.1:1").pk
    monkeypatch.setattr(error_groups, "MOST", 5)
    now = timezone.now()

    def fail_with(messages: list[str], remote: int = remote_id) -> None:
        causes = {
            number: cause_of(remote_id=remote, kind="rejected", code="http_422", message=message)
            for number, message in enumerate(messages)
        }
        error_groups.add(error_groups.bounded(causes).values(), now=now)

    words = ["".join(letters) for letters in product("abcde", repeat=3)]
    for start in range(0, 100, 10):
        fail_with(words[start : start + 10])
    fail_with(words[:3], remote=other)
    assert ErrorGroup.objects.filter(remote=other).count() == 3
    groups = ErrorGroup.objects.filter(remote=remote_id)
    assert groups.count() == 5 + 1 and sum(group.occurrences for group in groups) == 100
    assert {group.occurrences for group in groups.exclude(message=MANY)} == {1}
    fail_with([groups.exclude(message=MANY)[0].message])
    assert sorted(group.occurrences for group in groups.all()) == [1, 1, 1, 1, 2, 95], "what is known keeps its group"
    refuse(master, "ACC-0001", status=503)
    push(rows[:1])
    group = SyncJob.objects.get(pk=rows[0].pk).error_group
    assert group is not None and (group.code, group.message) == ("http_503", MANY)
    assert SyncLog.objects.get(record=rows[0], final=True).error_group_id == group.pk


def test_a_dead_letter_of_dead_workers_has_its_cause_too(master: DemoMaster, rows: list[Record], ops: User) -> None:
    refuse(master, "ACC-0001", status=503)
    push(rows[:1])
    now = timezone.now() + timedelta(minutes=5)
    edit(rows[1], city="Lund")
    for _ in range(transitions.MAX_WORKER_DEATHS):
        assert seen(ops)["http_503"] == (1, "open"), "a death says nothing new about why it failed before"
        transitions.claim_many(rows[0].resource.remote_id, limit=9, holder="dead", now=now, lease_s=90)
        now += timedelta(seconds=91)
        with transaction.atomic():
            sweep.rescue(now)
    assert seen(ops) == {"http_503": (0, "over"), "worker_died": (2, "open")}
    group = ErrorGroup.objects.get(code="worker_died")
    assert (group.remote_id, group.occurrences, str(group)) == (rows[0].resource.remote_id, 2, DEADLY)
    assert set(SyncJob.objects.filter(error_group=group).values_list("status", "detail")) == {("DEAD_LETTER", DEADLY)}


def test_owners_see_their_own_counts_only(master: DemoMaster, rows: list[Record], ops: User) -> None:
    ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
    Record.objects.filter(pk=rows[0].pk).update(owner=ann)
    refuse(master, "ACC-0001", "ACC-0002", "ACC-0003")
    push(rows)
    [group] = ErrorGroup.objects.all()
    assert seen(ann) == {"http_422": (1, "open")} and seen(bob) == {}
    now = timezone.now()
    assert [error_reading.open_count(user, now=now) for user in (ops, ann, bob)] == [1, 1, 0]
    since = now - timedelta(hours=2)
    assert sum(error_reading.hours_of(ann, [group.pk], since=since)[group.pk].values()) == 1
    assert sum(error_reading.hours_of(ops, [group.pk], since=since)[group.pk].values()) == 3
    assert error_reading.own_span(ann, [group.pk])[group.pk][2] == 1
    found = error_reading.sample(ann, group.pk)
    assert found is not None and found.record_id == rows[0].pk and error_reading.sample(bob, group.pk) is None
    assert error_reading.of_code(ann, ["http_422"]) == {"http_422": [group.pk]}
    assert error_reading.of_code(bob, ["http_422"]) == {}


def test_snoozed_until_a_time(master: DemoMaster, rows: list[Record], ops: User) -> None:
    refuse(master, "ACC-0001")
    push(rows)
    pk, now = ErrorGroup.objects.get().pk, timezone.now()
    error_groups.snooze(pk, until=now + timedelta(hours=1), actor=OPS)
    assert seen(ops) == {"http_422": (1, "snoozed")} and error_reading.open_count(ops, now=now) == 0
    assert seen(ops, now + timedelta(hours=2)) == {"http_422": (1, "open")}
    assert error_reading.open_count(ops, now=now + timedelta(hours=2)) == 1
    with pytest.raises(error_groups.NotPossible):
        error_groups.snooze(pk, until=now - timedelta(hours=1), actor=OPS)
    error_groups.watch_again(pk, actor=OPS)
    assert seen(ops) == {"http_422": (1, "open")}


def test_ignored_until_it_affects_more(master: DemoMaster, rows: list[Record], ops: User) -> None:
    refuse(master, "ACC-0001", "ACC-0002")
    push(rows)
    pk = ErrorGroup.objects.get().pk
    with pytest.raises(error_groups.NotPossible):
        error_groups.ignore(pk, why=" ", actor=OPS)
    error_groups.ignore(pk, why="known, mended on Monday", actor=OPS)
    push(rows[:2], city="Umeå")
    assert seen(ops) == {"http_422": (2, "ignored")} and error_reading.open_count(ops, now=timezone.now()) == 0
    refuse(master, "ACC-0003")
    push(rows[2:3], city="Umeå")
    assert seen(ops) == {"http_422": (3, "open")} and error_reading.open_count(ops, now=timezone.now()) == 1


def test_what_was_over_is_not_ignored_when_it_comes_back(master: DemoMaster, rows: list[Record], ops: User) -> None:
    refuse(master, "ACC-0001", "ACC-0002")
    push(rows)
    error_groups.ignore(ErrorGroup.objects.get().pk, why="known", actor=OPS)
    master.faults.clear()
    push(rows, city="Umeå")
    error_groups.prune(timezone.now())
    refuse(master, "ACC-0001")
    push(rows, city="Kiruna")
    assert seen(ops) == {"http_422": (1, "open")}


def test_acts_are_told_with_who_and_why(master: DemoMaster, rows: list[Record]) -> None:
    refuse(master, "ACC-0001")
    push(rows)
    pk = ErrorGroup.objects.get().pk
    error_groups.write_note(pk, note="The remote's team knows.", actor=OPS)
    error_groups.ignore(pk, why="known", actor=OPS)
    told = [
        (e.kind, e.actor_label, e.data) for e in Event.objects.filter(kind__startswith="error_group").order_by("pk")
    ]
    assert told == [
        ("error_group.noted", "ops", {"group": str(pk), "note": "The remote's team knows."}),
        ("error_group.ignored", "ops", {"group": str(pk), "why": "known", "affected": 1}),
    ]
    with pytest.raises(error_groups.NotPossible):
        error_groups.write_note(17, note="x", actor=OPS)


def test_old_groups_are_forgotten_never_those_that_affect_something(master: DemoMaster, rows: list[Record]) -> None:
    refuse(master, "ACC-0001")
    refuse(master, "ACC-0002", status=400)
    push(rows)
    master.faults.clear()
    push(rows[1:2], city="Umeå")
    retention.prune(timezone.now() + timedelta(days=89))
    assert ErrorGroup.objects.count() == 2
    retention.prune(timezone.now() + timedelta(days=91))
    assert [group.code for group in ErrorGroup.objects.all()] == ["http_422"]
    assert not ErrorHour.objects.exists()
    assert set(SyncLog.objects.exclude(error_group=None).values_list("error_group__code", flat=True)) == {"http_422"}
    assert GroupState.OPEN in seen(User.objects.create_superuser("root"))["http_422"]
