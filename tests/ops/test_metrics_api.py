"""The summary over HTTP and /metrics say what the snapshot says, to whom it may be said."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from syncportal.access.keys import Scope, create_key
from syncportal.ops import heartbeat
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState
from syncportal.remote.models import Gate, Resource
from syncportal.sync.rollups import BOUNDS_MS
from syncportal.sync.states import Status
from tests.factories import make_remote, make_resource
from tests.ops.test_metrics import a_record, an_attempt, happen

pytestmark = [pytest.mark.django_db, pytest.mark.db]
SUMMARY = "/api/v1/metrics/summary/"


@pytest.fixture
def resources() -> list[Resource]:
    first, second = make_remote("http://127.0.0.1:1/a"), make_remote("http://127.0.0.1:1/b")
    Gate.objects.bulk_create([Gate(remote=first), Gate(remote=second)])
    made = [make_resource(first), make_resource(second)]
    now = timezone.now()
    a_record(made[0], status=Status.PENDING, due_at=now - timedelta(minutes=2))
    record = a_record(made[0], status=Status.ERROR)
    happen(*(an_attempt(record, now, "complete", took=took) for took in (4, 40, 400, 20_000)))
    happen(an_attempt(record, now, "fail", "http_422"), an_attempt(record, now, "retry_later", "http_503"))
    heartbeat.beat(Beat("host", 1, WorkerState.RUNNING), now=now)
    return made


def a_user(name: str, *permissions: str) -> User:
    user = User.objects.create_user(name)
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    return user


def key_of(user: User, *scopes: Scope) -> dict[str, str]:
    key = create_key(user, name="k", scopes=scopes, expires_at=None, now=timezone.now())
    return {"Authorization": f"Bearer {key}"}


def test_the_summary_holds_the_dashboards_numbers(client: Client, resources: list[Resource]) -> None:
    caller = key_of(a_user("olga", "operate_records", "view_remote"), Scope.READ)
    found = client.get(SUMMARY, headers=caller).json()
    assert (found["window"], found["total"], found["backlog"], found["due"]) == ("24h", 2, 1, 1)
    assert (found["attempts"], found["succeeded"], found["failed"], found["successPercent"]) == (6, 4, 2, 66.7)
    assert (found["counts"]["ERROR"], found["averageMs"], found["workerAlive"]) == (1, 5111, True)
    assert [(error["code"], error["count"]) for error in found["topErrors"]] == [("http_422", 1), ("http_503", 1)]
    assert sum(slot["succeeded"] for slot in found["series"]) == 4
    assert [remote["waiting"] for remote in found["remotes"]] == [1, 0]
    other = client.get(SUMMARY, {"window": "1h", "resource": resources[1].slug}, headers=caller).json()
    assert (other["total"], other["attempts"], other["successPercent"], other["resource"]) == (
        0,
        0,
        None,
        resources[1].slug,
    )


def test_an_owner_gets_own_numbers_only(client: Client, resources: list[Resource]) -> None:
    owner = a_user("owner")
    a_record(resources[1], owner=owner)
    found = client.get(SUMMARY, headers=key_of(owner, Scope.READ)).json()
    assert (found["ownRecordsOnly"], found["total"], found["attempts"], found["remotes"]) == (True, 1, 0, [])


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"window": "2h"}, "window"),
        ({"resource": "nope"}, "resource"),
        ({"remote": "nope"}, "remote"),
        ({"x": "1"}, "x"),
    ],
)
def test_what_does_not_exist_is_named(client: Client, resources: list[Resource], query: dict, parameter: str) -> None:
    answer = client.get(SUMMARY, query, headers=key_of(a_user("olga", "operate_records"), Scope.READ))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == parameter


def scraped(client: Client, **headers: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.content.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_prometheus_reads_records_attempts_and_durations(client: Client, resources: list[Resource]) -> None:
    found = scraped(client)
    here = {"remote": resources[0].remote.slug, "resource": resources[0].slug}

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert value("syncportal_records", status="ERROR", **here) == 1
    assert value("syncportal_records", status="SYNCED", **here) == 0
    assert value("syncportal_due_records", **here) == 1
    assert value("syncportal_attempts_total", outcome="complete", error="", **here) == 4
    assert value("syncportal_attempts_total", outcome="fail", error="http_422", **here) == 1
    assert value("syncportal_attempt_duration_seconds_bucket", le="0.005", **here) == 1
    assert value("syncportal_attempt_duration_seconds_bucket", le=str(BOUNDS_MS[-1] / 1000), **here) == 3
    assert value("syncportal_attempt_duration_seconds_count", **here) == 4
    assert value("syncportal_attempt_duration_seconds_sum", **here) == pytest.approx(20.444)
    assert value("syncportal_workers_alive") == 1
    assert value("syncportal_breaker_open", remote=here["remote"]) == 0
    assert value("syncportal_compensating_tasks_open") == 0


def test_metrics_need_a_login_or_a_key_unless_this_machine_asks(
    client: Client, resources: list[Resource], settings: object
) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 401
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == 401
    settings.PUBLIC_URL = "https://sync.example.org"  # type: ignore[attr-defined]
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer nonsense"}).status_code == 401
    seer, owner = a_user("viewer", "see_all_records"), a_user("owner")
    assert client.get("/metrics", headers=key_of(seer, Scope.READ)).status_code == 200
    assert client.get("/metrics", headers=key_of(seer, Scope.WRITE)).status_code == 403
    assert client.get("/metrics", headers=key_of(owner, Scope.READ)).status_code == 403
    client.force_login(seer)
    assert client.get("/metrics").status_code == 200
    assert client.post("/metrics").status_code in (403, 405)
    client.force_login(owner)
    assert client.get("/metrics").status_code == 403
