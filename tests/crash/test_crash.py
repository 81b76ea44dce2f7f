"""Every way a grouped update can die: enumerated around single faults, sampled by seed over the whole matrix.

Ten thousand runs in shards, in memory; `python -m tests.crash` and `make chaos` make more of them.
"""

import pytest

from tests.crash import matrix
from tests.crash.matrix import Tally
from tests.crash.remote import Fault, ThirdParty
from tests.crash.scenario import AT_END, Scenario
from tests.crash.world import Base, prepared

SHARDS = 12
SAMPLED = 6_516
SEED = 20260302
CORE_RUNS = 2_326
POINTS = {
    "both applied": (Scenario(), 30),
    "the second refused, the first undone": (Scenario(faults=((3, Fault.REJECTED),)), 49),
    "the second unknown, both undone": (Scenario(faults=((3, Fault.APPLIED_TIMEOUT),)), 69),
    "rejected by its snapshots": (Scenario(faults=((1, Fault.FAULT),)), 17),
    "both under way at once": (Scenario(mode="parallel"), 27),
    "two under way, two written ahead, one later": (Scenario(mode="parallel", steps=5), 45),
    "answers that show nothing": (Scenario(mode="mute"), 34),
    "no conditional writes": (Scenario(mode="unconditional"), 34),
}


def _explained(tally: Tally) -> str:
    return "\n".join(f"{scenario}\n    {found}" for scenario, found in tally.examples or [])


@pytest.mark.parametrize("name", POINTS)
def test_the_points_at_which_a_request_can_die_are_all_known(base: Base, name: str) -> None:
    scenario, points = POINTS[name]
    world = matrix.judged(base, scenario, Tally())
    assert len(world.points) == points, world.points


@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_death_around_a_single_fault_breaks_a_promise(base: Base, shard: int) -> None:
    tally = Tally()
    for scenario in matrix.families()[shard::SHARDS]:
        matrix.everywhere(base, scenario, tally)
    assert tally.bad == 0, _explained(tally)
    assert tally.crashed == tally.runs - len(matrix.families()[shard::SHARDS])


@pytest.mark.parametrize("fault", [None, Fault.REJECTED, Fault.APPLIED_TIMEOUT])
def test_no_death_while_steps_are_written_ahead_that_were_never_called_breaks_a_promise(
    base: Base, fault: Fault | None
) -> None:
    tally = Tally()
    faults = () if fault is None else ((6, fault),)
    matrix.everywhere(base, Scenario(mode="parallel", steps=5, faults=faults), tally)
    assert tally.bad == 0, _explained(tally)
    assert tally.crashed == tally.runs - 1


def test_the_single_faults_make_the_runs_that_are_promised(base: Base) -> None:
    runs = sum(1 + len(matrix.judged(base, scenario, Tally()).points) for scenario in matrix.families())
    assert runs == CORE_RUNS


def test_a_write_that_arrives_after_all_windows_is_fenced_off_by_a_remote_that_refused_that_once(base: Base) -> None:
    """The request dies with its write under way, the recovery too, and the fence is answered 4xx."""
    faults = ((5, Fault.REJECTED), (9, Fault.APPLIED_FAULT))
    scenario = Scenario(faults=faults, deliver_after=AT_END, crash=16, again=16, between=True, pushed=True)
    tally = Tally()
    world = matrix.judged(base, scenario, tally)
    assert tally.bad == 0, _explained(tally)
    assert "http write sent" in world.points[-1]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_run_drawn_from_the_whole_matrix_breaks_a_promise(base: Base, shard: int) -> None:
    tally = Tally()
    for scenario in matrix.sample(SEED + shard, SAMPLED // SHARDS):
        matrix.judged(base, scenario, tally)
    assert tally.bad == 0, _explained(tally)
    assert tally.runs == SAMPLED // SHARDS and tally.crashed > tally.runs / 3


def test_a_third_party_before_any_call_of_any_single_fault_is_never_overwritten(base: Base) -> None:
    tally = Tally()
    for faults in matrix.single_faults():
        for call in range(10):
            for name in ("A", "B"):
                third = (ThirdParty(call, name, "x" if call % 2 else "y"),)
                matrix.judged(base, Scenario(faults=faults, thirds=third), tally)
    assert tally.bad == 0, _explained(tally)


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_a_sample_breaks_no_promise_on_either_database() -> None:
    tally = Tally()
    with prepared() as made:
        for scenario in matrix.sample(SEED - 1, 500):
            matrix.judged(made, scenario, tally)
    assert tally.bad == 0, _explained(tally)
    assert tally.crashed > 150
