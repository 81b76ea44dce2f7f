"""/healthz and /readyz: open to everybody, telling strangers nothing."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from syncportal.ops import health, heartbeat
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forget_migrated() -> None:
    health._seen_migrated.clear()


def beat() -> None:
    heartbeat.beat(Beat("host", 1, WorkerState.RUNNING), now=timezone.now())


def test_healthz_answers_without_a_login(client: Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.db
def test_readyz_is_ready_with_database_migrations_and_a_worker(client: Client) -> None:
    beat()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)


@pytest.mark.db
def test_readyz_says_503_without_a_worker(client: Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "ok", "migrations": "ok", "worker": "no heartbeat"}


def test_readyz_says_503_before_migrations(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    beat()
    monkeypatch.setattr(health, "pending_migrations", lambda: ["sync.0002"])
    assert client.get("/readyz").json()["checks"]["migrations"] == "pending"


def test_readyz_says_503_and_no_details_without_a_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> str:
        raise OperationalError("password authentication failed for user x")

    monkeypatch.setattr(health, "_database", away)
    monkeypatch.setattr(health.connection, "close", lambda: None)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "password" not in answer.content.decode()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_nothing_but_reading_is_allowed(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405


def test_a_heartbeat_of_a_clock_that_was_set_back_is_no_worker(client: Client) -> None:
    ahead = timezone.now() + timedelta(hours=1)
    heartbeat.beat(Beat("host", 1, WorkerState.RUNNING), now=ahead)
    assert client.get("/readyz").status_code == 503
    assert [worker.alive for worker in heartbeat.seen(timezone.now())] == [False]


def test_a_worker_that_is_stopping_still_counts_and_a_stopped_one_does_not(client: Client, settings: Any) -> None:
    heartbeat.beat(Beat("host", 1, WorkerState.STOPPING), now=timezone.now())
    assert client.get("/readyz").status_code == 200
    heartbeat.beat(Beat("host", 1, WorkerState.STOPPED), now=timezone.now())
    assert client.get("/readyz").status_code == 503
