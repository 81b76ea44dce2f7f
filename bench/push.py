"""How fast due records reach a master, beside a plain pooled `requests` thread pool without any durability.

Both push the same number of accounts to the same master (`quick_master.py`, which waits instead of computing) with the
same number of calls in flight, in turns, in one run.
`python -m bench.push [--records 5000] [--latency-ms 50 5] [--database sqlite postgresql]`
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from bench import stage

IN_FLIGHT = 32
GOAL = 0.95


def main() -> int:
    """Run for every database and latency, or (in the child process) for one database."""
    parser = argparse.ArgumentParser(prog="python -m bench.push", description=__doc__)
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[50, 5])
    parser.add_argument("--database", nargs="+", default=list(stage.DATABASES), choices=stage.DATABASES)
    parser.add_argument("--profile", metavar="FILE", help="write a cProfile of the drain's own thread")
    options = parser.parse_args()
    if "BENCH_DATABASE" not in os.environ:
        return stage.rerun_for_each("bench.push", options.database, sys.argv[1:])
    stage.prepare()
    worst = 0
    for latency_ms in options.latency_ms:
        ratio = compare(options.records, latency_ms, profile=options.profile)
        worst = max(worst, int(latency_ms >= 50 and ratio < GOAL))
    return worst


def compare(count: int, latency_ms: float, *, profile: str | None = None) -> float:
    """Push in four turns (plain, ours, ours, plain), print both rates and return their ratio."""
    from syncportal.sync import local
    from syncportal.sync.drain import default_budget, drain
    from syncportal.sync.events import WORKER
    from syncportal.sync.models import SyncJob

    half = count // 2
    with stage.quick_master(accounts=2 * count + 200, latency_ms=latency_ms) as url:
        account_resource = stage.make_resource(url, concurrency=IN_FLIGHT)
        warm, *turns = [range(1, IN_FLIGHT + 1), range(101, 101 + half), range(101 + half, 101 + 2 * half)]
        ids = {turn: stage.agreed_records(account_resource, turn) for turn in (warm, *turns)}
        plain = Plain(url)
        ours, theirs = stage.Spent(), stage.Spent()

        def push(turn: range, spent: stage.Spent) -> None:
            edits = [local.Edit(pk, {"city": "Lund"}) for pk in ids[turn]]
            for start in range(0, len(edits), 1_000):
                local.save_many(edits[start : start + 1_000], actor=WORKER)
            with spent.measure():
                drain(budget=default_budget(task_s=None))

        push(warm, stage.Spent())
        plain.push(range(2 * count + 110, 2 * count + 110 + IN_FLIGHT))
        later = [range(turn.start + count, turn.stop + count) for turn in turns]
        with theirs.measure():
            plain.push(later[0])
        with _profiled(profile):
            for turn in turns:
                push(turn, ours)
        with theirs.measure():
            plain.push(later[1])
        left = SyncJob.objects.filter(record__resource=account_resource).exclude(status="SYNCED").count()
    rate, plain_rate = 2 * half / ours.wall_s, 2 * half / theirs.wall_s
    print(
        f"push {os.environ['BENCH_DATABASE']:10} {latency_ms:>4g} ms, {2 * half} records, {IN_FLIGHT} in flight: "
        f"{rate:6.0f}/s against {plain_rate:6.0f}/s plain = {rate / plain_rate:.3f}; "
        f"{ours.cpu_s / (2 * half) * 1000:.2f} CPU-s per 1,000 ({theirs.cpu_s / (2 * half) * 1000:.2f} plain, "
        f"{ours.cpu_s / theirs.cpu_s:.2f} times as much), "
        f"{stage.max_rss_mib():.0f} MiB, {left} not synced",
        flush=True,
    )
    return rate / plain_rate if not left else 0.0


def _profiled(path: str | None):
    if path is None:
        return nullcontext()
    import cProfile
    from contextlib import contextmanager

    @contextmanager
    def profiled():
        with cProfile.Profile() as profile:
            yield
        profile.dump_stats(path)

    return profiled()


class Plain:
    """What one would write in ten minutes: a session, a pool of threads, PUT each object."""

    def __init__(self, url: str) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self.url = url
        self.session = requests.Session()
        self.session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=IN_FLIGHT))

    def push(self, numbers: range) -> None:
        """Write every account once."""
        from syncportal.demo.seed import account_rows

        rows = list(account_rows(numbers.stop))
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for status in pool.map(self._put, (rows[number - 1] for number in numbers)):
                if status != 200:
                    raise RuntimeError(f"the plain client met HTTP {status}")

    def _put(self, row: dict) -> int:
        body = {**row, "city": "Lund"}
        answer = self.session.put(
            f"{self.url}/api/accounts/{row['id']}", json=body, headers={"If-Match": '"1"'}, timeout=15
        )
        answer.json()
        return answer.status_code


if __name__ == "__main__":
    sys.exit(main())
