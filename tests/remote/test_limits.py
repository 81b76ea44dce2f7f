"""Slots, rate, breaker and pause hold for any number of workers, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st

from syncportal.remote import breaker as arithmetic
from syncportal.remote import limits
from syncportal.remote.breaker import BreakerChange, CallResult, Tally
from syncportal.remote.errors import ErrorKind
from syncportal.remote.knobs import BreakerSpec
from syncportal.remote.models import Gate, Remote, SlotLease

pytestmark = [pytest.mark.db]

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPEC = BreakerSpec(unreachable=3, failures=5, records=3, open_s=30.0)
OK = CallResult(None, 1)
GONE = CallResult(ErrorKind.unreachable, 1)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def fault(record_id, kind=ErrorKind.server_fault):
    return CallResult(kind, record_id)


@pytest.fixture
def remote(transactional_db):
    return Remote.objects.create(slug="ops", base_url="http://127.0.0.1:1").pk


def lease(remote, holder="a", *, want=4, cap=8, per_second=None, now=NOW, **rest):
    return limits.lease(remote, holder=holder, want=want, cap=cap, per_second=per_second, now=now, **rest)


def opened(remote, *, now=NOW):
    assert limits.report(remote, [GONE] * 3, breaker=SPEC, now=now) is BreakerChange.OPENED


# --- slots ------------------------------------------------------------------------------------------------------------


def test_holders_share_the_concurrency_and_never_exceed_it(remote):
    assert lease(remote, "a", want=6).slots == 6
    assert lease(remote, "b", want=6).slots == 2
    assert lease(remote, "c", want=6).slots == 0
    limits.release("a", remote_id=remote)
    assert lease(remote, "c", want=6).slots == 6


def test_renewing_a_lease_changes_its_size_and_end(remote):
    lease(remote, "a", want=6)
    assert lease(remote, "a", want=2, now=after(20)).slots == 2
    assert lease(remote, "b", want=8, now=after(35)).slots == 6
    assert SlotLease.objects.get(holder="a").expires_at == after(50)


def test_an_expired_lease_frees_its_slots(remote):
    lease(remote, "a", want=8)
    assert lease(remote, "b", want=8, now=after(29)).slots == 0
    assert lease(remote, "b", want=8, now=after(30)).slots == 8
    assert not SlotLease.objects.filter(holder="a").exists()


def test_a_lease_is_extended_only_while_it_lives(remote):
    lease(remote, "a")
    assert limits.extend(remote, holder="a", now=after(10)) is True
    assert SlotLease.objects.get().expires_at == after(40)
    assert limits.extend(remote, holder="a", now=after(40)) is False
    assert limits.extend(remote, holder="b", now=after(10)) is False


def test_whoever_waits_for_a_slot_is_counted_by_the_others_until_it_gets_one_or_gives_up(remote):
    lease(remote, "a", want=8)
    assert lease(remote, "b", want=1, waits=True) == limits.Grant(0, 0)
    assert lease(remote, "c", want=1) == limits.Grant(0, 0, waiting=1), "asking once is no waiting"
    assert lease(remote, "a", want=8).waiting == 1
    assert lease(remote, "b", want=1, waits=True, now=after(2)).slots == 0, "the wish is renewed"
    assert (lease(remote, "a", want=7, now=after(4)).slots, lease(remote, "a", want=7, now=after(4)).waiting) == (7, 1)
    assert lease(remote, "b", want=1, waits=True, now=after(4)).slots == 1
    assert lease(remote, "a", want=8, now=after(4)) == limits.Grant(7, limits.UNLIMITED)
    lease(remote, "d", want=1, waits=True, now=after(4))
    assert lease(remote, "a", want=7, now=after(4)).waiting == 1
    assert lease(remote, "a", want=7, now=after(4 + limits.WISH_S)).waiting == 0, "it has gone without a word"


def test_a_lowered_concurrency_takes_effect_at_the_next_renewal(remote):
    lease(remote, "a", want=4)
    lease(remote, "b", want=4)
    assert lease(remote, "a", want=4, cap=5).slots == 1


# --- rate -------------------------------------------------------------------------------------------------------------


def test_without_a_rate_there_is_no_limit_and_no_write(remote):
    lease(remote)
    assert lease(remote).tokens == limits.UNLIMITED
    assert Gate.objects.get().tokens_at is None


def test_tokens_start_full_and_refill_with_time(remote):
    assert lease(remote, per_second=10).tokens == 10
    empty = lease(remote, per_second=10)
    assert (empty.tokens, empty.blocked, empty.slots) == (0, "rate", 4)
    assert empty.until == after(0.1)
    assert lease(remote, per_second=10, now=after(0.5)).tokens == 5
    assert lease(remote, per_second=10, now=after(60)).tokens == 10


def test_a_rate_below_one_a_second_lets_one_call_through_at_a_time(remote):
    assert lease(remote, per_second=0.2).tokens == 1
    assert lease(remote, per_second=0.2, now=after(4.9)).tokens == 0
    assert lease(remote, per_second=0.2, now=after(5)).tokens == 1


def test_calls_beyond_the_grant_are_paid_before_the_next_is_granted(remote):
    assert lease(remote, per_second=10).tokens == 10
    assert lease(remote, per_second=10, unspent=-5) == limits.Grant(4, 0, limits.RATE, after(0.6))
    assert lease(remote, per_second=10, now=after(0.7)).tokens == 2
    limits.release("a", remote_id=remote, unspent=-10)
    assert lease(remote, per_second=10, now=after(1.6)).tokens == 0
    assert lease(remote, per_second=10, now=after(1.8)).tokens == 1


def test_whoever_wants_few_calls_leaves_the_rest_and_what_was_not_used_comes_back(remote):
    assert lease(remote, per_second=10, most=1).tokens == 1
    limits.release("a", remote_id=remote, unspent=1)
    assert lease(remote, "b", per_second=10).tokens == 10


@pytest.mark.parametrize("busy", [True, False])
def test_tokens_of_a_holder_that_gets_no_slot_are_not_lost(remote, busy):
    assert lease(remote, "a", per_second=10, want=8).tokens == 10
    limits.pause(remote, reason="x", detail="", now=NOW)
    assert lease(remote, "a", per_second=10, want=8, unspent=6).tokens == 0
    limits.resume(remote, now=NOW)
    if busy:
        assert lease(remote, "c", per_second=10, unspent=1).slots == 0
    assert lease(remote, "a", per_second=10, want=8).tokens == 6 + busy


def test_unspent_tokens_come_back(remote):
    assert lease(remote, per_second=10).tokens == 10
    assert lease(remote, per_second=10, unspent=7).tokens == 7
    assert lease(remote, per_second=10, unspent=700).tokens == 10


def test_tokens_are_shared_in_proportion_to_the_slots(remote):
    lease(remote, "b", want=4)
    assert lease(remote, "a", want=4, per_second=10).tokens == 5
    assert lease(remote, "b", want=4, per_second=10).tokens == 3


def test_a_clock_that_jumps_neither_starves_nor_floods(remote):
    lease(remote, per_second=10)
    back = lease(remote, per_second=10, now=after(-3600))
    assert back.tokens == 0
    assert lease(remote, per_second=10, now=after(-3599)).tokens == 10
    assert lease(remote, per_second=10, now=after(86400)).tokens == 10


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 5)), max_size=30), st.sampled_from([0.5, 1, 3, 20]))
def test_no_sequence_of_requests_exceeds_the_rate(steps, per_second):
    gate = Gate(pk=0)
    now, granted = NOW, 0
    kept = {}

    class Rows:
        def filter(self, **_):
            return self

        def update(self, **values):
            kept.update(values)

    original, Gate.objects = Gate.objects, Rows()
    try:
        for wait, _ in steps:
            now += timedelta(seconds=wait)
            grant = limits._take_tokens(gate, slots=1, share=1.0, per_second=per_second, now=now, unspent=0, most=None)
            gate.tokens, gate.tokens_at = kept["tokens"], kept["tokens_at"]
            granted += grant.tokens
    finally:
        Gate.objects = original
    assert granted <= max(1, per_second) + per_second * (now - NOW).total_seconds() + 1e-6


# --- breaker ----------------------------------------------------------------------------------------------------------


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


# --- pause ------------------------------------------------------------------------------------------------------------


def test_a_pause_is_told_to_one_caller_and_ends_by_a_person(remote):
    assert limits.pause(remote, reason="unauthorized", detail="The credential was refused.", now=NOW) is True
    assert limits.pause(remote, reason="unauthorized", detail="again", now=NOW) is False
    assert lease(remote).blocked == "paused"
    assert limits.blocked(after(86400)) == {
        remote: limits.Blocked("paused", None, "The credential was refused."),
    }
    assert limits.resume(remote, now=after(5)) is True
    assert limits.resume(remote, now=after(5)) is False
    assert lease(remote).slots == 4
    assert limits.blocked(after(5)) == {}


def test_a_paused_remote_is_not_probed(remote):
    opened(remote)
    limits.pause(remote, reason="operator", detail="", now=NOW)
    assert not limits.try_probe(remote, holder="a", now=after(60))
    limits.resume(remote, now=after(61))
    assert limits.try_probe(remote, holder="a", now=after(61))


def test_the_last_connection_test_is_kept(remote):
    limits.record_check(remote, status="DEGRADED", ms=2300, error="", now=NOW)
    gate = Gate.objects.get()
    assert (gate.last_check, gate.last_check_ms, gate.last_check_at) == ("DEGRADED", 2300, NOW)


# --- many at once -----------------------------------------------------------------------------------------------------


def at_once(work, count):
    """Run work(i) in `count` threads that start together, each on a connection of its own."""
    barrier = threading.Barrier(count)

    def run(position):
        try:
            barrier.wait()
            return work(position)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_leases_taken_at_once_never_exceed_the_concurrency(remote):
    def work(position):
        granted = []
        for turn in range(6):
            now = after(turn)
            granted.append(lease(remote, f"h{position}", want=1 + (position + turn) % 5, cap=10, now=now).slots)
            live = SlotLease.objects.filter(remote_id=remote).aggregate(total=Sum("slots"))["total"] or 0
            assert live <= 10
            if turn % 3 == 2:
                limits.release(f"h{position}", remote_id=remote)
        return granted

    assert sum(map(sum, at_once(work, 6))) > 0


def test_tokens_taken_at_once_never_exceed_the_rate(remote):
    def work(position):
        return sum(lease(remote, f"h{position}", want=2, cap=100, per_second=50).tokens for _ in range(5))

    assert sum(at_once(work, 6)) == 50


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
