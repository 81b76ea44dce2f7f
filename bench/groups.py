"""Grouped updates beside a bare client that makes the same GETs and PUTs, in one run.

Groups of 10 and 100 accounts, one step after another and 16 at once. The bare client reads all objects with 16 threads
and then writes them in the same way, without journal, locks, validation or undo. Ends with 16 clients at once.
`python -m bench.groups [--latency-ms 50] [--rounds 5] [--database sqlite postgresql]`
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench import stage

PARALLEL = 16
GOAL = 1.08
SIZES = (10, 100)


def main() -> int:
    """Run for every database, or (in the child process) for one."""
    parser = argparse.ArgumentParser(prog="python -m bench.groups", description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", nargs="+", default=list(stage.DATABASES), choices=stage.DATABASES)
    options = parser.parse_args()
    if "BENCH_DATABASE" not in os.environ:
        return stage.rerun_for_each("bench.groups", options.database, sys.argv[1:])
    stage.prepare()
    needed = 4 * options.rounds * sum(SIZES) + 16 * PARALLEL  # each group gets accounts that no other group had
    with stage.master(accounts=needed, latency_ms=options.latency_ms) as url:
        resource = stage.make_resource(url)
        stage.agreed_records(resource, range(1, needed + 1))
        bench = Bench(url, resource)
        bench.warm_up()
        worst = max(
            bench.compare(size, parallel, rounds=options.rounds)
            for parallel in (1, PARALLEL)
            for size in SIZES
            if (size, parallel) != (100, 1) or options.latency_ms <= 50
        )
        bench.crowd()
    return int(worst > GOAL)


class Bench:
    """Both clients over one master; every group gets accounts that no other group had."""

    def __init__(self, url: str, resource) -> None:
        import requests
        from django.contrib.auth.models import User
        from requests.adapters import HTTPAdapter

        from syncportal.sync.events import Actor

        self.url, self.resource, self.next = url, resource, 0
        user = User.objects.create_superuser("bench")
        self.actor = Actor("user", user.pk, "bench")
        self.session = requests.Session()
        self.session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=PARALLEL))

    def ids(self, count: int) -> list[str]:
        """Return ids not used before."""
        start, self.next = self.next + 1, self.next + count
        return [f"ACC-{number:04d}" for number in range(start, start + count)]

    def warm_up(self) -> None:
        """Open connections and load what the first call loads."""
        for parallel in (1, PARALLEL):
            self.ours(self.ids(PARALLEL), parallel)
            self.bare(self.ids(PARALLEL), parallel)

    def compare(self, size: int, parallel: int, *, rounds: int) -> float:
        """Take turns, print the medians and return our time over the bare client's."""
        ours, bare = [], []
        for _ in range(rounds):
            bare.append(_timed(lambda: self.bare(self.ids(size), parallel)))
            ours.append(_timed(lambda: self.ours(self.ids(size), parallel)))
        mine, theirs = statistics.median(ours), statistics.median(bare)
        print(
            f"groups {os.environ['BENCH_DATABASE']:10} {size:>3} steps, {parallel:>2} at once: {mine * 1000:7.0f} ms "
            f"against {theirs * 1000:7.0f} ms bare = {mine / theirs:.3f}",
            flush=True,
        )
        return mine / theirs

    def ours(self, ids: list[str], parallel: int) -> None:
        """Send one group through the product."""
        from rollback import answers, service
        from syncportal.remote import configuration

        if self.resource.config.get("policy", {}).get("parallel", 1) != parallel:
            config = self.resource.config | {"policy": {"parallel": parallel}}
            configuration.save_resource(
                remote=self.resource.remote, slug=self.resource.slug, name=self.resource.name, config=config
            )
            self.resource.refresh_from_db()
        updates = [{"occurrenceId": external_id, "changes": {"city": "Lund"}} for external_id in ids]
        body = {"resource": self.resource.slug, "groups": [{"groupId": "g", "updates": updates}]}
        performed = service.perform(body, actor=self.actor, sees_all=True)
        status = answers.render(performed.request)["status"]
        if status != "applied":
            raise RuntimeError(f"the group ended {status}")

    def bare(self, ids: list[str], parallel: int) -> None:
        """Make the same calls with nothing around them."""
        with ThreadPoolExecutor(PARALLEL) as readers:
            rows = list(readers.map(self._get, ids))
        if parallel == 1:
            for row in rows:
                self._put(row)
            return
        with ThreadPoolExecutor(parallel) as writers:
            list(writers.map(self._put, rows))

    def _get(self, external_id: str) -> dict:
        return self.session.get(f"{self.url}/api/accounts/{external_id}", timeout=15).json()

    def _put(self, row: dict) -> None:
        headers = {"If-Match": f'"{row["version"]}"'}
        answer = self.session.put(
            f"{self.url}/api/accounts/{row['id']}", json=row | {"city": "Lund"}, headers=headers, timeout=15
        )
        answer.raise_for_status()
        answer.json()

    def crowd(self) -> None:
        """Let 16 clients send a group of 10 at once, each with objects of its own."""
        from django.db import connection

        batches = [self.ids(10) for _ in range(PARALLEL)]

        def one(ids: list[str]) -> str:
            try:
                self.ours(ids, self.resource.config.get("policy", {}).get("parallel", 1))
            except Exception as error:
                return type(error).__name__
            finally:
                connection.close()
            return "applied"

        began = time.perf_counter()
        with ThreadPoolExecutor(PARALLEL) as pool:
            found = list(pool.map(one, batches))
        counts = {name: found.count(name) for name in sorted(set(found))}
        print(f"16 clients at once, 10 steps each: {time.perf_counter() - began:.2f} s, {counts}", flush=True)


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
