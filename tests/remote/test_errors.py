"""Every status means exactly one thing, and a Retry-After is read whatever it holds."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncportal.remote import bodies, errors
from syncportal.remote.errors import ErrorKind, Refusal, RemoteError, StatusRules, classify, excerpt, parse_retry_after

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SOON = {"retry-after": "7"}


def judged(status, *, rules=errors.DEFAULT_RULES, is_write=True, **rest):
    return classify(status, Refusal(is_write=is_write, **rest), now=NOW, rules=rules)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_a_2xx_is_no_error(status):
    assert judged(status) is None


@pytest.mark.parametrize(
    ("status", "headers", "kind", "maybe_applied"),
    [
        (400, {}, "rejected", False),
        (401, SOON, "unauthorized", False),
        (402, {}, "rejected", False),
        (403, {}, "forbidden", False),
        (404, {}, "missing", False),
        (405, {}, "rejected", False),
        (408, {}, "timeout", False),
        (409, {}, "rejected", False),
        (409, SOON, "throttled", True),
        (410, {}, "missing", False),
        (412, {}, "conflict", False),
        (417, {}, "rejected", False),
        (418, {}, "rejected", False),
        (422, {}, "rejected", False),
        (423, {}, "rejected", False),
        (425, {}, "server_fault", False),
        (428, {}, "rejected", False),
        (429, {}, "throttled", False),
        (429, {"retry-after": "soon"}, "throttled", False),
        (499, {}, "rejected", False),
        (500, {}, "server_fault", True),
        (501, {}, "server_fault", True),
        (502, SOON, "server_fault", True),
        (503, {}, "server_fault", True),
        (503, {"retry-after": "soon"}, "server_fault", True),
        (503, SOON, "throttled", True),
        (504, {}, "server_fault", True),
        (599, {}, "server_fault", True),
        (301, {}, "rejected", True),
        (307, {}, "rejected", True),
        (304, {}, "invalid_response", True),
        (103, {}, "invalid_response", True),
        (999, {}, "server_fault", True),
    ],
)
def test_a_status_means_one_kind(status, headers, kind, maybe_applied):
    error = judged(status, headers=headers)
    assert error.kind == kind
    assert error.maybe_applied is maybe_applied
    assert error.status == status
    assert error.retry_after_s == (7.0 if headers is SOON else None)
    assert judged(status, headers=headers, is_write=False).maybe_applied is False


def test_every_kind_has_one_class_and_transient_ones_are_known():
    classes = {cls.kind: cls for cls in RemoteError.__subclasses__()}
    assert set(classes) == set(ErrorKind)
    transient = {kind for kind, cls in classes.items() if cls("x", code="x").transient}
    assert transient == {"unreachable", "timeout", "server_fault"}
    assert all(cls.__doc__ and ";" in cls.__doc__ for cls in classes.values())


def test_a_remote_may_call_other_statuses_transient():
    rules = StatusRules(transient=frozenset({417, 423, 404}))
    assert judged(423, rules=rules).kind == "server_fault"
    assert judged(404, rules=rules).kind == "server_fault"
    assert judged(423, rules=rules).maybe_applied is False


def test_an_own_retry_list_is_taken_at_its_word():
    rules = StatusRules(retry=frozenset({503}))
    assert judged(503, rules=rules).kind == "server_fault"
    assert judged(500, rules=rules).kind == "rejected"
    assert judged(500, rules=rules).maybe_applied is True
    assert judged(408, rules=rules).kind == "rejected"
    assert judged(409, rules=rules, headers=SOON).kind == "rejected"
    assert judged(429, rules=rules).kind == "throttled"


def test_a_conflict_may_need_a_value_in_the_body():
    rules = StatusRules(conflict=frozenset({409}), conflict_pointer="/error/code", conflict_value="version")
    assert judged(409, rules=rules, body={"error": {"code": "version"}}).kind == "conflict"
    for body in ({"error": {"code": "duplicate"}}, {"error": "version"}, None, [], "x"):
        assert judged(409, rules=rules, body=body).kind == "rejected"
    assert judged(412, rules=rules).kind == "rejected"
    numeric = StatusRules(conflict=frozenset({400}), conflict_pointer="/errors/0/code", conflict_value="17")
    assert judged(400, rules=numeric, body={"errors": [{"code": 17}]}).kind == "conflict"


def test_a_status_that_asks_for_a_precondition_is_only_that_when_none_was_sent():
    rules = StatusRules(required=frozenset({422, 428}))
    assert judged(422, rules=rules).code == "precondition_required"
    assert judged(422, rules=rules, had_precondition=True).code == "http_422"


def test_gone_is_what_the_resource_says():
    rules = StatusRules(gone=frozenset({403, 410}))
    assert judged(403, rules=rules).kind == "missing"
    assert judged(404, rules=rules).kind == "rejected"


def test_the_sentence_names_the_status_and_quotes_the_remote():
    error = judged(400, excerpt="title is too long")
    assert error.detail == "The remote refused the request (HTTP 400): title is too long"
    assert error.code == "http_400"
    assert judged(302).code == "redirect"


@given(st.integers(100, 599), st.sampled_from([{}, SOON]), st.booleans())
def test_every_status_is_classified_and_only_a_definite_one_clears_a_write(status, headers, is_write):
    error = judged(status, headers=headers, is_write=is_write)
    if error is None:
        assert 200 <= status < 300
        return
    assert error.kind in ErrorKind
    if error.maybe_applied:
        assert is_write
    elif is_write:
        assert 400 <= status < 500


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("-5", None),
        ("+5", None),
        ("", None),
        ("soon", None),
        ("1e9", None),
        ("٣", None),
        ("12, 13", None),
        ("315360000", 315360000.0),
        ("9" * 400, errors.MAX_RETRY_AFTER_S),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=90), usegmt=True), 0.0),
        ("Sunday, 01-Mar-26 12:01:00 GMT", 60.0),
        ("Sun Mar  1 12:01:00 2026", 60.0),
        ("Sun, 01 Mar 2026 12:01:00", 60.0),
        ("Sun, 99 Mar 2026 12:01:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", errors.MAX_RETRY_AFTER_S),
        ("x" * 5000, None),
        ("\x00", None),
    ],
)
def test_a_retry_after_is_read_whatever_it_holds(value, seconds):
    assert parse_retry_after(value, now=NOW) == seconds


@given(st.text(max_size=80))
def test_no_retry_after_raises(value):
    found = parse_retry_after(value, now=NOW)
    assert found is None or 0 <= found <= errors.MAX_RETRY_AFTER_S


def test_an_excerpt_is_one_short_plain_line():
    assert excerpt("  a\n\tb\x00\u202ec  ") == "a b c"
    assert len(excerpt("é" * 1000)) == 300
    assert excerpt(None) == ""


def test_a_refusal_is_quoted_in_the_remotes_own_words_with_what_it_says_of_each_field() -> None:
    nested = {"error": {"code": "busy", "detail": "Come back later.", "fields": []}}
    assert bodies.quote_refusal(nested, None) == "Come back later."
    by_field = {"message": "Failed to update record.", "data": {"code": {"message": "Value must be unique."}}}
    assert bodies.quote_refusal(by_field, None) == (
        'Failed to update record. {"data": {"code": {"message": "Value must be unique."}}}'
    )
