"""Failures with the same cause get the same words, whatever values stand in them."""

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncportal.sync.causes import LONGEST, cause_of, normalised


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("The remote failed (HTTP 503): upstream 10.0.0.7:8080 down", "The remote failed (HTTP 503): upstream # down"),
        ("Seats must be at most 40, was 55.", "Seats must be at most #, was #"),
        ('The name "O\'Neil & Sons" is taken', "The name … is taken"),
        ("Object SH-0021 is locked by 7f3c9a10-1111-4222-8333-944445555666", "Object # is locked by #"),
        ("locked until 2026-03-02T09:58:11.5Z", "locked until #"),
        ("locked until 2026-03-02 09:58:11 +00:00", "locked until #"),
        ("can't reach /api/accounts/ACC-0001?page=2", "can't reach /api/accounts/#?page=#"),
        ("a\n\tb", "a b"),
        ("", ""),
    ],
)
def test_what_is_left_of_a_message(message: str, words: str) -> None:
    assert normalised(message) == words


_TEMPLATES = st.sampled_from([
    "The remote failed (HTTP 503): object {} is locked", "{} must be below {}", 'value "{}" not allowed for {}',
    "no such customer: {}", "{}", "[{}] failed at {}",
])  # fmt: skip
_VALUES = st.one_of(
    st.integers(0, 10**12).map(str),
    st.uuids().map(str),
    st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)).map(lambda moment: moment.isoformat()),
    st.floats(0, 1e6, allow_nan=False).map(lambda number: f"{number:.3f}"),
    st.from_regex(r"[A-Z]{1,4}-[0-9]{1,6}", fullmatch=True),
)


@given(_TEMPLATES, _VALUES, _VALUES, _VALUES, _VALUES)
def test_other_values_are_the_same_cause(template: str, a: str, b: str, c: str, d: str) -> None:
    assert normalised(template.format(a, b)) == normalised(template.format(c, d))


@given(
    st.text(st.characters(exclude_characters='"\x00'), max_size=40), st.text(max_size=40).filter(lambda t: '"' not in t)
)
def test_a_quoted_value_is_no_part_of_a_cause(one: str, other: str) -> None:
    assert normalised(f'name "{one}" refused') == normalised(f'name "{other}" refused')


@given(st.text(max_size=400) | st.text("\"'“”«»`#….,:;0123456789 ab", max_size=400))
def test_taking_it_twice_changes_nothing(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once and len(once) <= LONGEST


def test_hostile_messages_cost_little() -> None:
    for text in ("'" * 100_000, '"' * 99_999, "1-" * 50_000, "#:" * 50_000, "a" * 100_000 + "1"):
        assert len(normalised(text)) <= LONGEST


def test_remote_class_code_and_words_make_the_cause() -> None:
    plain = {"remote_id": 1, "kind": "rejected", "code": "http_422", "message": "x"}
    ids = {cause_of(**plain | change).id for change in ({}, {"remote_id": 2}, {"kind": "timeout"}, {"code": "http_400"},
                                                        {"message": "y"})}  # fmt: skip
    assert len(ids) == 5 and all(0 < pk < 2**63 for pk in ids)
    assert cause_of(**plain | {"message": str(uuid.uuid4())}).id == cause_of(**plain | {"message": "17"}).id
