"""Three-way merge: properties that hold for every triple of objects, and the rules by example."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from syncportal.remote.equality import Comparator
from syncportal.remote.knobs import PolicySpec
from syncportal.sync.conflicts import carry, own_traces, rules_of, three_way, unsent_changes

PLAIN = Comparator()
leaves = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]) | st.just(1.5)
values = leaves | st.lists(leaves, max_size=2) | st.dictionaries(st.sampled_from(["x", "y"]), leaves, max_size=2)
objects = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), values, max_size=4)
always = settings(derandomize=True, max_examples=400, deadline=None)


def bare(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return not PLAIN.differing(a, b)


def merge(base: Any, local: Any, remote: Any, **options: Any) -> Any:
    return three_way(base, local, remote, comparator=PLAIN, **options)


@always
@given(objects, objects)
def test_where_one_side_did_nothing_the_other_side_is_taken(base: dict, other: dict) -> None:
    taken = merge(base, base, other)
    assert same(taken.data, other) and not taken.conflicts and not taken.local_changes
    kept = merge(base, other, base)
    assert same(kept.data, other) and not kept.conflicts and not kept.remote_changes


@always
@given(objects, objects)
def test_equal_edits_are_no_conflict(base: dict, edited: dict) -> None:
    both = merge(base, edited, dict(edited))
    assert same(both.data, edited) and not both.conflicts and not both.local_changes


@always
@given(objects, objects, objects)
def test_conflicts_are_the_same_seen_from_either_side(base: dict, one: dict, two: dict) -> None:
    assert merge(base, one, two).conflicts == merge(base, two, one).conflicts


@always
@given(objects, objects, objects)
def test_no_change_of_either_side_is_lost(base: dict, local: dict, remote: dict) -> None:
    result = merge(base, local, remote)
    for field in PLAIN.fields(base, local, remote):
        name = field[1:]
        before, here, there, now = (side.get(name) for side in (base, local, remote, result.data))
        if not PLAIN.same(field, before, here):
            assert PLAIN.same(field, now, here), "the local change is in the result, conflict or not"
        elif not PLAIN.same(field, before, there):
            assert PLAIN.same(field, now, there) and field in result.remote_changes
        changed = not PLAIN.same(field, before, here) and not PLAIN.same(field, before, there)
        assert (field in result.conflicts) is (changed and not PLAIN.same(field, here, there))


@always
@given(objects, objects, objects)
def test_null_and_absent_are_the_same(base: dict, local: dict, remote: dict) -> None:
    spelt = merge(base, local, remote)
    short = merge(bare(base), bare(local), bare(remote))
    assert same(spelt.data, short.data)
    assert (spelt.conflicts, spelt.local_changes, spelt.remote_changes) == (
        short.conflicts, short.local_changes, short.remote_changes,
    )  # fmt: skip


@always
@given(objects, objects, objects)
def test_merging_the_result_again_changes_nothing(base: dict, local: dict, remote: dict) -> None:
    first = merge(base, local, remote)
    again = merge(remote, first.data, remote)
    assert same(again.data, first.data) and not again.conflicts and not again.remote_changes


@always
@given(objects, objects, objects)
def test_a_policy_leaves_no_conflict_and_takes_the_side_that_it_names(base: dict, local: dict, remote: dict) -> None:
    disputed = merge(base, local, remote).conflicts
    theirs = merge(base, local, remote, policy=lambda field: "remote_wins")
    ours = merge(base, local, remote, policy=lambda field: "local_wins")
    assert not theirs.conflicts and not ours.conflicts
    for field in disputed:
        assert PLAIN.same(field, theirs.data.get(field[1:]), remote.get(field[1:]))
        assert PLAIN.same(field, ours.data.get(field[1:]), local.get(field[1:]))


def test_inputs_are_never_changed() -> None:
    base, local, remote = {"a": {"x": 1}}, {"a": {"x": 2}}, {"a": {"x": 1}, "b": [1]}
    merge(base, local, remote)
    assert (base, local, remote) == ({"a": {"x": 1}}, {"a": {"x": 2}}, {"a": {"x": 1}, "b": [1]})


def test_a_list_is_one_value() -> None:
    result = merge({"tags": ["a"]}, {"tags": ["a", "b"]}, {"tags": ["a", "c"]})
    assert result.conflicts == ("/tags",) and result.data["tags"] == ["a", "b"]


def test_a_nested_object_is_one_field_unless_deeper_places_are_compared() -> None:
    base, local, remote = ({"address": {"city": city, "zip": zip_}} for city, zip_ in (("A", 1), ("B", 1), ("A", 2)))
    assert merge(base, local, remote).conflicts == ("/address",)
    deep = Comparator(compared=("/address/city", "/address/zip"))
    result = three_way(base, local, remote, comparator=deep)
    assert result.conflicts == () and result.data == {"address": {"city": "B", "zip": 2}}


def test_a_place_that_the_remote_turned_into_a_list_asks_a_person_and_can_be_decided_for_good() -> None:
    deep = Comparator(compared=("/a/p",))
    base, local, remote = {"a": {}}, {"a": {"p": 1}}, {"a": ["moved"]}
    result = three_way(base, local, remote, comparator=deep)
    assert result.conflicts == ("/a/p",) and result.data == local, "nothing local is lost"
    assert three_way(base, local, remote, comparator=deep, policy=lambda at: "remote_wins").data == remote
    assert three_way(base, local, remote, comparator=deep, policy=lambda at: "local_wins").data == local
    assert carry(local, "/a/p", remote) == remote
    assert not three_way(remote, local, remote, comparator=deep).conflicts, "once it is the base, ours is just a change"


def test_places_that_are_not_compared_are_the_remotes_unless_only_we_changed_them() -> None:
    some = Comparator(compared=("/a",))
    result = three_way({"a": 1, "n": 1}, {"a": 1, "n": 2}, {"a": 2, "n": 1}, comparator=some)
    assert result.data == {"a": 2, "n": 2} and result.local_changes == ("/n",)
    both = three_way({"a": 1, "n": 1}, {"a": 1, "n": 2}, {"a": 1, "n": 3}, comparator=some)
    assert both.data == {"a": 1, "n": 3} and not both.conflicts


def test_read_only_places_are_always_the_remotes() -> None:
    stamped = Comparator(ignore=("/seen_at",))
    result = three_way({"seen_at": 1}, {"seen_at": 9}, {"seen_at": 2}, comparator=stamped)
    assert result.data == {"seen_at": 2} and not result.conflicts


def test_a_field_policy_beats_the_resources() -> None:
    rule = rules_of(PolicySpec(conflict="remote_wins", fields={"/b": "manual", "/c": "local_wins"}))
    result = merge({"a": 0, "b": 0, "c": 0}, {"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 2}, policy=rule)
    assert result.conflicts == ("/b",) and result.data == {"a": 2, "b": 1, "c": 1}
    assert rules_of(PolicySpec()) is None


def test_without_a_common_object_equal_values_agree_and_others_conflict() -> None:
    result = merge(None, {"a": 1, "b": 1}, {"a": 1, "b": 2, "c": 3})
    assert result.conflicts == ("/b",) and result.data == {"a": 1, "b": 1, "c": 3}


def test_what_was_never_sent_is_listed() -> None:
    assert unsent_changes({"a": 1, "b": None}, {"a": 2}, comparator=PLAIN) == ("/a",)
    assert unsent_changes(None, {"a": 2}, comparator=PLAIN) == ("/a",)
    assert unsent_changes({"a": 1}, {"a": 1, "n": 1}, comparator=Comparator(compared=("/a",))) == ("/n",)


@always
@given(objects, st.lists(objects, max_size=3), objects)
def test_what_the_remote_holds_from_our_own_sends_counts_as_base(base: dict, sends: list, remote: dict) -> None:
    effective = own_traces(base, sends, remote, comparator=PLAIN)
    for field in PLAIN.fields(base, remote, *sends):
        name = field[1:]
        there = remote.get(name)
        is_ours = any(PLAIN.same(field, send.get(name), there) for send in sends)
        expected = there if is_ours else base.get(name)
        assert PLAIN.same(field, effective.get(name), expected)


def test_a_deletion_leaves_no_trace_in_an_object() -> None:
    assert own_traces({"a": 1}, [None], {"a": 2}, comparator=PLAIN) == {"a": 1}
