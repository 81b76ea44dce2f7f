"""How long the dashboard and every list take on a big installation, warm, on both databases.

Builds 1,000,000 records and 5,000,000 exchanges (1,000,000 on SQLite) in set-based SQL, then prints what the snapshot
takes for every window, and what each page takes. `python -m bench.dashboard [--records N] [--logs N N]
[--database NAME …] [--reuse]`; --reuse asks the database that DATABASE_URL names and fills it only when it is empty.
"""

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

from bench import stage

DATA_GOAL_MS, PAGE_GOAL_MS = 100, 1_000
TURNS = 7
LISTS = {
    "records": "/admin/sync/record/",
    "records, dead letters": "/admin/sync/record/?status=DEAD_LETTER",
    "records, synced": "/admin/sync/record/?status=SYNCED",
    "records of a resource": "/admin/sync/record/?resource=resource-3",
    "records of a remote, waiting": "/admin/sync/record/?status=waiting&remote=remote-1",
    "records of an owner": "/admin/sync/record/?owner=me",
    "records, page 200": "/admin/sync/record/?p=200",
    "records by title": "/admin/sync/record/?o=1",
    "records by status": "/admin/sync/record/?o=2",
    "records by owner": "/admin/sync/record/?o=5",
    "records by time in status": "/admin/sync/record/?o=6",
    "records, search that finds nothing": "/admin/sync/record/?q=nowhere",
    "records, search that finds few": "/admin/sync/record/?q=432199",
    "records, search that finds thousands": "/admin/sync/record/?q=432",
    "records, search for a common word": "/admin/sync/record/?q=account",
    "records, search for what old ones hold": "/admin/sync/record/?q=X-99&p=200",
    "records, search for two words": "/admin/sync/record/?q=Account+4321",
    "records, search for five words": "/admin/sync/record/?q=account+credit+name+x+4321",
    "records, search for two letters": "/admin/sync/record/?q=zz",
    "records, search for a sign": "/admin/sync/record/?q=%25",
    "records, search with an umlaut": "/admin/sync/record/?q=%C3%96resund",
    "records, search with few ASCII letters": "/admin/sync/record/?q=f%C3%BCr",
    "records, search for an owner": "/admin/sync/record/?q=owner-1",
    "records, search in a resource": "/admin/sync/record/?q=resource-3+4321",
    "sync log": "/admin/sync/synclog/",
    "sync log, failures": "/admin/sync/synclog/?outcome=failed&exchanges=final&since=24h",
    "sync log, one error": "/admin/sync/synclog/?outcome=failed&exchanges=final&since=30d&error=http_503",
    "sync log, succeeded": "/admin/sync/synclog/?outcome=succeeded&exchanges=final&since=30d",
    "sync log, failures of a resource": "/admin/sync/synclog/?outcome=failed&since=1h&resource=resource-2",
    "conflicts": "/admin/sync/conflict/",
    "conflicts, all": "/admin/sync/conflict/?state=all",
    "events": "/admin/sync/event/",
    "events, failed": "/admin/sync/event/?kind=sync.failed",
    "groups": "/admin/rollback/group/",
    "groups, needing attention": "/admin/rollback/group/?status=needs_attention",
    "tasks": "/admin/rollback/compensatingtask/",
    "tasks, failed": "/admin/rollback/compensatingtask/?status=failed_permanent",
    "API records": "/api/v1/records/",
    "API records, search that finds nothing": "/api/v1/records/?search=nowhere",
    "API records, search for a common word": "/api/v1/records/?search=account",
    "API sync logs": "/api/v1/sync-logs/?outcome=fail",
}


