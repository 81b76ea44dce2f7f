"""Turns: a limit that processes share and that the dead give back."""

import os
import signal
from collections.abc import Iterator

import pytest

from syncportal.kernel import turns


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    turns.close_turns()


def test_without_a_limit_everybody_gets_a_turn() -> None:
    with turns.turn() as first, turns.turn() as second:
        assert first and second


def holder() -> tuple[int, int]:
    """Fork a process that takes a turn and keeps it; return its id and a pipe that says whether it got one."""
    answer, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with turns.turn() as mine:
            os.write(tell, b"1" if mine else b"0")
            signal.pause()
        os._exit(0)
    os.close(tell)
    return pid, answer


def test_a_process_too_many_gets_none_until_a_holder_dies() -> None:
    turns.open_turns(2)
    holders = [holder() for _ in range(2)]
    try:
        assert [os.read(answer, 1) for _, answer in holders] == [b"1", b"1"]
        with turns.turn() as mine:
            assert mine is False
        os.kill(holders[0][0], signal.SIGKILL)
        os.waitpid(holders[0][0], 0)
        with turns.turn() as mine:
            assert mine is True
    finally:
        for pid, answer in holders:
            os.close(answer)
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
