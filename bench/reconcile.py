"""How long a complete comparison takes beside only paging through the remote's list, in one run, in turns.

Also: the memory of a large run beside a small one, and what reading each object by itself would take (measured on a
sample, extrapolated). `python -m bench.reconcile [--records 100000] [--latency-ms 50] [--page 200 1000]`
"""

import argparse
import os
import subprocess
import sys
import time

from bench import stage

GOAL = 1.15
MEMORY_GOAL_MIB = 30
SMALL = 10_000
SAMPLE = 200
PLAIN_IN_FLIGHT = 1


def main() -> int:
    """Run for every database, or (in the child process) for one."""
    parser = argparse.ArgumentParser(prog="python -m bench.reconcile", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--page", type=int, nargs="+", default=[200, 1_000])
    parser.add_argument("--database", nargs="+", default=list(stage.DATABASES), choices=stage.DATABASES)
    parser.add_argument("--fill", nargs="+", metavar="URL=COUNT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "BENCH_DATABASE" not in os.environ:
        return stage.rerun_for_each("bench.reconcile", options.database, sys.argv[1:])
    stage.prepare()
    if options.fill:
        fill(dict(given.rsplit("=", 1) for given in options.fill))
        return 0
    small = min(SMALL, options.records)
    with (
        stage.master(accounts=small, latency_ms=options.latency_ms) as few,
        stage.master(accounts=options.records, latency_ms=options.latency_ms) as many,
    ):
        filled({few: small, many: options.records})
        return compare(few, many, options.records, latency_ms=options.latency_ms, pages=options.page)


def filled(counts: dict[str, int]) -> None:
    """Make the records in another process, so that this one's memory is the comparison's."""
    given = [f"{url}={count}" for url, count in counts.items()]
    subprocess.run([sys.executable, "-m", "bench.reconcile", "--fill", *given], check=True, cwd=stage.ROOT)


def fill(counts: dict[str, str]) -> None:
    """Make resources with records that agree with the masters at some addresses."""
    from django.db import connection

    for url, count in counts.items():
        stage.agreed_records(stage.make_resource(url), range(1, int(count) + 1))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def compare(few: str, many: str, count: int, *, latency_ms: float, pages: list[int]) -> int:
    """Measure and print; 1 when a goal was missed."""
    from syncportal.remote.models import Resource

    resources = {resource.remote.base_url: resource for resource in Resource.objects.select_related("remote")}
    small, large = resources[f"{few}/api"], resources[f"{many}/api"]
    missed = 0
    for size in pages:
        for resource in (small, large):
            resize(resource, size)
        complete(small)
        after_small = stage.max_rss_mib()
        raw, ours = stage.Spent(), stage.Spent()
        with raw.measure():
            page_through(large, count)
        with ours.measure():
            checked = complete(large)
        with raw.measure():
            page_through(large, count)
        grown = stage.max_rss_mib() - after_small
        ratio = ours.wall_s / (raw.wall_s / 2)
        missed |= ratio > GOAL or grown > MEMORY_GOAL_MIB
        print(
            f"reconcile {os.environ['BENCH_DATABASE']:10} {count} records, {size} a page, {latency_ms:g} ms: "
            f"{ours.wall_s:6.2f} s against {raw.wall_s / 2:6.2f} s for paging alone = {ratio:.3f} "
            f"(CPU {ours.cpu_s:.2f} against {raw.cpu_s / 2:.2f} s); {checked / ours.wall_s:.0f} rows/s; "
            f"{stage.max_rss_mib():.0f} MiB, {grown:.1f} more than for {SMALL}",
            flush=True,
        )
    naive(large, count)
    return int(missed)


def resize(resource, size: int) -> None:
    """Let a resource be listed in pages of `size`."""
    page = {**resource.config["list"]["page"], "size": size}
    resource.config = {**resource.config, "list": {**resource.config["list"], "page": page}}
    resource.save()


def complete(resource) -> int:
    """Compare everything, slice by slice as the worker does, and return how much that was."""
    from reconciliation import engine, runs, workers
    from syncportal.sync.events import WORKER

    run = runs.start(resource, actor=WORKER)
    while True:
        sliced = engine.run_slice(run.pk, seconds=workers.slice_s())
        if not sliced.goes_on:
            break
    if (sliced.run.state, sliced.run.matched) != ("finished", sliced.run.checked):
        raise RuntimeError(f"{sliced.run.state}: {sliced.run.matched} of {sliced.run.checked}; {sliced.run.problem}")
    return sliced.run.checked


def page_through(resource, count: int) -> None:
    """Read the whole list with the same client and do nothing with it."""
    from syncportal.remote.client import Deadline
    from syncportal.remote.gateway import client_for

    client, cursor, rows = client_for(resource), None, 0
    while True:
        page = client.list_page(cursor, deadline=Deadline(15))
        rows += len(page.objects)
        cursor = page.next
        if cursor is None:
            break
    if rows != count:
        raise RuntimeError(f"{rows} rows instead of {count}")


def naive(resource, count: int) -> None:
    """Read a sample object by object, one after another and in parallel, and say what all would take."""
    from reconciliation.pace import Pace
    from reconciliation.reading import in_threads, read
    from syncportal.remote.gateway import client_for

    client = client_for(resource)
    ids = [f"ACC-{number:04}" for number in range(1, SAMPLE + 1)]
    for threads in (PLAIN_IN_FLIGHT, 8):
        spent = stage.Spent()
        with spent.measure(), Pace(client.spec.remote, client, want=threads) as pace:
            until = time.monotonic() + 600
            done = sum(
                1 for _ in in_threads(lambda name: read(client, name, version=None), ids, pace=pace, until=until)
            )
        each = spent.wall_s / done
        print(
            f"reading each object {os.environ['BENCH_DATABASE']:10} {threads} at once: {each * 1000:.1f} ms each on a "
            f"sample of {done}; extrapolated to {count}: {each * count / 60:.0f} min",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
