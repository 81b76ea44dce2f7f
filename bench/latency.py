"""How long a saved edit takes to reach the master with a warm worker, and that a slow master slows no save.

From the commit of a save to its PUT arriving at the demo master (both clocks are this machine's), with `runworker` in a
process of its own. Then the time that a save takes while the master answers in 10 ms and in 10 s.
`python -m bench.latency [--saves 40] [--database sqlite postgresql]`
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time

from bench import stage

GOAL_S = 0.5


def main() -> int:
    """Run for every database, or (in the child process) for one."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--saves", type=int, default=40)
    parser.add_argument("--database", nargs="+", default=list(stage.DATABASES), choices=stage.DATABASES)
    options = parser.parse_args()
    if "BENCH_DATABASE" not in os.environ:
        return stage.rerun_for_each("bench.latency", options.database, sys.argv[1:])
    stage.prepare()
    command = [sys.executable, "manage.py", "runworker"]
    with stage.master(accounts=options.saves * 3 + 5) as url:
        worker = subprocess.Popen(command, cwd=stage.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return measure(url, options.saves)
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()


def measure(url: str, saves: int) -> int:
    """Print the figures; return 1 when the median misses the goal."""
    from syncportal.demo import DemoControl
    from syncportal.sync import local
    from syncportal.sync.events import WORKER

    control = DemoControl(url)
    account_resource = stage.make_resource(url)
    ids = stage.agreed_records(account_resource, range(1, saves * 3 + 1))

    def save(pk: int) -> tuple[float, float]:
        before = time.monotonic()
        local.save(local.Edit(pk, {"city": "Lund"}), actor=WORKER)
        return before, time.monotonic()

    save(ids[0])
    deadline = time.monotonic() + 60
    while not control.writes():
        if time.monotonic() > deadline:
            print("latency: the worker pushed nothing within a minute", flush=True)
            return 1
        time.sleep(0.2)
    committed: dict[str, float] = {}
    for number, pk in enumerate(ids[1:saves], 2):
        committed[f"ACC-{number:04d}"] = save(pk)[1]
        time.sleep(0.35 + number % 7 * 0.05)
    time.sleep(2)
    arrived: dict[str, float] = {}
    for request in control.requests():
        if request["method"] == "PUT":
            arrived.setdefault(request["object_id"], request["at"])
    waits = sorted(arrived[name] - at for name, at in committed.items() if name in arrived)
    median, late = statistics.median(waits), waits[int(len(waits) * 0.95)]
    durations = {}
    for latency_ms in (10, 10_000):
        control.clear_faults()
        control.add_fault(kind="latency", settings={"latency_ms": latency_ms})
        start = saves if latency_ms == 10 else 2 * saves
        durations[latency_ms] = statistics.median(
            after - before for before, after in map(save, ids[start : start + saves])
        )
    control.clear_faults()
    print(
        f"latency {os.environ['BENCH_DATABASE']:10} commit to PUT: median {median * 1000:.0f} ms, "
        f"95 % {late * 1000:.0f} ms, {len(waits)} of {len(committed)} arrived; "
        f"a save takes {durations[10] * 1000:.1f} ms with a master of 10 ms, "
        f"{durations[10_000] * 1000:.1f} ms with one of 10 s",
        flush=True,
    )
    return int(median > GOAL_S or len(waits) < len(committed))


if __name__ == "__main__":
    sys.exit(main())
