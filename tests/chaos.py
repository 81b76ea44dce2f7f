"""`make chaos`: the long form of the kills, on SQLite and on PostgreSQL, with one line of figures for each.

As a command: `python -m tests.chaos [--kills 50] [--database sqlite] [--seed N]`. Each kind of process (web, main,
sentinel, pool member, supervisor) is killed that often;
exit code 1 when anything was lost, doubled or did not converge.
"""

import argparse
import os
import re
import subprocess
import sys
import time

PYTEST = [sys.executable, "-m", "pytest", "-q", "-s", "-m", "kills", "-p", "no:xdist", "tests/kills/test_kills.py"]
POSTGRES = [sys.executable, "-m", "tests.postgres", "--"]
FIGURES = re.compile(r"^(sqlite|postgresql): .*", re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    """Run both databases one after another and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="per kind of process and database")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args(arguments)
    environment = {**os.environ, "CHAOS_KILLS": str(given.kills), "CHAOS_SEED": str(given.seed)}
    plain = {name: value for name, value in environment.items() if name != "DATABASE_URL"}
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
        ran = subprocess.run(command, env=surroundings, capture_output=True, text=True)
        failed += ran.returncode != 0
        lines += [hit.group(0) for hit in FIGURES.finditer(ran.stdout)] + ([] if ran.returncode == 0 else ["FAILED"])
        if ran.returncode:
            print(ran.stdout[-20_000:], ran.stderr[-5_000:], sep="\n")
    print("\n".join(["", *lines]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
