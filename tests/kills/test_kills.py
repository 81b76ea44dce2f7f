"""Kill -9 at random moments: nothing acknowledged is lost, nothing is applied twice, everything converges.

While processes die, one client edits records and others send grouped updates: no group is ever half applied without an
open item, and a request whose answer was lost tells its live state when it is sent again.
`CHAOS_KILLS` kills each kind of process more often (`make chaos`: 50); the default of three belongs to `make test`.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from rollback.models import Group
from syncportal.demo import DemoMaster, accounts
from syncportal.ops import heartbeat
from syncportal.ops.models import Heartbeat
from tests.kills.group_clients import GroupClients
from tests.kills.installation import Installation, until

KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
SUPERVISED = ("main", "sentinel", "pool member")
KINDS = (*SUPERVISED, "supervisor")
EDITED, GROUPED = 60, 20
WEDGE_S = 60.0
PATIENCE_S = 2.5

pytestmark = [
    pytest.mark.db,
    pytest.mark.kills,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc"),
]


@dataclass
class Stage:
    """An installation with both sorts of clients, and what the kills met."""

    installation: Installation
    groups: GroupClients
    in_the_middle: dict[str, int] = field(default_factory=dict)

    def kill(self, kind: str) -> None:
        """Kill one process in the middle of a group or of an undo, as often as that is wanted, then let time pass."""
        under_way = self.groups.request_under_way if kind == "web" else self.groups.undo_under_way
        what = "request" if kind == "web" else "undo"
        patience = 10.0 if kind == "web" else 2.0 if self.in_the_middle.get(what, 0) < KILLS else 0.0
        met = under_way(seconds=patience)
        assert until(lambda: self.installation.kill(kind), seconds=20), self.installation.logs()
        self.in_the_middle[what] = self.in_the_middle.get(what, 0) + met
        self.let_leases_run_out()
        assert self.groups.half_applied() == []

    def let_leases_run_out(self) -> None:
        """Let the holds, leases and slots of the dead end, and those of the living too."""
        self.installation.let_leases_run_out()

        def work() -> bool:
            self.groups.let_leases_run_out()
            return True

        until(work, seconds=30)

    def settle(self) -> None:
        """End the clients, wait until everything agrees, print the figures and check the books."""
        installation, groups = self.installation, self.groups
        ended = time.monotonic()
        installation.stop_editing()
        groups.stop()
        requeued = 0

        def settled() -> bool:
            nonlocal requeued
            self.let_leases_run_out()
            groups.let_due_times_come()
            requeued += installation.requeue_dead_letters()
            return not installation.unsettled() and not groups.unsettled()

        converged = until(settled, seconds=WEDGE_S + 60, every=0.3)
        client = installation.client
        statuses = list(Group.objects.values_list("status", flat=True))
        print(
            f"\n{connection.vendor}: {sum(installation.killed.values())} kills, seed {SEED}; "
            f"{client.number} edits sent, {client.number - client.broken - len(client.refused)} acknowledged, "
            f"{installation.pushed()} applied, {len(installation.lost())} lost, {len(installation.doubled())} doubled, "
            f"{requeued} requeued after three dead workers, converged after {time.monotonic() - ended:.0f} s\n"
            f"{connection.vendor}: {len(statuses)} groups: {statuses.count('applied')} applied, "
            f"{statuses.count('rolled_back')} rolled back, {statuses.count('compensated')} compensated, "
            f"{statuses.count('needs_attention')} for a person; {groups.lost_answers} answers lost, "
            f"killed in the middle of {self.in_the_middle}"
        )
        assert converged, f"{installation.unsettled()}\n{groups.unsettled()}\n{installation.logs()}"
        assert client.refused == []
        assert installation.lost() == []
        assert installation.doubled() == []
        assert installation.apart() == []
        assert groups.unexpected == []
        assert "needs_attention" not in statuses
        assert groups.half_applied() == []
        assert groups.wrong_at_the_master() == []
        assert groups.apart() == []
        assert groups.false_answers() == []
        assert until(installation.web_answers, seconds=20)
        assert groups.bad_replays(most=40) == []


@pytest.fixture
def stage(child_environment: dict[str, str], tmp_path: Path) -> Iterator[Stage]:
    with DemoMaster((accounts(EDITED + GROUPED),), latency_ms=30) as master:
        made = Installation(environment=child_environment, master=master, folder=tmp_path, seed=SEED, edited=EDITED)
        external_ids = sorted(row["id"] for row in master.store.all("accounts"))[EDITED:]
        groups = GroupClients(master, made.port, made.client.key, external_ids, SEED)
        try:
            yield Stage(made, groups)
        finally:
            groups.stop(patience_s=0)
            made.close()


def rounds(chance: random.Random) -> list[str]:
    """Return the kinds to kill, in rounds that end with the supervisor: a new one has no restarts to pause after."""
    order: list[str] = []
    for _ in range(KILLS):
        order += [*chance.sample(SUPERVISED, len(SUPERVISED)), "supervisor"]
    return order


def test_killed_workers_lose_nothing_and_double_nothing(stage: Stage) -> None:
    chance, installation = random.Random(SEED), stage.installation
    installation.start()
    stage.groups.start()
    moving = True
    for kind in rounds(chance):
        time.sleep(chance.uniform(0.05, 0.6))
        stage.kill(kind)
        # The next kill should meet work under way. A pool whose member died may be wedged: that is another test's.
        patience = PATIENCE_S if kind != "pool member" else 2.0 if moving else 0.0
        moving = installation.moved_on(seconds=patience)
    assert installation.killed == dict.fromkeys(KINDS, KILLS)
    assert stage.in_the_middle["undo"] > 0
    stage.settle()
    assert len(installation.client.acknowledged) > EDITED / 2


def test_a_wedged_pool_is_back_within_a_minute_and_killed_web_servers_lose_nothing_meanwhile(stage: Stage) -> None:
    installation = stage.installation
    installation.start_web()
    installation.start_worker()
    assert until(lambda: heartbeat.alive(timezone.now()) and len(installation.pool()) == 3, seconds=30)
    assert until(lambda: Heartbeat.objects.filter(canary_at__isnull=False).exists(), seconds=30)
    # One of the idle members holds the queue's lock while it waits; whoever replaces the dead waits for it for ever.
    for pid in installation.pool():
        os.kill(pid, 9)
    wedged = time.monotonic()
    installation.start_editing()
    stage.groups.start()
    for number in range(KILLS):
        time.sleep(0.3)
        stage.kill("web")
        before = stage.groups.applied()
        assert until(lambda before=before: stage.groups.applied() - before, seconds=30), (number, installation.logs())
    assert installation.killed == {"web": KILLS}
    assert stage.in_the_middle == {"request": KILLS}
    # What was sent until now has to arrive; more of it would only keep the processor busy while the pool is awaited.
    installation.stop_editing()
    stage.groups.stop()
    assert until(installation.pushed, seconds=WEDGE_S + 5), installation.logs()
    edited = set(installation.external_ids)
    back = min(write.at for write in installation.master.writes() if write.object_id in edited)
    print(f"\n{connection.vendor}: wedged pool back after {back - wedged:.1f} s")
    assert back - wedged < WEDGE_S
    assert until(lambda: Heartbeat.objects.filter(restarts=1).exists(), seconds=10), "the pool was not wedged at all"
    stage.settle()
