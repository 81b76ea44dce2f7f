"""What every measurement needs: a database of its own, Django, a demo master in another process, records to push."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATABASES = ("sqlite", "postgresql")


@contextmanager
def database(kind: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a fresh database: a SQLite file, or a PostgreSQL from its wheel."""
    with tempfile.TemporaryDirectory(prefix="syncportal-bench-") as folder:
        common = {"DATA_DIR": folder, "REMOTE_ALLOWED_NETWORKS": "127.0.0.0/8", "LOG_FORMAT": "json"}
        if kind == "sqlite":
            yield {**common, "DATABASE_URL": f"sqlite:///{folder}/bench.sqlite3"}
            return
        from tests.postgres import running_server

        with running_server(durable=True) as url:
            yield {**common, "DATABASE_URL": url}


@contextmanager
def master(*, accounts: int, latency_ms: float = 0) -> Iterator[str]:
    """Run a demo master in a process of its own and yield its address."""
    command = [sys.executable, "-m", "syncportal.demo", "--port", "0", "--accounts", str(accounts), "--shifts", "1",
               "--latency-ms", str(latency_ms)]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield line.partition("Demo master: ")[2].strip().removesuffix("/api")
        finally:
            process.terminate()


@contextmanager
def quick_master(*, accounts: int, latency_ms: float) -> Iterator[str]:
    """Run a master that waits instead of computing, in a process of its own, and yield its address."""
    command = [sys.executable, "-m", "bench.quick_master", "--accounts", str(accounts), "--latency-ms", str(latency_ms)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield line.partition("Quick master: ")[2].strip().removesuffix("/api")
        finally:
            process.terminate()


def rerun_for_each(module: str, kinds: Sequence[str], arguments: Sequence[str]) -> int:
    """Run `module` once per database, each time in a process of its own; return the worst exit code."""
    worst = 0
    for kind in kinds:
        with database(kind) as environment:
            settings = {"BENCH_DATABASE": kind, "DJANGO_SETTINGS_MODULE": "syncportal.settings"}
            given = {**os.environ, **environment, **settings}
            worst = max(worst, subprocess.call([sys.executable, "-m", module, *arguments], cwd=ROOT, env=given))
    return worst


def prepare() -> None:
    """Set Django up and make the tables, quietly."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def make_resource(url: str, *, concurrency: int = 32):
    """Make the demo's accounts on the master at `url`."""
    from tests import factories

    limits = {"concurrency": concurrency, "total_timeout_s": 15}
    return factories.make_resource(factories.make_remote(f"{url}/api", limits=limits))


def agreed_records(account_resource, numbers: Sequence[int]) -> list[int]:
    """Make records that agree with the master's untouched accounts of these numbers; return their ids."""
    from django.utils import timezone

    from syncportal.demo.seed import account_rows
    from syncportal.sync import records, transitions
    from syncportal.sync.records import RecordState
    from syncportal.sync.states import Intent

    now = timezone.now()
    rows = list(account_rows(max(numbers)))
    made = []
    for start in range(0, len(numbers), 2_000):
        states = []
        for number in numbers[start : start + 2_000]:
            data = {**rows[number - 1], "version": 1}
            states.append(
                RecordState(0, account_resource.pk, data["id"], data, data, "1", 1, Intent.UPDATE, None, None, now)
            )
        ids = records.insert(states, now=now)
        transitions.insert([transitions.NewJob(pk, account_resource.remote_id, False, 4) for pk in ids], now=now)
        made += ids
    _know_the_tables()
    return made


def _know_the_tables() -> None:
    """Let PostgreSQL count rows and values now, as it does by itself in the first minute of a database in use."""
    from django.db import connection

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


@dataclass
class Spent:
    """Wall time and CPU time of what ran inside, in seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Add what happens inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        with contextlib.suppress(KeyboardInterrupt):
            yield
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu


def max_rss_mib() -> float:
    """Return the most memory this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
