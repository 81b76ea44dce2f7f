"""`make chaos`: the long form of the kills, on SQLite and on PostgreSQL, with one line of figures for each.

As a command: `python -m tests.chaos [--kills 50] [--rows 20000] [--database sqlite] [--seed N]`. Each kind of process
(web, main, sentinel, pool member, supervisor) is killed that often, in the middle of edits, groups and undos; then
`--rows` failed records are retried in bulk while a worker dies, and once more with a cancel. Exit code 1 when anything
was lost, doubled, half applied without an open item, or did not converge. Interrupted, it ends all it started.
"""

import argparse
import os
import re
import sys
import time

from tests import children

TESTS = ["tests/kills/test_kills.py", "tests/kills/test_bulk_retry.py"]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-s", "-m", "kills", "-p", "no:xdist", *TESTS]
POSTGRES = [sys.executable, "-m", "tests.postgres", "--"]
FIGURES = re.compile(r"^(sqlite|postgresql): .*", re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    """Run both databases one after another and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="per kind of process and database")
    parser.add_argument("--rows", type=int, default=20_000, help="records to retry in bulk")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args(arguments)
    sizes = {"CHAOS_KILLS": str(given.kills), "CHAOS_SEED": str(given.seed), "CHAOS_BULK": str(given.rows)}
    environment = {**os.environ, **sizes}
    plain = {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    children.end_in_order()
    failed = 0
    lines: list[str] = []
    wanted = ["sqlite", "postgresql"] if given.database == "both" else [given.database]
    for name, command, surroundings in (
        ("SQLite", PYTEST, plain),
        ("PostgreSQL", [*POSTGRES, *PYTEST], environment),
    ):
        if name.lower() not in wanted:
            continue
        print(f"{name}: {given.kills} kills of each kind, seed {given.seed} …", flush=True)
        code, printed = children.run(command, env=surroundings, capture=True)
        failed += code != 0
        lines += [hit.group(0) for hit in FIGURES.finditer(printed)] + ([] if code == 0 else ["FAILED"])
        if code:
            print(printed[-25_000:])
    print("\n".join(["", *lines]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
