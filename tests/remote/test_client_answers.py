"""Hostile answers are refused by name, within their limits; refusals are judged and quoted."""

import gzip
import json
import zlib

import pytest

from syncportal.kernel.redaction import MASK
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Conflict, Rejected, ServerFault, StatusRules, Throttled
from syncportal.remote.payloads import EMPTY
from tests.remote.calling import BOMB, failure, get, put
from tests.remote.wire import always, serving


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"<html>Sorry</html>", "Content-Type: text/html\r\n", "not_json"),
        (b'{"a":1,"a":2}', "", "duplicate_key"),
        (b"[NaN]", "", "not_a_number"),
        (b"[1e999]", "", "not_a_number"),
        (b"[" * 100_000, "", "too_deep"),
        (b'["\\u0000"]', "", "nul"),
        (b'["\\ud800"]', "", "surrogate"),
        (b"\xef\xbb\xbf{}", "", "bom"),
        ('{"a":1}'.encode("utf-16"), "", "encoding"),
        (b'["\xff"]', "", "encoding"),
        (b"[" + b"9" * 5000 + b"]", "", "huge_integer"),
        (b" " * 9_000_000, "", "too_large"),
        (BOMB, "Content-Encoding: gzip\r\n", "too_large"),
        (zlib.compress(b" " * 40_000_000), "Content-Encoding: deflate\r\n", "too_large"),
        (gzip.compress(b"{}", mtime=0)[:-9], "Content-Encoding: gzip\r\n", "bad_encoding"),
        (b"{}", "Content-Encoding: gzip\r\n", "bad_encoding"),
        (b"{}", "Content-Encoding: br\r\n", "bad_encoding"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "Content-Encoding: gzip, gzip\r\n", "bad_encoding"),
        (b"{}", "".join(f"X-{i}: {'y' * 8000}\r\n" for i in range(90)), "headers_too_large"),
        (b"{}", "".join(f"X-{i}: y\r\n" for i in range(150)), "not_http"),
        (b"{}", "X-Long: " + "y" * 70_000 + "\r\n", "not_http"),
        (b"{}", "Content-Length: 5\r\n", "not_http"),
        (b"{}", "no colon here\r\n", "not_http"),
    ],
    ids=lambda value: None if isinstance(value, bytes) or len(value) > 30 else value,
)
def test_an_answer_that_cannot_be_trusted_is_refused_by_name(client, body, headers, code):
    with serving(always(body, headers=headers)) as server:
        error = failure(client, put(server.url))
        assert (error.kind, error.code, error.maybe_applied) == ("invalid_response", code, True)
        assert len(error.detail) < 300
        assert len(error.exchange.response_body or "") < 17_000
        assert failure(client, get(server.url)).maybe_applied is False


@pytest.mark.parametrize("line", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"])
def test_an_answer_that_is_not_http_is_refused(client, line):
    def script(talk):
        talk.request()
        talk.write(line)

    with serving(script) as server:
        error = failure(client, put(server.url))
    assert (error.kind, error.code, error.maybe_applied) == ("invalid_response", "not_http", True)


def test_an_endless_body_without_a_length_is_cut(client):
    def script(talk):
        talk.request()
        talk.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            talk.write(b"10000\r\n" + b" " * 65536 + b"\r\n")

    with serving(script) as server:
        assert failure(client, get(server.url)).code == "too_large"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(b'{"a":1}', mtime=0), "Content-Encoding: GZIP\r\n"),
        (gzip.compress(b'{"a"', mtime=0) + gzip.compress(b":1}", mtime=0), "Content-Encoding: x-gzip\r\n"),
        (zlib.compress(b'{"a":1}'), "Content-Encoding: deflate\r\n"),
        (zlib.compress(b'{"a":1}', wbits=-15), "Content-Encoding: deflate\r\n"),
        (b'{"a":1}', "Content-Encoding: identity\r\n"),
    ],
)
def test_the_encodings_asked_for_are_understood(client, body, headers):
    with serving(always(body, headers=headers)) as server:
        answer = client.send(get(server.url), deadline=Deadline(3))
    assert answer.body == {"a": 1}
    assert answer.exchange.response_body == '{"a":1}'


def test_a_lenient_call_takes_text_as_no_body(client):
    with serving(always(b"deleted")) as server:
        assert client.send(put(server.url, lenient=True), deadline=Deadline(3)).body is EMPTY


def test_a_response_behind_the_response_is_never_taken_for_the_next_one(client):
    def script(talk):
        while talk.request():
            talk.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            talk.answer(b'{"mine":true}')

    with serving(script) as server:
        assert failure(client, get(server.url)).code == "http_103"
        assert failure(client, get(server.url)).code == "http_103"
        assert server.connections == 2


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_refusal_quotes_the_remote_in_plain_words(client):
    body = json.dumps({"message": "Title <b>too</b>\nlong s3cret-value " + "x" * 400}).encode()
    with serving(always(body, status="422 Unprocessable")) as server:
        error = failure(client, put(server.url))
    assert isinstance(error, Rejected)
    assert error.detail.startswith("The remote refused the request (HTTP 422): Title <b>too</b> long " + MASK)
    assert len(error.detail) < 380
    assert error.answer.body["message"].startswith("Title")
    assert error.exchange.error == "rejected"
    assert "s3cret-value" not in repr(error.exchange) + error.detail + str(error)


def test_a_html_refusal_is_quoted_without_its_tags(client):
    page = b"<html><head><style>a{}</style><title>502 Bad Gateway</title></head><body><h1>Oops</h1></body></html>"
    with serving(always(page, status="502 Bad Gateway")) as server:
        error = failure(client, put(server.url))
    assert isinstance(error, ServerFault)
    assert error.detail == "The remote failed (HTTP 502): 502 Bad Gateway Oops"
    assert error.maybe_applied is True


@pytest.mark.parametrize("target", ["/other", "http://169.254.169.254/latest", "https://elsewhere.example/"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(client, status, target):
    with serving(always(b"", status=f"{status} Moved", headers=f"Location: {target}\r\n")) as server:
        error = failure(client, get(server.url, headers={"Authorization": "Bearer abcdefghijk"}))
        assert (error.kind, error.code) == ("rejected", "redirect")
        assert len(server.requests) == 1


def test_statuses_are_judged_by_the_rules_of_the_resource(client):
    rules = StatusRules(conflict=frozenset({409}), conflict_pointer="/code", conflict_value="stale")
    with serving(always(b'{"code":"stale","existing":{"id":1}}', status="409 Conflict")) as server:
        error = failure(client, put(server.url, rules=rules))
        assert isinstance(error, Conflict)
        assert error.answer.body["existing"] == {"id": 1}
        assert isinstance(failure(client, put(server.url)), Rejected)
    with serving(always(b"", status="503 Busy", headers="Retry-After: 9\r\n")) as server:
        error = failure(client, put(server.url))
        assert isinstance(error, Throttled)
        assert (error.retry_after_s, error.maybe_applied) == (9.0, True)


@pytest.mark.parametrize("body", [b"[" * 200_000, b"x" * 2_000_000, BOMB, b'{"a":1,"a":2}'])
def test_the_status_of_a_refusal_stands_whatever_its_body(client, body):
    with serving(
        always(body, status="400 Bad Request", headers="Content-Encoding: gzip\r\n" if body is BOMB else "")
    ) as s:
        error = failure(client, put(s.url))
    assert (error.kind, error.status, error.maybe_applied) == ("rejected", 400, False)
