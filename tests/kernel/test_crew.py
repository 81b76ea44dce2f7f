"""Crews: so many calls at once, in order, on threads that stay."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial

import pytest

from syncportal.kernel import correlation
from syncportal.kernel.crew import Crew

SOON = 5


class Gate:
    """Calls that stand still until they are let go, and what is known about them."""

    def __init__(self) -> None:
        self.lock, self.open, self.entered = threading.Lock(), threading.Event(), threading.Semaphore(0)
        self.now = self.most = 0
        self.order: list[int] = []

    def call(self, number: int = 0) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(number)
        self.entered.release()
        assert self.open.wait(SOON)
        with self.lock:
            self.now -= 1
        return number

    def wait_for(self, calls: int) -> None:
        for _ in range(calls):
            assert self.entered.acquire(timeout=SOON)


def test_at_most_so_many_run_at_once_and_begin_in_order() -> None:
    gate, crew = Gate(), Crew(3)
    futures = [crew.submit(gate.call, number) for number in range(9)]
    gate.wait_for(3)
    assert (sorted(gate.order), gate.now) == ([0, 1, 2], 3)
    gate.open.set()
    assert [future.result(SOON) for future in futures] == list(range(9))
    assert gate.most == 3
    one = Crew(1)
    found: list[int] = []
    for future in [one.submit(found.append, number) for number in range(50)]:
        future.result(SOON)
    assert found == list(range(50))


def test_what_a_call_raises_is_its_own_and_the_next_one_runs() -> None:
    crew = Crew(1)
    failing: Future[float] = crew.submit(lambda: 1 / 0)
    fine = crew.submit(lambda: "fine")
    with pytest.raises(ZeroDivisionError):
        failing.result(SOON)
    assert fine.result(SOON) == "fine"


def test_the_end_waits_for_what_runs_and_begins_nothing_that_waits() -> None:
    gate, crew = Gate(), Crew(1)
    running, waiting = crew.submit(gate.call, 1), crew.submit(gate.call, 2)
    gate.wait_for(1)
    ended = threading.Event()

    def end() -> None:
        crew.shutdown(cancel_futures=True)
        ended.set()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(CancelledError):
        waiting.result(SOON)
    assert not ended.is_set()
    gate.open.set()
    ending.join(SOON)
    assert ended.is_set() and running.result(0) == 1
    assert gate.order == [1]


def test_crews_run_beside_each_other_and_leave_their_threads_to_the_next() -> None:
    gates = [Gate(), Gate()]
    crews = [Crew(2), Crew(2)]
    futures = [crew.submit(gate.call) for crew, gate in zip(crews, gates, strict=True) for _ in range(2)]
    for gate in gates:
        gate.wait_for(2)
        gate.open.set()
    for future in futures:
        future.result(SOON)
    for crew in crews:
        crew.shutdown()
    before = threading.active_count()
    for _ in range(20):
        crew = Crew(2)
        for future in [crew.submit(int) for _ in range(2)]:
            future.result(SOON)
        crew.shutdown()
    assert threading.active_count() <= before


def test_calls_carry_the_correlation_id_of_whoever_asked_and_of_nobody_after() -> None:
    with correlation.correlated("asked"):
        crew = Crew(1)
    assert crew.submit(correlation.current).result(SOON) == "asked"
    crew.shutdown()
    assert Crew(1).submit(correlation.current).result(SOON) == ""


def test_a_forked_process_has_threads_of_its_own() -> None:
    assert Crew(1).submit(int).result(SOON) == 0
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if Crew(1).submit(int).result(SOON) == 0 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_call_for_which_no_thread_can_be_made_waits_for_those_there_are_or_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, crew, lonely = Gate(), Crew(2), Crew(2)
    running = crew.submit(gate.call, 1)
    gate.wait_for(1)
    queued: list[Callable[[], None]] = []

    def refuse(call: Callable[..., None], *args: object) -> None:
        queued.append(partial(call, *args))  # as the standard pool does before it fails to start a thread
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("syncportal.kernel.crew._threads.submit", refuse)
        waiting = crew.submit(gate.call, 2)
        with pytest.raises(RuntimeError):
            lonely.submit(gate.call, 3)
    for late in queued:
        late()
    assert (gate.order, waiting.done()) == ([1], False)
    gate.open.set()
    assert (running.result(SOON), waiting.result(SOON)) == (1, 2)
    for one in (crew, lonely):
        ending = threading.Thread(target=one.shutdown, daemon=True)
        ending.start()
        ending.join(SOON)
        assert not ending.is_alive()
        assert one.submit(int).result(SOON) == 0
