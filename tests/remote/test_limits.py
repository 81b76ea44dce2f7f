"""Slots, rate and pause hold for any number of workers, on both databases."""

from datetime import timedelta

import pytest
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st

from syncportal.remote import limits
from syncportal.remote.models import Gate, SlotLease
from tests.remote.gate import NOW, after, at_once, lease, opened

pytestmark = [pytest.mark.db]


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


def test_those_who_wait_share_what_becomes_free(remote):
    lease(remote, "drain", want=8)
    for name in ("a", "b", "c"):
        assert lease(remote, name, want=8, waits=True).slots == 0
    limits.release("drain", remote_id=remote)
    assert [lease(remote, name, want=8, waits=True).slots for name in ("a", "b", "c", "d")] == [3, 3, 2, 0]


def test_a_lease_can_give_back_a_part_and_never_grows_by_it(remote):
    lease(remote, "a", want=6)
    limits.shrink(remote, holder="a", slots=2)
    limits.shrink(remote, holder="a", slots=4)
    assert SlotLease.objects.get().slots == 2
    assert lease(remote, "b", want=8).slots == 6


def test_a_lease_of_before_the_clock_was_set_back_ends_when_others_look(remote):
    lease(remote, "dead", want=8, ttl_s=60)
    back = after(-3600)
    assert lease(remote, "a", want=8, now=back).slots == 8
    assert SlotLease.objects.get().holder == "a"
    assert lease(remote, "b", want=8, now=back + timedelta(seconds=5)).slots == 0


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


def test_a_look_at_the_time_before_another_took_the_lock_refills_nothing_twice(remote):
    assert lease(remote, per_second=10).tokens == 10
    assert lease(remote, per_second=10, now=after(0.5)).tokens == 5
    assert lease(remote, per_second=10, now=after(0.2)).tokens == 0
    assert lease(remote, per_second=10, now=after(0.5)).tokens == 0
    assert lease(remote, per_second=10, now=after(0.6)).tokens == 1


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
