"""Which runs are made: everything around single faults, and a deterministic sample of all the rest.

The whole matrix (every single and double fault, a third party before any call, a death at every point of the request
and at every point of the recovery, eight kinds of remote) has millions of runs. `core` is the part that is walked
completely; `sample` draws the rest by seed, so that the same number always means the same runs.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.crash.checker import violations
from tests.crash.remote import READ_FAULTS, WRITE_FAULTS, Fault, ThirdParty
from tests.crash.scenario import AT_END, MODES, OBJECTS, Scenario, variant
from tests.crash.world import Base, World

WEIGHTS = {"replace": 6, "merge": 5, "mute": 3, "parallel": 4, "no bump": 2, "merge, no bump": 2, "unconditional": 2,
           "unconditional merge": 2}  # fmt: skip
DELIVERIES = (1, 2, 3, 5, AT_END)
STRONG = frozenset({"replace", "merge", "mute", "parallel"})


@dataclass(slots=True)
class Tally:
    """What came of many runs."""

    runs: int = 0
    crashed: int = 0
    points: int = 0
    bad: int = 0
    examples: list[tuple[Scenario, list[str]]] | None = None

    def add(self, scenario: Scenario, world: World, found: list[str]) -> None:
        """Count one run."""
        self.runs += 1
        self.points += len(world.points) + len(world.recovery_points)
        self.crashed += world.crashed
        if found:
            self.bad += 1
            self.examples = [*(self.examples or []), (scenario, found)][:20]


def judged(base: Base, scenario: Scenario, tally: Tally) -> World:
    """Run one scenario, judge it and count it."""
    world = World(base, scenario).run()
    tally.add(scenario, world, violations(world))
    return world


def single_faults(steps: int = 2) -> Iterator[tuple[tuple[int, Fault], ...]]:
    """Yield no fault, and each fault of each call of the forward phase: all snapshots, then all writes."""
    yield ()
    for call in range(2 * steps):
        for fault in READ_FAULTS if call < steps else WRITE_FAULTS:
            yield ((call, fault),)


def families(steps: int = 2) -> list[Scenario]:
    """Return the scenarios of the core; each is run once whole and once dying at each of its points."""
    found = [Scenario(mode=mode, steps=steps, faults=faults) for mode in ("replace", "merge") for faults in
             single_faults(steps)]  # fmt: skip
    writes = range(steps, 2 * steps)
    found += [Scenario(steps=steps, faults=((call, Fault.DELAYED),), deliver_after=late) for call in writes
              for late in DELIVERIES[1:]]  # fmt: skip
    found += [Scenario(mode=mode, steps=steps, between=True, pushed=pushed, faults=faults)
              for mode in ("replace", "merge") for pushed in (False, True)
              for faults in ((), ((2 * steps, Fault.APPLIED_TIMEOUT),))]  # fmt: skip
    return found


def everywhere(base: Base, scenario: Scenario, tally: Tally) -> int:
    """Run a scenario whole, then dying at every point of its request; return how many points there are."""
    points = len(judged(base, scenario, tally).points)
    for number in range(points):
        judged(base, variant(scenario, crash=number), tally)
    return points


def sample(seed: int, count: int, *, steps: int = 2) -> Iterator[Scenario]:
    """Yield a fixed sequence of scenarios drawn from the whole matrix."""
    draw = random.Random(f"{seed}:{steps}")
    names = [mode.name for mode in MODES]
    weights = [WEIGHTS[name] for name in names]
    calls, points = 4 + 4 * steps, 14 + 20 * steps
    for _ in range(count):
        mode = draw.choices(names, weights)[0]
        hit = sorted(draw.sample(range(calls), draw.choice((0, 1, 1, 2, 2, 2))))
        thirds = tuple(
            ThirdParty(draw.randrange(calls), draw.choice(OBJECTS[:steps]), draw.choice(("x", "x", "y", "z")))
            for _ in range(draw.choice((0, 0, 1, 1, 2)))
        )
        kind = draw.choice(("whole", "crash", "crash", "crash", "twice", "twice", "race"))
        yield Scenario(
            mode=mode,
            steps=steps,
            faults=tuple((call, draw.choice(list(Fault))) for call in hit),
            thirds=thirds,
            deliver_after=draw.choice(DELIVERIES),
            crash=draw.randrange(points) if kind in {"crash", "twice"} else None,
            again=draw.randrange(points // 2) if kind == "twice" else None,
            # A process that stands still longer than the settle window is beyond what weaker remotes can promise.
            race=draw.randrange(3 * calls) if kind == "race" and mode in STRONG else None,
            between=draw.random() < 0.15,
            pushed=draw.random() < 0.5,
        )
