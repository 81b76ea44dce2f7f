"""Every number of the dashboard is what counting row by row says, in every window and scope."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from syncportal.ops.metrics import traffic
from syncportal.ops.metrics.scope import Scope, UnknownScope, scope_of
from syncportal.ops.metrics.snapshot import snapshot
from syncportal.remote.models import Gate, Resource
from syncportal.remote.payloads import Exchange
from syncportal.sync import events, rollups
from syncportal.sync.claims import Logged
from syncportal.sync.events import AttemptLog
from syncportal.sync.models import Conflict, Record, Rollup, SyncJob, SyncLog
from syncportal.sync.rollups import FAILED, SUCCEEDED
from syncportal.sync.states import Status
from syncportal.sync.windows import WINDOWS
from tests.factories import make_remote, make_resource

NOW = datetime(2026, 3, 31, 14, 23, 45, tzinfo=UTC)
pytestmark = [pytest.mark.django_db, pytest.mark.db]


@pytest.fixture
def people() -> dict[str, User]:
    """Make an operator who sees everything, and an owner who sees own records only."""
    made = {name: User.objects.create_user(name, is_staff=True) for name in ("ops", "owner")}
    made["ops"].user_permissions.add(*Permission.objects.filter(codename__in=["operate_records", "view_remote"]))
    return {name: User.objects.get(pk=user.pk) for name, user in made.items()}


@pytest.fixture
def resources() -> list[Resource]:
    """Make three resources on two remotes."""
    first, second = make_remote("http://127.0.0.1:1/a"), make_remote("http://127.0.0.1:1/b")
    Gate.objects.bulk_create([Gate(remote=first), Gate(remote=second)])
    return [make_resource(first), make_resource(first), make_resource(second)]


def a_record(resource: Resource, *, owner: User | None = None, status: str = "SYNCED", **job: object) -> Record:
    record = Record.objects.create(resource=resource, owner=owner, data={}, created_at=NOW, updated_at=NOW)
    values = {"status": status, "status_since": NOW, "updated_at": NOW, **job}
    SyncJob.objects.create(record=record, remote=resource.remote, resource=resource, **values)
    return record


def an_attempt(record: Record, at: datetime, outcome: str, code: str = "", took: int = 100) -> AttemptLog:
    one = Exchange("write", "PUT", "http://remote/x", {}, None, 200, {}, None, 0, at, took)
    return AttemptLog(record.pk, record.resource_id, 1, 1, outcome, code, [Logged(one)])


def happen(*attempts: AttemptLog) -> None:
    events.write_logs(attempts)
    rollups.add(attempts)


def by_hand(scope: Scope, since: datetime) -> tuple[int, int, int | None, Counter]:
    """Count the scope's attempts in Python."""
    rows = [row for row in SyncLog.objects.select_related("record") if row.final and row.at >= since]
    if scope.resources is not None:
        rows = [row for row in rows if row.resource_id in scope.resources]
    if not scope.everything:
        rows = [row for row in rows if row.record.owner_id == scope.user.pk]
    good = [row.duration_ms for row in rows if row.outcome in SUCCEEDED]
    bad = Counter(row.error_code or row.error_kind for row in rows if row.outcome in FAILED)
    return len(good), sum(bad.values()), round(sum(good) / len(good)) if good else None, bad


HAPPENINGS = st.lists(
    st.tuples(
        st.integers(0, 31 * 86_400),
        st.sampled_from(["complete", "skip", "retry_later", "fail", "give_up", "reject", "postpone", "rebase"]),
        st.sampled_from(["http_503", "timeout", "dns", "schema", "http_409", "http_500"]),
        st.integers(0, 11_000),
        st.integers(0, 5),
    ),
    max_size=25,
)


