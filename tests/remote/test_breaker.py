"""The breaker opens, lets one probe at a time decide, and closes, for any number of workers, on both databases."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncportal.remote import breaker as arithmetic
from syncportal.remote import limits
from syncportal.remote.breaker import BreakerChange, CallResult, Tally
from syncportal.remote.errors import ErrorKind
from syncportal.remote.knobs import BreakerSpec
from syncportal.remote.models import Gate, SlotLease
from tests.remote.gate import GONE, NOW, OK, SPEC, after, at_once, fault, lease, opened

pytestmark = [pytest.mark.db]


def test_three_unreachable_in_a_row_open_the_breaker(remote):
    assert limits.report(remote, [GONE, GONE], breaker=SPEC, now=NOW) is None
    assert limits.report(remote, [OK, GONE, GONE], breaker=SPEC, now=NOW) is None
    assert limits.report(remote, [GONE], breaker=SPEC, now=NOW) is BreakerChange.OPENED
    gate = Gate.objects.get()
    assert (gate.breaker, gate.opened_at, gate.open_until) == ("open", NOW, after(30))
    assert gate.last_error == "3 calls in a row could not reach the remote."
    assert lease(remote, now=after(1)) == limits.Grant(0, 0, "breaker_open", after(30))
    assert limits.blocked(after(1))[remote].reason == "breaker_open"


def test_five_faults_open_it_only_when_three_records_are_concerned(remote):
    one_sick_record = [fault(1), fault(1, ErrorKind.timeout)] * 10
    assert limits.report(remote, one_sick_record, breaker=SPEC, now=NOW) is None
    assert limits.report(remote, [fault(2)], breaker=SPEC, now=NOW) is None
    assert limits.report(remote, [fault(3)], breaker=SPEC, now=NOW) is BreakerChange.OPENED


def test_faults_of_calls_about_no_single_record_count_each(remote):
    listed = fault(None)
    assert limits.report(remote, [listed] * 4, breaker=SPEC, now=NOW) is None
    assert limits.report(remote, [OK], breaker=SPEC, now=NOW) is None, "a good answer ends the row"
    assert limits.report(remote, [*[listed] * 4, fault(1)], breaker=SPEC, now=NOW) is BreakerChange.OPENED
    assert Gate.objects.get().last_error == "5 calls in a row on 1 records timed out or met a server fault."


def test_a_clock_that_is_set_back_does_not_prolong_the_wait_for_a_probe(remote):
    opened(remote)
    back = NOW - timedelta(hours=1)
    assert limits.try_probe(remote, holder="a", now=back, breaker=SPEC)
    assert not limits.try_probe(remote, holder="b", now=back, breaker=SPEC), "one probe at a time all the same"
    earlier = back - timedelta(hours=1)
    assert limits.try_probe(remote, holder="b", now=earlier, breaker=SPEC), "its prober's time lies in the future too"


def test_an_open_breaker_says_what_the_last_call_came_to(remote):
    calls = [CallResult(ErrorKind.server_fault, number % 3, "http_503") for number in range(SPEC.failures)]
    limits.report(remote, calls, breaker=SPEC, now=NOW)
    said = "5 calls in a row on 3 records timed out or met a server fault, the last with http_503."
    assert Gate.objects.get().last_error == said


def test_any_real_answer_starts_the_count_again(remote):
    for kind in (None, ErrorKind.rejected, ErrorKind.conflict, ErrorKind.missing, ErrorKind.unauthorized,
                 ErrorKind.invalid_response, ErrorKind.forbidden):  # fmt: skip
        limits.report(remote, [GONE, GONE, fault(1), fault(2), fault(3), fault(4)], breaker=SPEC, now=NOW)
        assert limits.report(remote, [CallResult(kind, 9)], breaker=SPEC, now=NOW) is None
        gate = Gate.objects.get()
        assert (gate.consecutive_unreachable, gate.consecutive_faults, gate.fault_records) == (0, 0, [])
        assert gate.breaker == "closed"


def test_being_asked_to_wait_is_no_fault(remote):
    limits.report(remote, [GONE, GONE, fault(1)], breaker=SPEC, now=NOW)
    limits.report(remote, [CallResult(ErrorKind.throttled, 1)] * 50, breaker=SPEC, now=NOW)
    gate = Gate.objects.get()
    assert (gate.breaker, gate.consecutive_unreachable, gate.consecutive_faults) == ("closed", 0, 1)


def test_nothing_is_written_while_all_is_well(remote, django_assert_num_queries):
    with django_assert_num_queries(1):
        limits.report(remote, [OK] * 100, breaker=SPEC, now=NOW)
    assert not Gate.objects.exists()
    assert limits.report(remote, [], breaker=SPEC, now=NOW) is None
    opened(remote)
    with django_assert_num_queries(1):
        limits.report(remote, [OK, GONE], breaker=SPEC, now=NOW)
    assert Gate.objects.get().breaker == "open"


def test_one_probe_at_a_time_decides(remote):
    opened(remote)
    assert not limits.try_probe(remote, holder="a", now=after(29))
    assert limits.try_probe(remote, holder="a", now=after(30))
    assert not limits.try_probe(remote, holder="b", now=after(31))
    assert limits.blocked(after(31))[remote].until == after(45)
    assert limits.probe_result(remote, holder="b", ok=True, breaker=SPEC, now=after(31)) is None
    assert limits.probe_result(remote, holder="a", ok=True, breaker=SPEC, now=after(31)) is BreakerChange.CLOSED
    gate = Gate.objects.get()
    assert (gate.breaker, gate.open_until, gate.consecutive_unreachable, gate.last_error) == ("closed", None, 0, "")
    assert lease(remote, now=after(31)).slots == 4
    assert limits.probe_result(remote, holder="a", ok=True, breaker=SPEC, now=after(32)) is None


def test_a_probe_whose_holder_died_is_taken_over(remote):
    opened(remote)
    assert limits.try_probe(remote, holder="dead", now=after(30))
    assert not limits.try_probe(remote, holder="b", now=after(44))
    assert limits.try_probe(remote, holder="b", now=after(45))
    assert limits.probe_result(remote, holder="dead", ok=True, breaker=SPEC, now=after(46)) is None
    assert Gate.objects.get().breaker == "open"


def test_failed_probes_double_the_wait_up_to_ten_times(remote):
    opened(remote)
    now, waits = after(30), []
    for _ in range(6):
        assert limits.try_probe(remote, holder="a", now=now)
        assert limits.probe_result(remote, holder="a", ok=False, breaker=SPEC, now=now) is None
        until = Gate.objects.get().open_until
        assert not limits.try_probe(remote, holder="a", now=until - timedelta(seconds=1))
        waits.append((until - now).total_seconds())
        now = until
    assert waits == [60, 120, 240, 300, 300, 300]


def test_a_running_lease_survives_the_breaker_opening(remote):
    lease(remote, "a", want=3)
    opened(remote)
    assert lease(remote, "a", want=3).slots == 0
    assert SlotLease.objects.get().slots == 3


@given(st.lists(st.sampled_from([None, *ErrorKind]), max_size=60), st.integers(1, 60))
def test_the_tally_does_not_depend_on_how_results_are_batched(kinds, size):
    results = [CallResult(kind, position % 7) for position, kind in enumerate(kinds)]
    whole = arithmetic.count(Tally(), results, spec=SPEC)
    tally, reason = Tally(), ""
    for start in range(0, len(results), size):
        if not reason:
            tally, reason = arithmetic.count(tally, results[start : start + size], spec=SPEC)
    assert (tally, reason) == whole


def test_only_one_of_many_opens_probes_closes_and_pauses(remote):
    opens = at_once(lambda i: limits.report(remote, [GONE] * 3, breaker=SPEC, now=NOW), 6)
    assert opens.count(BreakerChange.OPENED) == 1
    probes = at_once(lambda i: limits.try_probe(remote, holder=f"h{i}", now=after(30)), 6)
    assert probes.count(True) == 1
    holder = f"h{probes.index(True)}"
    closes = at_once(lambda i: limits.probe_result(remote, holder=holder, ok=True, breaker=SPEC, now=after(31)), 6)
    assert closes.count(BreakerChange.CLOSED) == 1
    pauses = at_once(lambda i: limits.pause(remote, reason="x", detail="", now=after(32)), 6)
    assert pauses.count(True) == 1


def test_no_failure_is_lost_when_many_report_at_once(remote):
    wide = BreakerSpec(unreachable=1000, failures=1000, records=1000)
    at_once(lambda i: [limits.report(remote, [fault(i), GONE], breaker=wide, now=NOW) for _ in range(5)], 6)
    gate = Gate.objects.get()
    assert (gate.consecutive_faults, sorted(gate.fault_records)) == (30, list(range(6)))
