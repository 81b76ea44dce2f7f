"""The pure core: joining two ordered sides, what a difference is, what the policy does about it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciliation import diff, policy
from reconciliation.listing import Place
from reconciliation.states import Direction, Kind
from syncportal.remote.payloads import Exchange, Page, RemoteObject
from tests.factories import T0, shown, spec_of

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


class Row(NamedTuple):
    external_id: str
    number: int = 0


def as_bytes(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.external_id.encode())


@given(st.sets(IDS), st.lists(IDS))
def test_a_join_pairs_every_id_of_both_sides_once(local: set[str], remote: list[str]) -> None:
    ours = as_bytes(Row(external_id) for external_id in local)
    theirs = as_bytes(Row(external_id, number) for number, external_id in enumerate(remote))
    pairs = list(diff.merge_join(ours, theirs))
    ids = [pair.external_id for pair in pairs]
    assert ids == sorted(local | set(remote), key=str.encode)
    assert {pair.external_id for pair in pairs if pair.local is not None} == local
    assert sorted(row for pair in pairs for row in pair.remote) == sorted(theirs)
    assert all(row.external_id == pair.external_id for pair in pairs for row in pair.remote)


@given(st.lists(IDS, min_size=2, unique=True))
def test_rows_out_of_order_are_refused_on_both_sides(ids: list[str]) -> None:
    backwards = [Row(external_id) for external_id in sorted(ids, key=str.encode, reverse=True)]
    for sides in ((backwards, []), ([], backwards)):
        with pytest.raises(ValueError, match="out of order"):
            list(diff.merge_join(*sides))
    assert diff.is_ascending(sorted(ids, key=str.encode), after="")
    assert not diff.is_ascending([row.external_id for row in backwards], after="")


@given(IDS, IDS)
def test_text_is_ordered_as_its_utf8_bytes(a: str, b: str) -> None:
    assert (a < b) == (a.encode() < b.encode())


DATA = {"id": "A", "name": "Ada", "city": "Lund", "version": 3}
CHANGES = st.dictionaries(st.sampled_from(["name", "city"]), st.sampled_from(["Ada", "Lund", "", None]))


@given(CHANGES, CHANGES, st.sampled_from([None, "3", "4"]), st.sampled_from([None, "3", "4"]))
def test_a_kind_is_what_the_comparator_and_the_versions_say(
    here: dict[str, Any], there: dict[str, Any], known: str | None, version: str | None
) -> None:
    spec = spec_of()
    local, remote = {**DATA, **here}, {**DATA, **there}
    kind = diff.compare(local, known, RemoteObject("A", remote, version), spec=spec)
    told = diff.differences(local, remote, spec=spec)
    assert (kind == Kind.DATA_MISMATCH) == bool(told)
    if not told:
        assert (kind == Kind.VERSION_DRIFT) == (None not in (known, version) and known != version)


def test_a_very_long_value_is_cut_with_a_mark() -> None:
    [told] = diff.differences({"a": "x" * 10_000}, {"a": "y"}, spec=spec_of(schema=None))
    assert told["local"].endswith("(10000 characters)") and len(told["local"]) < 4_100


def test_an_object_could_be_ours_when_everything_we_sent_came_back() -> None:
    spec = spec_of()
    sent = {"name": "Ada", "city": None}
    assert diff.could_be(sent, {**DATA, "city": None}, spec=spec)
    assert not diff.could_be({**sent, "name": "Eve"}, DATA, spec=spec)


@pytest.mark.parametrize(
    ("kind", "rule", "unsent", "known", "there", "planned"),
    [
        ("data_mismatch", "take_remote", False, "3", "4", "take_remote"),
        ("data_mismatch", "take_remote", True, "3", "4", None),
        ("data_mismatch", "take_remote", False, "3", "3", None),
        ("data_mismatch", "take_remote", False, "1700000000", "1700000000", "take_remote"),
        ("data_mismatch", "take_remote", False, "4", "3", None),
        ("data_mismatch", "take_remote", False, '"a"', '"a"', "take_remote"),
        ("data_mismatch", "push_local", True, "3", "4", "push_local"),
        ("data_mismatch", "alert", False, "3", "4", None),
        ("data_mismatch", "off", False, "3", "4", None),
        ("version_drift", "take_remote", False, "3", "4", "take_remote"),
        ("version_drift", "take_remote", False, "4", "3", None),
        ("missing_remote", "take_remote", False, "3", None, None),
        ("missing_remote", "push_local", False, "3", None, "push_local"),
        ("missing_local", "take_remote", False, None, "3", "take_remote"),
        ("missing_local", "push_local", False, None, "3", None),
        ("duplicate_key", "take_remote", False, "3", "3", None),
        ("invalid_remote", "push_local", False, "3", "3", None),
    ],
)
def test_what_the_policy_does_by_itself(
    kind: str, rule: str, unsent: bool, known: str | None, there: str | None, planned: str | None
) -> None:
    spec = spec_of(policy={"repair": {kind: rule}})
    remote = shown(DATA, version=there) if there else None
    found = policy.plan(Kind(kind), unsent=unsent, version=known, shown=remote, spec=spec)
    assert found == (Direction(planned) if planned else None)


@pytest.mark.parametrize(
    ("missing", "different", "checked", "braked"),
    [(11, 0, 100, True), (5, 6, 100, True), (5, 5, 100, False), (2, 0, 2, False), (3, 0, 3, True), (0, 0, 0, False)],
)
def test_the_brake(missing: int, different: int, checked: int, braked: bool) -> None:
    counts = {"missing_remote": missing, "data_mismatch": different, "missing_local": 99, "version_drift": 99}
    assert policy.is_braked(counts, checked=checked, spec=spec_of()) == braked


def a_page(*ids: str, after: str | None = "next", total: int | None = None) -> Page:
    exchange = Exchange("test", "GET", "http://x", {}, None, 200, {}, None, 0, T0, 1)
    return Page(tuple(RemoteObject(name, {"id": name}, None) for name in ids), (), after, total, exchange)


@given(st.integers(0, 7), st.integers(1, 7))
def test_a_list_that_runs_in_a_circle_ends(lead: int, length: int) -> None:
    """However long the way into the circle and the circle are, and over any number of slices."""
    place, taken = Place(), 0
    while not place.ended:
        number = taken if taken < lead else lead + (taken - lead) % length
        place = Place.from_json(place.as_json())
        place.pass_page(a_page(f"id-{number}"))
        taken += 1
        assert taken <= 3 * (lead + length) + 3
    assert place.trouble == "The list runs in a circle."


@given(st.lists(st.integers(0, 3), max_size=12))
def test_a_list_of_different_pages_is_never_called_a_circle(sizes: list[int]) -> None:
    place = Place()
    for number, size in enumerate(sizes):
        place.pass_page(a_page(*(f"{number}-{row}" for row in range(size))))
    assert not place.ended
    place.pass_page(a_page("last", after=None, total=100))
    assert place.ended and not place.trouble and place.shortfall() == 100 - sum(sizes) - 1
