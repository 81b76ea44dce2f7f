"""PostgreSQL is stopped and started again under web and worker: both go on without a restart of theirs.

On a server of its own, because the suite's one is in use by other tests.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections
from environ import Env

from syncportal.demo import DemoMaster, accounts
from syncportal.ops.models import Heartbeat
from tests.kills.installation import Installation, children_of, until
from tests.postgres import Server, own_server

OUTAGE_S = 1.0

pytestmark = [
    pytest.mark.db,
    pytest.mark.kills,
    pytest.mark.skipif("connection.vendor != 'postgresql'"),
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc"),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any) -> Iterator[Server]:
    """Run a migrated server and let this process speak to it."""
    with own_server() as started, django_db_blocker.unblock():
        there = Env.db_url_config(started.url)
        before = connections["default"]
        wanted = {**connections.settings["default"], **{name: there[name] for name in ("NAME", "USER", "PASSWORD")}}
        monkeypatch.setitem(connections.settings, "default", {**wanted, "HOST": str(started.program.pgdata)})
        del connections["default"]
        try:
            call_command("migrate", verbosity=0)
            yield started
        finally:
            connection.close()
            connections["default"] = before


@pytest.fixture
def installation(server: Server, tmp_path: Path) -> Iterator[Installation]:
    environment = {
        **os.environ,
        "DATABASE_URL": server.url,
        "SECRET_KEY": settings.SECRET_KEY,
        "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "REMOTE_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
    }
    with DemoMaster((accounts(20),), latency_ms=5) as master:
        made = Installation(environment=environment, master=master, folder=tmp_path, seed=1)
        try:
            yield made
        finally:
            made.close()


def later_edit_acknowledged(installation: Installation) -> bool:
    """Wait for an answer to an edit that is sent from now on."""
    sent = installation.client.number
    return until(lambda: max(installation.client.acknowledged.values()) > sent, seconds=2)


def test_web_and_worker_survive_a_stop_and_a_crash_of_the_database(server: Server, installation: Installation) -> None:
    installation.start()
    assert until(lambda: Heartbeat.objects.filter(canary_at__isnull=False).exists(), seconds=30), installation.logs()
    web, main = children_of(installation.web.pid), children_of(installation.worker.pid)
    for mode in ("fast", "immediate"):
        server.stop(mode)
        time.sleep(OUTAGE_S)
        server.start()
        connection.close()
        assert until(lambda: later_edit_acknowledged(installation), seconds=20), (
            mode, installation.client.refused[-3:], installation.logs(),
        )  # fmt: skip
        # What was under way when the database went waits for its lease, which is longer than this test.
        installation.let_leases_run_out()
        assert installation.moved_on(seconds=40), (mode, installation.logs())
    installation.stop_editing()

    def settled() -> bool:
        installation.let_leases_run_out()
        installation.requeue_dead_letters()
        return not installation.unsettled()

    assert until(settled, seconds=60, every=0.3), (installation.unsettled(), installation.logs())
    assert (children_of(installation.web.pid), children_of(installation.worker.pid)) == (web, main)
    assert Heartbeat.objects.filter(restarts__gt=0).count() == 0
    assert installation.lost() == []
    assert installation.doubled() == []
    assert {status for status, _ in installation.client.refused} <= {500, 503}
