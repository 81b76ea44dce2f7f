"""Kill -9 at random moments: nothing acknowledged is lost, nothing is applied twice, everything converges.

`CHAOS_KILLS` kills each kind of process more often (`make chaos`: 50); the default of three belongs to `make test`.
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts
from syncportal.ops import heartbeat
from syncportal.ops.models import Heartbeat
from syncportal.sync import local
from tests.kills.installation import OPERATOR, Installation, until

KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
KINDS = ("web", "main", "sentinel", "pool member", "supervisor")
WEDGE_S = 60.0
PATIENCE_S = 8.0

pytestmark = [
    pytest.mark.db,
    pytest.mark.kills,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc"),
]


@pytest.fixture
def installation(child_environment: dict[str, str], tmp_path: Path) -> Iterator[Installation]:
    with DemoMaster((accounts(60),), latency_ms=30) as master:
        made = Installation(environment=child_environment, master=master, folder=tmp_path, seed=SEED)
        try:
            yield made
        finally:
            made.close()


def test_random_kills_lose_nothing_and_double_nothing(installation: Installation) -> None:
    chance = random.Random(SEED)
    kinds = [kind for kind in KINDS for _ in range(KILLS)]
    chance.shuffle(kinds)
    installation.start()
    begun = time.monotonic()
    for kind in kinds:
        time.sleep(chance.uniform(0.05, 0.6))
        until(lambda kind=kind: installation.kill(kind), seconds=20)
        installation.let_leases_run_out()
        # The next kill should meet work under way; a pool that is wedged is not waited for here but at the end.
        installation.moved_on(seconds=PATIENCE_S)
    killing_s = time.monotonic() - begun
    assert installation.killed == dict.fromkeys(KINDS, KILLS)

    installation.stop_editing()
    requeued = 0

    def settled() -> bool:
        nonlocal requeued
        installation.let_leases_run_out()
        requeued += installation.requeue_dead_letters()
        return not installation.unsettled()

    converged = until(settled, seconds=WEDGE_S + 60, every=1.0)
    client = installation.client
    print(
        f"\n{connection.vendor}: {sum(installation.killed.values())} kills in {killing_s:.0f} s, seed {SEED}; "
        f"{client.number} edits sent, {client.number - client.broken - len(client.refused)} acknowledged, "
        f"{len(installation.master.writes())} applied, {len(installation.lost())} lost, "
        f"{len(installation.doubled())} doubled, {requeued} requeued after three dead workers, "
        f"converged after {time.monotonic() - begun - killing_s:.0f} s"
    )
    assert converged, f"{installation.unsettled()}\n{installation.logs()}"
    assert client.refused == []
    assert installation.lost() == []
    assert installation.doubled() == []
    assert installation.apart() == []
    assert len(client.acknowledged) > len(installation.records) / 2


def test_a_wedged_pool_is_back_within_a_minute(installation: Installation) -> None:
    installation.start_worker()
    assert until(lambda: heartbeat.alive(timezone.now()) and len(installation.pool()) == 3, seconds=30)
    assert until(lambda: Heartbeat.objects.filter(canary_at__isnull=False).exists(), seconds=30)
    # One of the idle members holds the queue's lock while it waits; whoever replaces the dead waits for it for ever.
    wedged = time.monotonic()
    for pid in installation.pool():
        os.kill(pid, 9)
    time.sleep(0.5)
    local.save(local.Edit(installation.records[0], {"notes": "000001"}), actor=OPERATOR)
    assert installation.moved_on(seconds=WEDGE_S + 5), installation.logs()
    took = time.monotonic() - wedged
    print(f"\n{connection.vendor}: wedged pool back after {took:.1f} s")
    assert took < WEDGE_S
    assert until(lambda: Heartbeat.objects.filter(restarts=1).exists(), seconds=10), "the pool was not wedged at all"
