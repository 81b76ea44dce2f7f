"""How many edits a second are saved in bulk: record, job, event, one ring. `python -m bench.enqueue [--records N]`"""

import argparse
import os
import sys

from bench import stage

GOAL_PER_S = 3_000


def main() -> int:
    """Run for every database, or (in the child process) for one."""
    parser = argparse.ArgumentParser(prog="python -m bench.enqueue", description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--database", nargs="+", default=list(stage.DATABASES), choices=stage.DATABASES)
    options = parser.parse_args()
    if "BENCH_DATABASE" not in os.environ:
        return stage.rerun_for_each("bench.enqueue", options.database, sys.argv[1:])
    stage.prepare()

    from syncportal.sync import local
    from syncportal.sync.events import WORKER

    account_resource = stage.make_resource("http://127.0.0.1:1")
    ids = stage.agreed_records(account_resource, range(1, options.records + 1))
    edits = [local.Edit(pk, {"city": "Lund"}) for pk in ids]
    spent = stage.Spent()
    with spent.measure():
        for start in range(0, len(edits), options.batch):
            local.save_many(edits[start : start + options.batch], actor=WORKER)
    rate = len(edits) / spent.wall_s
    print(
        f"enqueue {os.environ['BENCH_DATABASE']:10} {len(edits)} edits: {rate:.0f}/s (goal {GOAL_PER_S}), "
        f"{spent.cpu_s / len(edits) * 1000:.2f} CPU-s per 1,000, {stage.max_rss_mib():.0f} MiB",
        flush=True,
    )
    return int(rate < GOAL_PER_S)


if __name__ == "__main__":
    sys.exit(main())
