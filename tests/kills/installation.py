"""A whole installation to kill: real web server, real supervisor with its pool, a client that keeps editing.

Owns: the processes and the books: what was acknowledged, what the master applied. Guarantees: every process that was
started here has ended after `close`, and nothing else is ever signalled. Does not: judge; the tests do.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.utils import timezone

from syncportal.access.keys import Scope, create_key
from syncportal.demo import DemoMaster
from syncportal.remote.models import SlotLease
from syncportal.sync import operate, sweep
from syncportal.sync.events import Actor
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.states import AGREED, Status
from tests import factories

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = Actor("user", label="operator")


def until(happened: Callable[[], object], *, seconds: float, every: float = 0.1) -> bool:
    """Ask until it is true; False when the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OperationalError):
            if happened():
                return True
        time.sleep(every)
    return False


def children_of(pid: int) -> list[int]:
    """Return a process's children, the oldest first."""
    with contextlib.suppress(OSError):
        return sorted(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return []


def threads_of(pid: int) -> int:
    """Return how many threads a process has; one that pushes has the most."""
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


@dataclass
class Client:
    """Edits records over the HTTP API, one after another, and remembers what was acknowledged."""

    port: int
    key: str
    records: list[int]
    seed: int
    acknowledged: dict[int, int] = field(default_factory=dict)
    refused: list[tuple[int, bytes]] = field(default_factory=list)
    broken: int = 0
    number: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Edit until stopped; the number sent grows with each edit, so each content is unique."""
        chance = random.Random(self.seed)
        while not self._stop.wait(0.02):
            self.number += 1
            record, number = chance.choice(self.records), self.number
            line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                body = json.dumps({"data": {"notes": f"{number:06d}"}})
                headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
                line.request("PATCH", f"/api/v1/records/{record}/", body, headers)
                answer = line.getresponse()
                told = answer.read()
            except (OSError, http.client.HTTPException):
                self.broken += 1
                self._stop.wait(0.1)
                continue
            finally:
                line.close()
            if answer.status in (200, 202):
                self.acknowledged[record] = number
            else:
                self.refused.append((answer.status, told[:300]))

    def stop(self) -> None:
        """Make the current edit the last."""
        self._stop.set()


class Installation:
    """Web, worker and client around an in-process master. edited: how many objects the client edits, None for all."""

    def __init__(
        self, *, environment: dict[str, str], master: DemoMaster, folder: Path, seed: int, edited: int | None = None
    ) -> None:
        self.environment, self.master, self.folder = environment, master, folder
        self.chance = random.Random(seed)
        limits = {"concurrency": 8, "total_timeout_s": 10, "connect_timeout_s": 3}
        remote = factories.make_remote(master.api_url, limits=limits)
        resource = factories.make_resource(remote)
        self.external_ids = sorted(row["id"] for row in master.store.all("accounts"))[:edited]
        self.records = [record.pk for record in factories.take(master, resource, *self.external_ids)]
        user = User.objects.create_superuser("killer", password="x")
        key = create_key(user, name="kills", scopes=list(Scope), expires_at=None, now=timezone.now())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.client = Client(self.port, key, self.records, seed)
        self._editing = threading.Thread(target=self.client.run, daemon=True)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.web = self.worker = None
        self.killed: dict[str, int] = {}

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────
    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command], env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def start_web(self) -> None:
        """Start the web server; it answers a moment later."""
        options = ("--no-control-socket", "--log-level", "warning", "-b", f"127.0.0.1:{self.port}")
        self.web = self._start("web", "-m", "gunicorn", "-k", "asgi", "syncportal.asgi:application", *options)

    def start_worker(self) -> None:
        """Start the supervisor."""
        self.worker = self._start("worker", "manage.py", "runworker")

    def start(self) -> None:
        """Start everything and wait until edits arrive at the master."""
        self.start_web()
        self.start_worker()
        self.start_editing()
        assert until(lambda: self.pushed() > 3, seconds=40), self.logs()

    def start_editing(self) -> None:
        """Let the client begin."""
        self._editing.start()

    def pushed(self) -> int:
        """Return how many edits the workers brought to the master."""
        mine = set(self.external_ids)
        return sum(write.object_id in mine for write in self.master.writes())

    def web_answers(self) -> bool:
        """Tell whether the web server accepts connections."""
        with socket.socket() as line:
            line.settimeout(1)
            return line.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self, kind: str) -> int | None:
        """Kill -9 one process, restart what nobody supervises, and let the leases of the dead run out."""
        pid = self._victim(kind)
        if pid is None:
            return None
        if kind == "web":
            os.killpg(pid, signal.SIGKILL)
            self.web.wait()
            self.start_web()
        else:
            os.kill(pid, signal.SIGKILL)
        if kind == "supervisor":
            self.worker.wait()
            self.start_worker()
        self.killed[kind] = self.killed.get(kind, 0) + 1
        return pid

    def _victim(self, kind: str) -> int | None:
        if kind == "web":
            return self.web.pid
        if kind == "supervisor":
            return self.worker.pid
        main = next(iter(children_of(self.worker.pid)), None)
        if main is None or kind == "main":
            return main
        sentinel = next(iter(children_of(main)), None)
        if sentinel is None or kind == "sentinel":
            return sentinel
        pool = children_of(sentinel)
        self.chance.shuffle(pool)  # among equals any; the one with the most threads is pushing
        return max(pool, key=threads_of) if pool else None

    def pool(self) -> list[int]:
        """Return the members of the pool: the sentinel starts them before its other children."""
        main = next(iter(children_of(self.worker.pid)), None)
        sentinel = next(iter(children_of(main)), None) if main else None
        return children_of(sentinel)[:-2] if sentinel else []

    def let_leases_run_out(self) -> None:
        """Do what the passing of 90 seconds and any host's sweep would do.

        Holders that still live lose theirs as well: then the claim number must protect, which is the harder case.
        """
        past = timezone.now() - timedelta(seconds=1)

        def work() -> bool:
            SlotLease.objects.update(expires_at=past)
            SyncJob.objects.filter(status=Status.PROCESSING).update(lease_until=past)
            sweep.sweep()
            return True

        until(work, seconds=30)

    # ── the books ────────────────────────────────────────────────────────────────────────────────────────────────
    def moved_on(self, *, seconds: float) -> bool:
        """Wait until the workers bring another edit to the master."""
        before = self.pushed()
        return until(lambda: self.pushed() > before, seconds=seconds, every=0.05)

    def stop_editing(self) -> None:
        """End the client."""
        self.client.stop()
        if self._editing.is_alive():
            self._editing.join(35)

    def unsettled(self) -> list[tuple[int, str, str]]:
        """Return the records that do not agree with the master yet."""
        rows = SyncJob.objects.exclude(status__in=AGREED, in_doubt=False)
        return list(rows.values_list("pk", "status", "reason"))

    def requeue_dead_letters(self) -> int:
        """Do the operator's part: a job whose worker died three times waits for a person."""
        dead = list(
            SyncJob.objects.filter(status=Status.DEAD_LETTER, reason="worker_died").values_list("pk", flat=True)
        )
        return len(operate.requeue(dead, actor=OPERATOR).moved) if dead else 0

    def lost(self) -> list[tuple[int, str, int]]:
        """Return acknowledged edits that the master does not hold, nor a later one of the same record."""
        missing = []
        for record in Record.objects.filter(pk__in=self.client.acknowledged):
            held = self.master.get("accounts", str(record.external_id))
            number = int(held["notes"]) if str(held["notes"]).isdigit() else 0
            if number < self.client.acknowledged[record.pk]:
                missing.append((record.pk, str(held["notes"]), self.client.acknowledged[record.pk]))
        return missing

    def apart(self) -> list[int]:
        """Return records whose content differs from the master's."""
        return [
            record.pk
            for record in Record.objects.filter(pk__in=self.records)
            if self.master.get("accounts", str(record.external_id))["notes"] != record.data["notes"]
        ]

    def doubled(self) -> list[tuple[str, list[str]]]:
        """Return objects to which a content was applied twice, or an older one after a newer one."""
        found = []
        for external_id in self.external_ids:
            applied = [write.after["notes"] for write in self.master.writes(object_id=external_id)]
            if any(later <= earlier for earlier, later in zip(applied, applied[1:], strict=False)):
                found.append((external_id, applied))
        return found

    def logs(self) -> str:
        """Return the end of the children's logs, for a failed test's message."""
        tails = [f"--- {path.name}\n{path.read_text('utf-8', 'replace')[-3000:]}" for path in self.folder.glob("*.log")]
        return "\n".join(tails)

    def close(self) -> None:
        """End everything that was started here; a pool ends with its supervisor."""
        self.client.stop()
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.worker.wait(26)
        for process in self.processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        connection.close()
