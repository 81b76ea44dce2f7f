"""`python -m tests.crash`: crash runs by the thousand, and what the negative controls make of the same runs.

    python -m tests.crash --steps 3 --runs 5000      groups of three
    python -m tests.crash --core                     every death around every single fault
    python -m tests.crash --controls                 the table of protocols that are known to be wrong

Exit code 1 when a run of ours broke a promise, or a control broke none.
"""

import argparse
import gc
import time

from tests.crash import controls, database, matrix
from tests.crash.world import Base, prepared


def main(arguments: list[str] | None = None) -> int:
    """Make the runs and print one line of figures for each kind."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2, choices=(1, 2, 3, 4))
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--core", action="store_true")
    parser.add_argument("--controls", action="store_true")
    given = parser.parse_args(arguments)
    gc.freeze()
    with database.in_memory(), prepared() as base:
        if given.controls:
            return _controls(base, seed=given.seed, runs=given.runs, steps=given.steps)
        return _ours(base, given)


def _ours(base: Base, given: argparse.Namespace) -> int:
    tally = matrix.Tally()
    began = time.monotonic()
    if given.core:
        for scenario in matrix.families(given.steps):
            matrix.everywhere(base, scenario, tally)
    for scenario in matrix.sample(given.seed, 0 if given.core else given.runs, steps=given.steps):
        matrix.judged(base, scenario, tally)
    for scenario, found in tally.examples or []:
        print(scenario, found, sep="\n    ")
    print(
        f"crash runs: {given.steps} steps, {tally.runs} runs, {tally.crashed} died, {tally.points} points passed, "
        f"{tally.bad} violations, {time.monotonic() - began:.0f} s"
    )
    return 1 if tally.bad else 0


def _controls(base: Base, *, seed: int, runs: int, steps: int) -> int:
    table = controls.table(base, seed=seed, count=runs, steps=steps)
    print(controls.printed(table))
    return 0 if all((row.bad > 0) == row.wrong for row in table) else 1
