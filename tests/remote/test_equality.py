"""Two spellings of one value are equal, different values never are, and the digest agrees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncportal.remote import versions
from syncportal.remote.equality import Comparator

SCHEMA = {
    "properties": {
        "n": {"type": "number"}, "i": {"type": "integer"}, "b": {"type": "boolean"}, "s": {"type": "string"},
        "t": {"type": ["string", "null"], "format": "date-time"}, "d": {"type": "string", "format": "date"},
        "o": {"type": "object", "properties": {"n": {"type": "number"}}},
        "a": {"type": "array", "items": {"$ref": "#/$defs/amount"}},
    },
    "$defs": {"amount": {"type": "number"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "a", "b", "same"),
    [
        ("n", 20.0, 20, True), ("n", "19.25", 19.25, True), ("n", 19.25, 19.26, False), ("n", "x", 1, False),
        ("i", "3", 3, True), ("i", 3, 4, False), ("b", 0, False, True),
        ("b", "true", True, True), ("b", 0, True, False),
        ("s", 3, "3", True), ("s", "3", "4", False), ("s", None, "", False),
        ("t", "2026-12-01T06:00:00Z", "2026-12-01 06:00:00.000Z", True),
        ("t", "2026-12-01T06:00:00Z", "2026-12-01T07:00:00+01:00", True),
        ("t", "2026-12-01T06:00:00", "2026-12-01T06:00:00Z", True),
        ("t", "2026-12-01T06:00:00Z", "2026-12-01T06:00:01Z", False),
        ("d", "2026-12-01", "2026-12-01T00:00:00Z", True), ("o", {"n": "1.50", "x": None}, {"n": 1.5}, True),
        ("a", ["1", 2.0], [1, 2], True), ("a", [1, 2], [2, 1], False),
        ("free", "2026-12-01T06:00:00Z", "2026-12-01T06:00:00.000+00:00", True),
        ("free", 1, True, False), ("free", "1", 1, False), ("free", 20.0, 20, True), ("free", "a", "A", False),
        ("n", "1e99999999999", "1e99999999999", True),
    ],
)  # fmt: skip
def test_values_are_compared_by_schema_type(field, a, b, same) -> None:
    comparator = Comparator(schema=SCHEMA)
    assert comparator.same("/" + field, a, b) is same
    assert comparator.equal({field: a}, {field: b}) is same
    assert (comparator.digest({field: a}) == comparator.digest({field: b})) is same


@pytest.mark.parametrize(
    ("names", "a", "b"),
    [
        (("trim",), " x ", "x"), (("case",), "ABC", "abc"), (("precision:2",), 1.004, "1.00"),
        (("null_empty",), "", None),
        (("order",), [2, 1], [1, 2]), (("second",), "2026-12-01T06:00:00.4Z", "2026-12-01T06:00:00Z"),
        (("number",), "3", 3), (("trim", "null_empty"), "  ", None), (("null_false",), False, None),
    ],
)  # fmt: skip
def test_normalisers(names, a, b) -> None:
    assert Comparator(normalize={"/f": names}).same("/f", a, b)
    assert not Comparator().same("/f", a, b)


def test_ignored_places_do_not_count_and_null_is_absent() -> None:
    comparator = Comparator(ignore=("/version", "/_*", "/meta/at"))
    a = {"x": 1, "version": 1, "_rev": "a", "meta": {"at": 1, "k": 1}, "gone": None}
    b = {"x": 1, "version": 2, "_links": 1, "meta": {"at": 2, "k": 1}}
    assert comparator.equal(a, b)
    assert comparator.digest(a) == comparator.digest(b)
    assert comparator.differing(a, {**b, "meta": {"k": 2}}) == ("/meta",)


def test_compared_pointers_decide_alone() -> None:
    comparator = Comparator(compared=("/a/b", "/c"))
    assert comparator.fields({"z": 1}) == ("/a/b", "/c")
    assert comparator.differing({"a": {"b": 1, "x": 1}}, {"a": {"b": 2, "x": 2}, "z": 1}) == ("/a/b",)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("nibstdoa"), VALUES, max_size=4), VALUES)
def test_equality_and_digest_agree_for_anything(obj, other) -> None:
    comparator = Comparator(schema=SCHEMA)
    assert comparator.equal(obj, dict(obj))
    for name in obj:
        changed = {**obj, name: other}
        assert comparator.equal(obj, changed) == (comparator.digest(obj) == comparator.digest(changed))


@pytest.mark.parametrize(
    ("a", "b", "order"),
    [
        ("1", "1", "equal"), ("9", "10", "newer"), ("10", "9", "older"), ('"a"', '"b"', "different"),
        (None, "1", "different"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "newer"),
        ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", "equal"),
        ("2026-01-01 00:00:00.123Z", "2026-01-01 00:00:00.12Z", "older"), ("1", "2026-01-01T00:00:00Z", "different"),
    ],
)  # fmt: skip
def test_versions_are_ordered_only_where_an_order_exists(a, b, order) -> None:
    assert versions.compare(a, b) == order


def test_what_is_remembered_of_shapes_is_neither_mixed_up_nor_endless():
    comparator = Comparator(ignore=("/version",))
    for number in range(2000):
        name = f"n{number}"
        assert comparator.fields({"id": 1, "version": 2, name: 3}, {"id": 1}) == ("/id", f"/{name}")
        assert comparator.fields({"id": 1}, {"id": 1}) == ("/id",)
    assert len(comparator._fields) <= 500
