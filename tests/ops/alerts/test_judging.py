"""What each rule finds in what was observed: pure values in, findings out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from syncportal.ops.alerts.anomaly import Hour
from syncportal.ops.alerts.judging import (
    Counted,
    DutySeen,
    Judged,
    Observed,
    Outcomes,
    ResourceSeen,
    Rule,
    Stopped,
    judge,
)
from syncportal.ops.alerts.kinds import KINDS, Kind, Scope

NOW = datetime(2026, 3, 23, 9, 30, tzinfo=UTC)
SEEN = Observed(
    now=NOW,
    remotes={1: "Billing", 2: "Shop"},
    resources={10: ResourceSeen("Accounts", 1), 11: ResourceSeen("Invoices", 1), 20: ResourceSeen("Orders", 2)},
)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def rule(kind: Kind, *, scope: Scope | None = None, **changes: Any) -> Rule:
    """Make the rule that a kind starts with, changed."""
    entry = KINDS[kind]
    usual = Rule(
        id=1, kind=kind, scope=scope or entry.scopes[0], severity=entry.severity, window_min=entry.window_min,
        threshold=entry.threshold.default if entry.threshold else 0, minimum=entry.minimum,
    )  # fmt: skip
    return replace(usual, **changes)


def places(judged: Judged) -> dict[str, str]:
    return {finding.place.key: finding.summary for finding in judged.findings}


def with_outcomes(**by_resource: tuple[int, int]) -> Observed:
    return replace(SEEN, outcomes={15: {int(key[1:]): Outcomes(*pair) for key, pair in by_resource.items()}})


def test_a_success_rate_below_the_limit_is_found_and_one_at_the_limit_is_not() -> None:
    seen = with_outcomes(r10=(17, 3), r11=(90, 10), r20=(20, 0))
    assert places(judge([rule(Kind.SUCCESS_RATE)], seen)) == {
        "resource:10": "85 % of 20 attempts succeeded in the last 15 min; the limit is 90 %"
    }


def test_below_the_minimum_sample_a_scope_is_undecided() -> None:
    judged = judge([rule(Kind.SUCCESS_RATE)], with_outcomes(r10=(0, 19)))
    assert judged.findings == ()
    assert judged.undecided == {(1, "resource:10"), (1, "resource:11"), (1, "resource:20")}


def test_a_rate_is_low_since_it_was_seen_to_be() -> None:
    [finding] = judge([rule(Kind.SUCCESS_RATE)], with_outcomes(r10=(10, 10))).findings
    assert finding.since == SEEN.now


def test_a_rate_is_never_rounded_up_to_its_limit() -> None:
    [finding] = judge([rule(Kind.SUCCESS_RATE)], with_outcomes(r10=(89_999, 10_001))).findings
    assert finding.summary.startswith("89.9 % of")


def test_scopes_add_up() -> None:
    seen = with_outcomes(r10=(10, 10), r11=(60, 0), r20=(5, 0))
    assert set(places(judge([rule(Kind.SUCCESS_RATE)], seen))) == {"resource:10"}
    assert set(places(judge([rule(Kind.SUCCESS_RATE, scope=Scope.REMOTE)], seen))) == {"remote:1"}
    assert set(places(judge([rule(Kind.SUCCESS_RATE, scope=Scope.ALL)], seen))) == {"all"}


def test_a_narrower_rule_takes_its_place_out_of_the_wider_one() -> None:
    seen = with_outcomes(r10=(10, 10), r11=(10, 10), r20=(10, 10))
    assert set(places(judge([rule(Kind.SUCCESS_RATE, resource_id=11)], seen))) == {"resource:11"}
    assert set(places(judge([rule(Kind.SUCCESS_RATE, remote_id=1)], seen))) == {"resource:10", "resource:11"}
    wide = rule(Kind.SUCCESS_RATE, except_resources=frozenset({11}), except_remotes=frozenset({2}))
    assert set(places(judge([wide], seen))) == {"resource:10"}


def test_errors_over_the_usual_are_found_per_resource_and_added_up_per_remote() -> None:
    past = [Hour(ago(60 * back), 100, 1) for back in range(200, 1, -1)]
    seen = replace(SEEN, hours={10: [*past, Hour(ago(60), 100, 40)], 11: [*past, Hour(ago(60), 100, 0)]})
    assert places(judge([rule(Kind.ERROR_SPIKE)], seen)) == {
        "resource:10": "40 of 100 attempts failed in the last hour (40 %); usual at this time are 1 %"
    }
    [finding] = judge([rule(Kind.ERROR_SPIKE, scope=Scope.REMOTE)], seen).findings
    assert finding.summary.startswith("40 of 200 attempts")


def test_work_that_waits_too_long_is_found_but_not_at_a_stopped_remote() -> None:
    due = {1: Counted(3, ago(12)), 2: Counted(9, ago(40))}
    seen = replace(SEEN, due=due, stopped={2: Stopped("by_hand", ago(60))})
    judged = judge([rule(Kind.OLDEST_DUE)], seen)
    assert places(judged) == {"remote:1": "3 jobs due, the oldest for 12 min"}
    assert judged.undecided == {(1, "remote:2")}
    assert judge([rule(Kind.OLDEST_DUE)], replace(SEEN, due={1: Counted(3, ago(4.9))})).findings == ()
    assert set(places(judge([rule(Kind.OLDEST_DUE, scope=Scope.ALL)], seen))) == {"all"}


def test_jobs_past_their_lease_are_found_after_the_sweep_had_its_chance() -> None:
    assert judge([rule(Kind.LEASE_OVER)], replace(SEEN, leases_over={1: Counted(1, ago(2))})).findings == ()
    found = judge([rule(Kind.LEASE_OVER)], replace(SEEN, leases_over={1: Counted(1, ago(5))}))
    assert places(found) == {"remote:1": "1 job in processing past the lease, the oldest for 5 min"}


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (Kind.DEAD_LETTERS, "dead_letters", "5 dead letters"),
        (Kind.FAILED_UNDOS, "failed_undos", "5 undos need a person"),
        (Kind.CONFLICTS_WAITING, "conflicts", "5 conflicts wait for a decision"),
        (Kind.DISCREPANCIES, "discrepancies", "5 open discrepancies"),
    ],
)
def test_counted_rows_are_found_from_the_threshold_on(kind: Kind, name: str, words: str) -> None:
    seen = replace(SEEN, **{name: {10: Counted(2, ago(9)), 11: Counted(3, ago(3))}})
    [finding] = judge([rule(kind, scope=Scope.REMOTE)], seen).findings
    assert (finding.summary, finding.value, finding.since) == (words, 5, ago(9))
    assert judge([rule(kind, scope=Scope.REMOTE, threshold=6)], seen).findings == ()
    assert judge([rule(kind, scope=Scope.REMOTE)], SEEN) == Judged()


def test_a_remote_that_is_down_and_one_that_refused_us_are_told_apart() -> None:
    seen = replace(
        SEEN, stopped={1: Stopped("breaker", ago(1), "3 calls in a row"), 2: Stopped("credential", ago(2), "401")}
    )
    assert places(judge([rule(Kind.BREAKER_OPEN)], seen)) == {
        "remote:1": "The remote does not answer: 3 calls in a row"
    }
    assert places(judge([rule(Kind.CREDENTIAL_REFUSED)], seen)) == {
        "remote:2": "The remote refused our credential: 401"
    }
    assert judge([rule(Kind.BREAKER_OPEN, threshold=2)], seen).findings == ()
    by_hand = replace(SEEN, stopped={1: Stopped("by_hand", ago(1))})
    assert judge([rule(Kind.BREAKER_OPEN), rule(Kind.CREDENTIAL_REFUSED)], by_hand).findings == ()


def test_no_worker_is_found_with_the_time_of_the_last_one() -> None:
    seen = replace(SEEN, worker_alive=False, worker_seen_at=ago(7))
    assert places(judge([rule(Kind.NO_WORKER)], seen)) == {
        "all": "No heartbeat of any worker since 2026-03-23 09:23:00 UTC"
    }
    assert judge([rule(Kind.NO_WORKER)], SEEN) == Judged()


def test_a_duty_that_is_late_or_fails_again_and_again_is_found() -> None:
    fine = DutySeen("seal", 60, ago(3))
    late = DutySeen("sweep", 60, ago(8))
    broken = DutySeen("retry", 300, ago(1), failures=3, result="ValueError: no paper")
    assert judge([rule(Kind.SCHEDULE_NOT_RUN)], replace(SEEN, duties=(fine,))) == Judged()
    found = places(judge([rule(Kind.SCHEDULE_NOT_RUN)], replace(SEEN, duties=(fine, late, broken))))
    assert found == {"all": "sweep has not begun for 8 min; retry failed 3 times in a row: ValueError: no paper"}


def test_notices_that_do_not_arrive_are_found() -> None:
    seen = replace(SEEN, given_up=Counted(1, ago(10)))
    assert places(judge([rule(Kind.DELIVERIES_FAILING)], seen)) == {
        "all": "1 notice given up, or refused again and again"
    }


def test_every_kind_can_be_judged_of_nothing() -> None:
    for kind, entry in KINDS.items():
        for scope in entry.scopes:
            assert judge([rule(Kind(kind), scope=scope)], SEEN).findings == ()
