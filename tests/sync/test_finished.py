"""Finished attempts wake the drain once a batch, and none is lost or kept waiting for long."""

import threading
import time

from syncportal.sync.finished import Finished


def test_what_ended_together_is_taken_together() -> None:
    finished: Finished[int] = Finished()

    def put_all() -> None:
        for number in range(20):
            finished.put(number)
            time.sleep(0.001)

    thread = threading.Thread(target=put_all)
    thread.start()
    assert finished.take(first_s=5, batch=20, batch_s=5) == list(range(20))
    thread.join()


def test_a_full_batch_ends_the_waiting_at_once() -> None:
    finished: Finished[int] = Finished()
    finished.put(1)
    begun = time.monotonic()
    assert finished.take(first_s=5, batch=1, batch_s=5) == [1]
    assert time.monotonic() - begun < 4


def test_an_incomplete_batch_is_taken_after_its_time_and_nothing_after_the_first_wait() -> None:
    finished: Finished[int] = Finished()
    finished.put(1)
    assert finished.take(first_s=5, batch=2, batch_s=0.01) == [1]
    assert finished.take(first_s=0.01, batch=2, batch_s=5) == []


def test_nothing_is_lost_between_many_threads() -> None:
    finished: Finished[int] = Finished()
    threads = [
        threading.Thread(target=lambda start=start: [finished.put(start + number) for number in range(200)])
        for start in range(0, 1600, 200)
    ]
    for thread in threads:
        thread.start()
    taken: list[int] = []
    while more := finished.take(first_s=0.5, batch=50, batch_s=0.01):
        taken += more
    assert sorted(taken) == list(range(1600))
    for thread in threads:
        thread.join()