@hypothesis(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happenings=HAPPENINGS)
def test_the_traffic_of_any_history_is_what_the_log_says(
    people: dict[str, User], resources: list[Resource], happenings: list
) -> None:
    Rollup.objects.all().delete()
    SyncLog.objects.all().delete()
    records = [a_record(resource, owner=owner) for resource in resources for owner in (None, people["owner"])]
    for ago, outcome, code, took, which in happenings:
        error = "" if outcome in (*SUCCEEDED, "rebase") else code
        happen(an_attempt(records[which], NOW - timedelta(seconds=ago), outcome, error, took))
    filters = [{}, {"remote": resources[0].remote.slug}, {"resource": resources[2].slug}]
    for user in people.values():
        for chosen in filters:
            scope = scope_of(user, **chosen)
            for window in WINDOWS.values():
                found = traffic.read(scope, window=window, now=NOW)
                good, bad, average, errors = by_hand(scope, window.since(NOW))
                whole = found.whole
                assert (whole.succeeded, whole.failed, whole.average_ms) == (good, bad, average)
                expected = sorted(errors.items(), key=lambda item: (-item[1], item[0]))[:5]
                assert [(error.code, error.count) for error in found.errors] == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_95th_percentile_is_right_to_the_bucket(
    people: dict[str, User], resources: list[Resource], seed: int
) -> None:
    record = a_record(resources[0])
    took = [(i * i * 7 + seed * 131 + i * 53) % 4_000 for i in range(200)]
    happen(*(an_attempt(record, NOW, "complete", took=value) for value in took))
    found = traffic.read(scope_of(people["ops"]), window=WINDOWS["24h"], now=NOW).whole.p95_ms
    exact = sorted(took)[int(len(took) * 0.95) - 1]
    low = max((bound for bound in (0, *rollups.BOUNDS_MS) if bound < exact), default=0)
    high = next(bound for bound in rollups.BOUNDS_MS if bound >= exact)
    assert found is not None and low <= found <= high


def test_a_window_begins_with_a_slot_and_is_never_shorter_than_its_name() -> None:
    for window in WINDOWS.values():
        since = window.since(NOW)
        assert timedelta(0) <= NOW - window.length - since < timedelta(seconds=window.slot_s)
        slots = window.slots(NOW)
        assert slots[0] == since and slots[-1] <= NOW < slots[-1] + timedelta(seconds=window.slot_s)


def test_what_waits_and_stands_still_is_counted_in_its_scope(
    people: dict[str, User], resources: list[Resource]
) -> None:
    due = {"due_at": NOW - timedelta(minutes=3)}
    a_record(resources[0], status=Status.PENDING, **due)
    a_record(resources[0], status=Status.RETRY_PENDING, due_at=NOW + timedelta(minutes=1), owner=people["owner"])
    a_record(resources[1], status=Status.DEAD_LETTER)
    conflicting = a_record(resources[2], status=Status.VERSION_CONFLICT, owner=people["owner"])
    Conflict.objects.create(
        record=conflicting, resource=resources[2], reason="concurrent_edit", local={}, revision=1,
        created_at=NOW - timedelta(hours=2), updated_at=NOW,
    )  # fmt: skip
    gone = a_record(resources[2])
    Record.objects.filter(pk=gone.pk).update(deleted_at=NOW)
    everything = snapshot(scope_of(people["ops"]), now=NOW)
    assert (everything.total, everything.backlog, everything.due, everything.dead_letters) == (4, 2, 1, 1)
    assert (everything.overdue_s, everything.open_conflicts, everything.stopped) == (180, 1, 2)
    assert [(remote.waiting, remote.due) for remote in everything.remotes] == [(2, 1), (0, 0)]
    own = snapshot(scope_of(people["owner"]), now=NOW)
    assert (own.total, own.backlog, own.due, own.dead_letters, own.open_conflicts) == (2, 1, 0, 0, 1)
    assert own.remotes == () and own.duties == ()
    one = snapshot(scope_of(people["ops"], resource=resources[1].slug), now=NOW)
    assert (one.total, one.dead_letters, one.backlog, one.open_conflicts) == (1, 1, 0, 0)
    master = snapshot(scope_of(people["ops"], remote=resources[0].remote.slug), now=NOW)
    assert (master.total, master.due, len(master.remotes)) == (3, 1, 1)


