"""The seven stages, each with an answer that fails there and at no earlier one; and the checks of edits."""

from typing import Any

import pytest

from syncportal.kernel.backoff import exponential_delay_s, honour_retry_after, retry_delay_s
from syncportal.sync.validation import STAGES, check_answer, checksum_of, edit_problems
from tests.factories import answer, shown, spec_of

SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "seats": {"type": "integer", "minimum": 0},
        "updated_at": {"type": "string"},
    },
}
CHECKSUM = {"from": "body", "pointer": "/checksum", "algorithm": "sha256", "fields": ["/name", "/seats"]}
SPEC = spec_of(schema=SCHEMA, checksum=CHECKSUM)
GOOD = {"id": "A", "name": "Ann", "seats": 2, "version": 4}


def signed(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "checksum": checksum_of(document, algorithm="sha256", fields=("/name", "/seats"))}


def check(document: dict[str, Any], *, spec: Any = SPEC, known: str | None = "4", headers: Any = None) -> Any:
    made = answer(document, **(headers or {}))
    return check_answer(
        made, shown(document, external_id=document.get("id")), spec=spec, expected_id="A", known_version=known
    )


def test_a_good_answer_passes_all_stages_in_order() -> None:
    report = check(signed(GOOD))
    assert report.failed is None
    assert tuple(verdict.stage for verdict in report.verdicts) == STAGES


@pytest.mark.parametrize(
    ("document", "stage", "code"),
    [
        (signed({**GOOD, "id": "B"}), "required", "wrong_id"),
        (signed({"id": "A", "seats": 2, "version": 4}), "required", "required"),
        (signed({**GOOD, "seats": "two"}), "types", "types"),
        (signed({**GOOD, "seats": -1}), "rules", "rules"),
        (signed({**GOOD, "version": 3}), "version", "older"),
        ({**GOOD, "checksum": "00"}, "checksum", "checksum"),
        (GOOD, "checksum", "checksum"),
    ],
)
def test_the_first_stage_that_fails_stops_and_says_why(document: dict, stage: str, code: str) -> None:
    report = check(document)
    assert (report.failed.stage, report.failed.code) == (stage, code)
    assert report.failed.detail
    assert [verdict.stage for verdict in report.verdicts] == list(STAGES[: STAGES.index(stage) + 1])
    assert all(verdict.ok for verdict in report.verdicts[:-1])


def test_a_missing_field_is_told_before_a_wrong_type_whatever_the_schema_meets_first() -> None:
    assert check({"id": "A", "seats": "two", "version": 4}).failed.stage == "required"


@pytest.mark.parametrize(
    ("known", "seen", "ok"),
    [
        ("9", "10", True),
        ("10", "9", False),
        ("abc", "abd", True),
        ("2026-01-01T00:00:00Z", "2025-12-31T23:59:59+00:00", False),
        ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", True),
    ],
)
def test_versions_are_ordered_only_when_both_are_numbers_or_times(known: str, seen: str, ok: bool) -> None:
    report = check(signed({**GOOD, "version": seen}), known=known)
    assert (report.failed is None) is ok


def test_a_checksum_may_stand_in_a_header() -> None:
    spec = spec_of(schema=SCHEMA, checksum={"from": "header", "name": "X-Checksum", "fields": ["/name"]})
    right = checksum_of(GOOD, algorithm="sha256", fields=("/name",))
    assert check(GOOD, spec=spec, headers={"X_Checksum": f'"{right.upper()}"'}).failed is None
    assert check(GOOD, spec=spec, headers={"X_Checksum": "00"}).failed.stage == "checksum"


def test_a_checksum_is_over_canonical_json_so_order_and_spelling_do_not_count() -> None:
    one = checksum_of({"b": "é", "a": 1}, algorithm="sha256", fields=("/a", "/b"))
    assert one == checksum_of({"a": 1, "b": "é", "c": 3}, algorithm="sha256", fields=("/b", "/a"))
    assert one != checksum_of({"a": 2, "b": "é"}, algorithm="sha256", fields=("/a", "/b"))


def test_an_edit_is_told_everything_that_is_wrong_with_it() -> None:
    problems = edit_problems({"name": "A", "seats": -1}, spec=SPEC)
    assert [(problem.pointer, problem.code) for problem in problems] == [("/name", "minLength"), ("/seats", "minimum")]
    assert [problem.pointer for problem in edit_problems({"seats": 1}, spec=SPEC)] == ["/name"]


def test_an_edit_is_not_judged_for_what_the_remote_fills_in() -> None:
    schema = {**SCHEMA, "required": ["id", "name", "version", "updated_at"]}
    assert edit_problems({"name": "Ann"}, spec=spec_of(schema=schema)) == []


def test_retries_wait_five_times_longer_each_time_and_are_never_early() -> None:
    for chance in (0.0, 0.5, 0.999):
        delays = [retry_delay_s(n, delays_s=(5, 25, 125), jitter=0.25, chance=chance) for n in (1, 2, 3)]
        for delay, least in zip(delays, (5, 25, 125), strict=True):
            assert least <= delay <= least * 1.25
    assert retry_delay_s(4, delays_s=(5, 25, 125), jitter=0.25, chance=0) is None
    assert retry_delay_s(0, delays_s=(5, 25, 125), jitter=0.25, chance=0) is None


def test_a_remotes_wish_to_wait_counts_when_it_is_longer_and_is_capped() -> None:
    assert honour_retry_after(5, retry_after_s=None, cap_s=3600) == 5
    assert honour_retry_after(5, retry_after_s=60, cap_s=3600) == 60
    assert honour_retry_after(5, retry_after_s=1, cap_s=3600) == 5
    assert honour_retry_after(5, retry_after_s=-10, cap_s=3600) == 5
    assert honour_retry_after(5, retry_after_s=10**9, cap_s=3600) == 3600


def test_exponential_delays_double_up_to_their_cap() -> None:
    delays = [exponential_delay_s(n, base_s=5, cap_s=3600, jitter=0, chance=0) for n in (1, 2, 3, 11, 5000)]
    assert delays == [5, 10, 20, 3600, 3600]