def main() -> int:
    """Run for each database, or (in the child process) for one; return 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--logs", type=int, nargs=2, default=[1_000_000, 5_000_000], help="on SQLite, on PostgreSQL")
    parser.add_argument("--database", nargs="+", default=list(stage.DATABASES), choices=stage.DATABASES)
    parser.add_argument("--reuse", action="store_true", help="use the database of DATABASE_URL")
    options = parser.parse_args()
    if "BENCH_DATABASE" not in os.environ and not options.reuse:
        return stage.rerun_for_each("bench.dashboard", options.database, sys.argv[1:])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "syncportal.settings")
    os.environ["LOG_FORMAT"] = "json"
    stage.prepare()
    build(options.records, options.logs)
    logging.disable(logging.INFO)  # a line per request would bury the table
    return measure()


def build(records: int, logs: list[int]) -> None:
    """Fill the database unless it is filled, and say how long that took."""
    from django.utils import timezone

    from bench import many
    from syncportal.sync import record_counts
    from syncportal.sync.models import Record

    if Record.objects.exists():
        return
    if many.postgres():
        many.run("SET statement_timeout = 0", "SET synchronous_commit = off")
    count = logs[many.postgres()]
    steps: list[tuple[str, Callable[[], object]]] = [
        ("connections", many.connections),
        (f"{records:,} records", lambda: many.records(records)),
        (f"{count:,} exchanges", lambda: many.logs(count, records=records)),
        ("events", lambda: many.events(count // 2, records=records)),
        ("conflicts", lambda: many.conflicts(records // 10)),
        ("groups", lambda: many.groups(records // 10)),
        ("roll-ups", many.sums),
        ("statistics", many.analyze),
        ("counts", lambda: record_counts.recount(timezone.now())),
    ]
    for name, work in steps:
        begun = time.perf_counter()
        work()
        print(f"  built {name} in {time.perf_counter() - begun:.0f} s", flush=True)


def measure() -> int:
    """Print the table; return whether a goal was missed."""
    from django.contrib.auth.models import Group, User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.utils import timezone

    from syncportal.ops.metrics.scope import scope_of
    from syncportal.ops.metrics.snapshot import snapshot
    from syncportal.sync.windows import WINDOWS

    user = User.objects.filter(username="root").first() or User.objects.create_superuser("root")
    owner = User.objects.get(username="owner-1")
    missed = 0
    print(f"{connection.vendor}: warm, median of {TURNS}, wall and CPU of this process")
    for chosen in ({}, {"remote": "remote-1"}, {"resource": "resource-3"}):
        scope = scope_of(user, **chosen)
        for window in WINDOWS.values():
            with CaptureQueriesContext(connection) as captured:
                snapshot(scope, now=timezone.now(), window=window)
            missed += told(
                f"data, {window.label}, {scope.label}",
                lambda scope=scope, window=window: snapshot(scope, now=timezone.now(), window=window),
                goal_ms=DATA_GOAL_MS,
                queries=len(captured),
            )
    missed += told(
        "data, 30 days, one owner's records",
        lambda: snapshot(scope_of(owner), now=timezone.now(), window=WINDOWS["30d"]),
        goal_ms=DATA_GOAL_MS,
    )
    owner.groups.add(Group.objects.get(name="Record owners"))
    pages = {"dashboard": "/admin/?window=24h", "error groups": "/admin/sync/errorgroup/", **LISTS}
    for who, whose, shown in ((user, "", {"/metrics": "/metrics", **pages}), (owner, " of an owner", pages)):
        client = Client(SERVER_NAME="localhost")
        client.force_login(who)
        for name, path in shown.items():
            missed += told(f"page{whose}, {name}", partial(_get, client, path), goal_ms=PAGE_GOAL_MS)
    return int(missed > 0)


def _get(client, path: str) -> None:
    answer = client.get(path, follow=True)  # a page beyond the last one leads to that
    if answer.status_code != 200:
        raise RuntimeError(f"{path} answered {answer.status_code}")


def told(name: str, work: Callable[[], object], *, goal_ms: int, queries: int | None = None) -> bool:
    """Run it a few times, print the median, and tell whether it missed its goal."""
    work()
    walls, cpus = [], []
    for _ in range(TURNS):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(1000 * (time.perf_counter() - wall))
        cpus.append(1000 * (time.process_time() - cpu))
    wall = statistics.median(walls)
    mark = "" if wall < goal_ms else f"  MISSED {goal_ms} ms"
    asked = f"  {queries} queries" if queries is not None else ""
    print(f"  {name:<44}{wall:9.1f} ms{statistics.median(cpus):9.1f} ms CPU{asked}{mark}", flush=True)
    return wall >= goal_ms


if __name__ == "__main__":
    sys.exit(main())
