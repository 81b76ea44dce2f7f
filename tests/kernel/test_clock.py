"""The clock of one request goes on by itself."""

import time
from datetime import timedelta

import pytest

from syncportal.kernel.clock import running_clock

pytestmark = pytest.mark.django_db


@pytest.mark.skipif("not hasattr(__import__('time'), 'CLOCK_BOOTTIME')", reason="this system counts no sleep")
def test_a_requests_clock_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep_s, usual = 0.0, time.clock_gettime

    def of_a_machine_that_slept(clock: int) -> float:
        return usual(clock) + (asleep_s if clock == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", of_a_machine_that_slept)
    clock = running_clock()
    before = clock()
    asleep_s = 3600.0
    assert timedelta(hours=1) <= clock() - before < timedelta(hours=1, minutes=1)
