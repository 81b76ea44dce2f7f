"""Recovery while the request still lives: at every edge of its calls, and truly at once in threads."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection

from tests.crash import matrix
from tests.crash.checker import violations
from tests.crash.matrix import STRONG, Tally
from tests.crash.remote import Fault
from tests.crash.scenario import Scenario
from tests.crash.world import Base, World, prepared

FAULTS = ((), ((3, Fault.REJECTED),), ((2, Fault.APPLIED_TIMEOUT),), ((3, Fault.DELAYED),))


@pytest.mark.parametrize("mode", sorted(STRONG))
def test_a_recovery_at_any_edge_of_the_living_request_breaks_no_promise(base: Base, mode: str) -> None:
    tally = Tally()
    for faults in FAULTS:
        edges = len(
            [label for label in World(base, Scenario(mode=mode, faults=faults)).run().points if "http" in label]
        )
        for edge in range(edges):
            matrix.judged(base, Scenario(mode=mode, faults=faults, race=edge), tally)
    assert tally.bad == 0, tally.examples
    assert tally.runs > 40


class _Racing(World):
    """A world whose request stops at one edge until recovery begins beside it."""

    def __init__(self, base: Base, scenario: Scenario, *, edge: int) -> None:
        self.wait_at, self.passed = edge, 0
        self.reached, self.go, self.lock = threading.Event(), threading.Event(), threading.Lock()
        super().__init__(base, scenario)

    def _edge(self, label: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            if self.passed == self.wait_at:
                self.reached.set()
                self.go.wait(10)
            self.passed += 1

    def say(self) -> None:
        with self.lock:
            super().say()


def _live(world: _Racing, failed: list[BaseException]) -> None:
    try:
        world.request()
    except BaseException as error:
        failed.append(error)
    finally:
        world.reached.set()
        connection.close()


@pytest.fixture
def shared() -> Iterator[Base]:
    """Give threads the suite's own database."""
    with prepared() as made:
        yield made


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("edge", range(10))
def test_a_recovery_beside_the_living_request_in_another_thread_breaks_no_promise(shared: Base, edge: int) -> None:
    for faults in FAULTS:
        world, failed = _Racing(shared, Scenario(faults=faults), edge=edge), []
        live = threading.Thread(target=_live, args=(world, failed))
        live.start()
        assert world.reached.wait(20)
        world.clock.to(world.clock.now + timedelta(seconds=120))
        world.go.set()
        world.recover()
        live.join(30)
        assert not live.is_alive() and not failed, failed
        world.run_on()
        assert violations(world) == []
