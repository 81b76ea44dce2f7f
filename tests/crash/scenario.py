"""What a run is about: the objects, what the request wants of them, the kind of remote, and what goes wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.crash.remote import Fault, ThirdParty

OBJECTS = ("A", "B", "C", "D", "E")
START = {"x": 1, "y": 1, "z": 1}
WANTED: Mapping[str, dict[str, Any]] = {
    "A": {"x": "ours-A"},
    "B": {"x": "ours-B", "z": None},
    "C": {"x": "ours-C", "new": "ours-C"},
    "D": {"x": "ours-D"},
    "E": {"x": "ours-E"},
}


@dataclass(frozen=True, slots=True)
class Mode:
    """One kind of remote and policy."""

    name: str
    merge: bool = False
    conditional: bool = True
    bumps: bool = True
    shows: bool = True
    parallel: int = 1


MODES = (
    Mode("replace"),
    Mode("merge", merge=True),
    Mode("mute", shows=False),
    Mode("parallel", parallel=2),
    Mode("no bump", bumps=False),
    Mode("merge, no bump", merge=True, bumps=False),
    Mode("unconditional", conditional=False),
    Mode("unconditional merge", merge=True, conditional=False),
)
BY_NAME = {mode.name: mode for mode in MODES}
AT_END = 10_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """What goes wrong in one run.

    crash and again: numbers of the points at which the request and then the recovery die. race: at this edge of the
    live request recovery runs to its end. deliver_after: how many calls later a delayed write arrives. between: A's y
    changes after the reads that run ahead and before the hold; pushed: by a push of our own, so the record has it.
    """

    mode: str = "replace"
    steps: int = 2
    faults: tuple[tuple[int, Fault], ...] = ()
    thirds: tuple[ThirdParty, ...] = ()
    deliver_after: int = 1
    crash: int | None = None
    again: int | None = None
    race: int | None = None
    between: bool = False
    pushed: bool = False


def variant(scenario: Scenario, **changes: Any) -> Scenario:
    """Return the scenario with other particulars."""
    return replace(scenario, **changes)
