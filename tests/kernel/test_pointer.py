"""JSON Pointers read, write and remove one place, and leave the document as it was."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncportal.kernel import pointer
from syncportal.kernel.pointer import MISSING, PointerError

DOCUMENT = {"a": {"b": [1, {"c": 2}]}, "x/y": 1, "m~n": 2, "": 3, "_rev": 1, "_id": 2, "null": None}


@pytest.mark.parametrize(
    ("at", "found"),
    [("", DOCUMENT), ("/a/b/0", 1), ("/a/b/1/c", 2), ("/x~1y", 1), ("/m~0n", 2), ("/", 3), ("/null", None),
     ("/a/b/2", MISSING), ("/a/b/01", MISSING), ("/a/b/-", MISSING), ("/x~1y/z", MISSING), ("/nope", MISSING)],
)  # fmt: skip
def test_get(at, found) -> None:
    assert pointer.get(DOCUMENT, at) == found


@pytest.mark.parametrize("bad", ["a", "a.b", "/a~", "/~2"])
def test_what_is_no_pointer_is_refused(bad) -> None:
    with pytest.raises(PointerError):
        pointer.parse(bad)


def test_put_and_remove_never_change_the_document() -> None:
    before = copy.deepcopy(DOCUMENT)
    assert pointer.put(DOCUMENT, "/a/b/1/c", 5)["a"]["b"] == [1, {"c": 5}]
    assert pointer.put(DOCUMENT, "/new/deep", 1)["new"] == {"deep": 1}
    assert pointer.put(DOCUMENT, "/a/b/2", 9)["a"]["b"][2] == 9
    assert pointer.put(DOCUMENT, "/a", MISSING).keys() == DOCUMENT.keys() - {"a"}
    assert set(pointer.remove(DOCUMENT, "/_*")) == set(DOCUMENT) - {"_rev", "_id"}
    assert pointer.remove(DOCUMENT, "/a/b/0")["a"]["b"] == [{"c": 2}]
    assert pointer.remove(DOCUMENT, "/nope/*") is DOCUMENT
    assert before == DOCUMENT
    with pytest.raises(PointerError):
        pointer.put(DOCUMENT, "/a/b/7", 1)


@pytest.mark.parametrize(
    ("pattern", "at", "matches"),
    [
        ("/_*", "/_rev", True),
        ("/_*", "/rev", False),
        ("/a", "/a/b", True),
        ("/a/b", "/a", False),
        ("/a/*", "/a/x", True),
    ],
)
def test_matches(pattern, at, matches) -> None:
    assert pointer.matches(pattern, at) is matches


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4), st.integers())
def test_what_is_put_can_be_got(names, value) -> None:
    at = pointer.build(names)
    assert pointer.parse(at) == tuple(names)
    assert pointer.get(pointer.put({}, at, value), at) == value
