"""Strict JSON: what is read is exactly what can be stored; everything else is refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncportal.kernel import strict_json
from syncportal.kernel.strict_json import StrictJsonError, dumps, dumps_canonical, loads

REFUSED = [
    (b"", "empty"),
    (b"  \n", "empty"),
    (b"<html>", "syntax"),
    (b'{"a":1', "syntax"),
    (b'{"a":1} x', "syntax"),
    (b"{'a':1}", "syntax"),
    (b'["\x01"]', "syntax"),
    (b"[01]", "syntax"),
    (b'{"a":1,"a":2}', "duplicate_key"),
    (b'{"x":{"a":1,"\\u0061":2}}', "duplicate_key"),
    (b"[NaN]", "not_a_number"),
    (b"[Infinity]", "not_a_number"),
    (b"[-Infinity]", "not_a_number"),
    (b"[1e999]", "not_a_number"),
    (b"[-1E+400]", "not_a_number"),
    (b"[1" + b"0" * 400 + b".5]", "not_a_number"),
    (b"[" + b"9" * 39 + b"]", "huge_integer"),
    (b"[-" + b"9" * 39 + b"]", "huge_integer"),
    (b"[" + b"9" * 5000 + b"]", "huge_integer"),
    (b'["\\u0000"]', "nul"),
    (b'{"\\u0000":1}', "nul"),
    (b'["\\ud800"]', "surrogate"),
    (b'["\\uDC00\\uD800"]', "surrogate"),
    (b'{"a\\udfff":1}', "surrogate"),
    (b"\xef\xbb\xbf{}", "bom"),
    ('{"a":1}'.encode("utf-16"), "encoding"),
    ('{"a":1}'.encode("utf-16-le"), "encoding"),
    ('{"a":1}'.encode("utf-16-be"), "encoding"),
    ('{"a":1}'.encode("utf-32"), "encoding"),
    (b'["\xff"]', "encoding"),
    (b'["\xed\xa0\x80"]', "encoding"),
    (b'["\xc0\xaf"]', "encoding"),
    (b"[" * 65 + b"]" * 65, "too_deep"),
    (b"[" * 100_000, "too_deep"),
    (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    (b'{"a":' * 70 + b"1" + b"}" * 70, "too_deep"),
    ("\ufeff{}", "bom"),
    ('["\ud800"]', "surrogate"),
]


@pytest.mark.parametrize(("text", "code"), REFUSED, ids=[f"{i}-{code}" for i, (_, code) in enumerate(REFUSED)])
def test_text_that_cannot_be_kept_is_refused_by_name(text, code):
    with pytest.raises(StrictJsonError) as caught:
        loads(text)
    assert caught.value.code == code
    assert str(caught.value) == caught.value.message
    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


def test_a_text_over_the_limit_is_refused_before_it_is_parsed():
    assert loads(b'"' + b"a" * 98 + b'"', max_bytes=100)
    for text in (b'"' + b"a" * 99 + b'"', '"' + "ä" * 50 + '"'):
        with pytest.raises(StrictJsonError) as caught:
            loads(text, max_bytes=100)
        assert caught.value.code == "too_large"


def test_nesting_up_to_the_limit_is_read():
    assert loads(b"[" * 64 + b"]" * 64)
    assert len(loads(b"[" + b",".join([b'{"a":[1]}'] * 500) + b"]", max_depth=3)) == 500
    with pytest.raises(StrictJsonError):
        loads(b"[" + b",".join([b'{"a":[1]}'] * 500) + b"]", max_depth=2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"null", None),
        (b"1e99", 1e99),
        (b"1E-400", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"1e999 NaN"', "1e999 NaN"),
        (b'["' + b"1" * 60 + b'", 12]', ["1" * 60, 12]),
        (b'"[[[[{{{{"', "[[[[{{{{"),
        (b"9" * 38, int("9" * 38)),
        (b"[1.5, 1, -0]", [1.5, 1, 0]),
        ('"ä"', "ä"),
    ],
)
def test_ordinary_json_is_read_as_it_is(text, value):
    found = loads(text)
    assert found == value
    assert type(found) is type(value)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**37), 10**37)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii", min_codepoint=1)), inner),
        max_leaves=20,
    )
)
def test_what_is_written_is_read_back_equal(value):
    assert loads(dumps(value)) == value
    assert loads(dumps_canonical(value)) == value
    assert loads(json.dumps(value)) == value


def test_the_canonical_text_does_not_depend_on_key_order():
    assert dumps_canonical({"b": 1, "a": {"d": [], "c": "ä"}}) == '{"a":{"c":"ä","d":[]},"b":1}'
    assert dumps_canonical({"a": 1, "b": 2}) == dumps_canonical({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), "\ud800"])
def test_what_json_cannot_say_is_not_written(value):
    for write in (strict_json.dumps, strict_json.dumps_canonical):
        with pytest.raises(StrictJsonError):
            write([value])
