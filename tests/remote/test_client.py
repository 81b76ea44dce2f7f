"""One exchange, over real sockets: what goes out, what comes back, and what is refused before it is sent."""

import threading

import pytest
from django.db import transaction

from syncportal.kernel import correlation
from syncportal.kernel.tx import OpenTransaction
from syncportal.remote.client import Deadline
from syncportal.remote.errors import InvalidResponse, Timeout, Unreachable
from syncportal.remote.payloads import EMPTY
from tests.remote.calling import closed_port, failure, get, put
from tests.remote.wire import always, serving


def test_an_answer_is_parsed_and_its_exchange_is_recorded(client):
    with serving(always(b'{"id": 7}', headers='ETag: "7"\r\nContent-Type: text/plain\r\n')) as server:
        answer = client.send(put(server.url + "/x?page=2", headers={"If-Match": '"6"'}), deadline=Deadline(3))
    assert (answer.status, answer.body, answer.headers["ETag"]) == (200, {"id": 7}, '"7"')
    exchange = answer.exchange
    assert (exchange.purpose, exchange.method, exchange.status) == ("write", "PUT", 200)
    assert exchange.url == server.url + "/x?page=2"
    assert (exchange.request_body, exchange.response_body, exchange.response_bytes) == ('{"a":1}', '{"id": 7}', 9)
    assert exchange.request_headers["If-Match"] == '"6"'
    assert exchange.response_headers["ETag"] == '"7"'
    assert (exchange.error, exchange.error_detail) == ("", "")
    assert exchange.duration_ms >= 0
    head = server.requests[0].decode()
    assert head.startswith("PUT /x?page=2 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "\r\nContent-Length: 7\r\n" in head
    assert "\r\nX-Request-ID: " in head


def test_the_path_goes_out_exactly_as_configured(client):
    with serving(always()) as server:
        client.send(get(server.url + "/a%3ab/%2F/../c%20d?q=%27"), deadline=Deadline(3))
    assert server.requests[0].split(b" ")[1].lower() == b"/a%3ab/%2f/../c%20d?q=%27"


def test_the_current_correlation_id_is_sent_along(client):
    with serving(always()) as server, correlation.correlated("abc-123"):
        client.send(get(server.url), deadline=Deadline(3))
        client.send(get(server.url, request_id="own"), deadline=Deadline(3))
    assert b"X-Request-ID: abc-123\r\n" in server.requests[0]
    assert b"X-Request-ID: own\r\n" in server.requests[1]


def test_connections_are_pooled_and_shared_between_threads(client):
    with serving(always()) as server:
        for _ in range(20):
            client.send(get(server.url), deadline=Deadline(3))
        assert server.connections == 1
        threads = [threading.Thread(target=client.send, args=(get(server.url),), kwargs={"deadline": Deadline(3)})
                   for _ in range(8)]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.connections <= 9


@pytest.mark.parametrize("body", [b"", b"  \r\n"])
def test_an_answer_without_a_body_is_empty(client, body):
    with serving(always(body, status="204 No Content" if not body else "200 OK")) as server:
        assert client.send(get(server.url), deadline=Deadline(3)).body is EMPTY


@pytest.mark.django_db(transaction=True)
def test_no_call_starts_inside_a_transaction(client):
    with serving(always()) as server:
        with transaction.atomic(), pytest.raises(OpenTransaction):
            client.send(get(server.url), deadline=Deadline(3))
        assert server.requests == []
        assert client.send(get(server.url), deadline=Deadline(3)).status == 200


@pytest.mark.parametrize(
    "headers", [{"X-A": "b\r\nX-C: d"}, {"X-A": "\x00"}, {"X A": "b"}, {"X-A\r\n": "b"}, {"X": "ł"}]
)
def test_a_header_that_cannot_be_sent_is_refused_before_sending(client, headers):
    with serving(always()) as server:
        error = failure(client, put(server.url, headers=headers))
        assert (error.kind, error.code, error.maybe_applied) == ("rejected", "unsendable", False)
        assert server.requests == []


def test_an_interrupted_thread_can_call_again(client):
    with serving(always(b"x" * 9_000_000)) as server:
        for _ in range(3):
            assert isinstance(failure(client, get(server.url)), InvalidResponse)
    with serving(always()) as server:
        assert client.send(get(server.url), deadline=Deadline(3)).status == 200


def test_failures_have_the_class_of_their_kind(client):
    assert isinstance(failure(client, get(f"http://127.0.0.1:{closed_port()}/")), Unreachable)
    with serving(lambda talk: talk.request()) as server:
        assert isinstance(failure(client, get(server.url)), Timeout)