def test_recent_errors_are_those_of_the_window_newest_first(people: dict[str, User], resources: list[Resource]) -> None:
    record = a_record(resources[0], owner=people["owner"])
    happen(an_attempt(record, NOW - timedelta(hours=30), "fail", "http_422"))
    happen(*(an_attempt(record, NOW - timedelta(minutes=20 - i), "retry_later", f"http_5{i:02}") for i in range(10)))
    happen(an_attempt(record, NOW - timedelta(minutes=1), "give_up", "http_503"))
    happen(an_attempt(a_record(resources[2]), NOW, "reject", "schema"))
    seen = snapshot(scope_of(people["ops"]), now=NOW).recent_errors
    assert [error.code for error in seen] == ["schema", "http_503", *(f"http_5{i:02}" for i in (9, 8, 7, 6, 5, 4))]
    with CaptureQueriesContext(connection) as asked:
        own = snapshot(scope_of(people["owner"]), now=NOW).recent_errors
    assert [error.code for error in own] == ["http_503", *(f"http_5{i:02}" for i in (9, 8, 7, 6, 5, 4, 3))]
    # Looking for the newest failures of one owner among everybody's could read the whole log.
    logs = [query["sql"] for query in asked if 'FROM "sync_synclog"' in query["sql"]]
    assert len(logs) == 2 and "LIMIT" not in logs[1]


def test_recent_errors_of_some_resources_are_looked_for_in_their_hours(
    people: dict[str, User], resources: list[Resource]
) -> None:
    loud, quiet = a_record(resources[0]), a_record(resources[2])
    happen(*(an_attempt(loud, NOW - timedelta(minutes=i), "fail", "http_500") for i in range(30)))
    ages = [(70, 1), (90, 2), (60 * 30, 3), (60 * 31, 4), (60 * 24 * 20, 5), (60 * 24 * 40, 6)]
    happen(*(an_attempt(quiet, NOW - timedelta(minutes=ago), "give_up", f"http_50{number}") for ago, number in ages))
    happen(an_attempt(quiet, NOW - timedelta(minutes=71), "complete"))

    def codes(window: str, **chosen: str) -> list[str]:
        seen = snapshot(scope_of(people["ops"], **chosen), now=NOW, window=WINDOWS[window]).recent_errors
        return [error.code[-1] for error in seen]

    for chosen in ({"resource": resources[2].slug}, {"remote": resources[2].remote.slug}):
        with CaptureQueriesContext(connection) as asked:
            assert codes("30d", **chosen) == ["1", "2", "3", "4", "5"]
        assert codes("24h", **chosen) == ["1", "2"] and codes("1h", **chosen) == []
        logs = [query["sql"] for query in asked if 'FROM "sync_synclog"' in query["sql"]]
        assert 0 < len(logs) <= 5 and all('"sync_synclog"."at" < ' in sql for sql in logs), "no others are read"
    assert codes("30d", resource=resources[0].slug) == ["0"] * 8


def test_the_number_of_queries_is_the_same_however_much_there_is(
    people: dict[str, User], resources: list[Resource], django_assert_max_num_queries: object
) -> None:
    record = a_record(resources[0])
    for outcome in FAILED:
        happen(*(an_attempt(record, NOW - timedelta(hours=i), outcome, f"code_{i}") for i in range(40)))
    for window in WINDOWS.values():
        with django_assert_max_num_queries(25):  # type: ignore[operator]
            snapshot(scope_of(people["ops"]), now=NOW, window=window)


def test_a_scope_that_does_not_exist_is_refused(people: dict[str, User], resources: list[Resource]) -> None:
    for chosen in ({"remote": "nowhere"}, {"resource": "nothing"}, {"remote": resources[0].remote.slug,
                                                                    "resource": resources[2].slug}):  # fmt: skip
        with pytest.raises(UnknownScope):
            scope_of(people["ops"], **chosen)


def test_roll_ups_are_never_shown_to_those_who_see_their_own_records_only(people: dict[str, User]) -> None:
    with pytest.raises(ValueError, match="every owner"):
        scope_of(people["owner"]).rollups()
