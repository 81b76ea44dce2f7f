"""Exchanges that end in time, and connections that are never made, break, or were closed meanwhile."""

import socket
import threading
import time

import pytest

from syncportal.remote import addresses
from syncportal.remote.client import Deadline, HttpClient, HttpLimits, HttpRequest
from tests.remote.calling import LOOPBACK, closed_port, failure, get, put
from tests.remote.wire import always, elapsed, serving

# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["headers", "body", "chunks", "nothing", "refusal"])
def test_a_dripping_answer_ends_at_the_deadline(client, part):
    def script(talk):
        talk.request()
        if part == "headers":
            talk.drip(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000)
        elif part == "body":
            talk.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            talk.drip(b" " * 1000)
        elif part == "chunks":
            talk.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            talk.drip(b"1\r\n \r\n" * 1000)
        elif part == "refusal":
            talk.write(b"HTTP/1.1 400 Bad\r\nContent-Length: 1000\r\n\r\n")
            talk.drip(b" " * 1000)
        else:
            talk.server.closing.wait(5)

    with serving(script) as server:
        started = time.monotonic()
        error = failure(client, put(server.url), seconds=0.4)
        assert 0.3 < elapsed(started) < 4
    if part == "refusal":
        assert (error.kind, error.code, error.maybe_applied) == ("rejected", "http_400", False)
    else:
        assert (error.kind, error.code, error.maybe_applied) == ("timeout", "timeout", True)
    assert error.exchange.error == error.kind
    assert error.exchange.duration_ms >= 300


def test_a_remote_that_reads_nothing_ends_at_the_deadline(client):
    with serving(lambda talk: talk.server.closing.wait(5)) as server:
        started = time.monotonic()
        request = HttpRequest(method="PUT", url=server.url, purpose="write", body=b"x" * 50_000_000, is_write=True)
        error = failure(client, request, seconds=0.4)
        assert elapsed(started) < 4
    assert (error.kind, error.maybe_applied) == ("timeout", True)


def test_a_call_without_time_left_is_not_begun(client):
    with serving(always()) as server:
        error = failure(client, put(server.url), seconds=0)
        assert (error.kind, error.code, error.maybe_applied) == ("timeout", "deadline", False)
        assert server.requests == []


def test_a_connection_that_is_never_accepted_ends_at_the_connect_timeout():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    client = HttpClient(limits=HttpLimits(connect_timeout_s=0.3), allowed_networks=LOOPBACK)
    started = time.monotonic()
    error = failure(client, put(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
    assert elapsed(started) < 4
    assert (error.kind, error.code, error.maybe_applied) == ("unreachable", "connect_timeout", False)
    for filler in (*fillers, listener):
        filler.close()


def test_a_refused_connection_is_definite(client):
    error = failure(client, put(f"http://127.0.0.1:{closed_port()}/"))
    assert (error.kind, error.code, error.maybe_applied, error.status) == ("unreachable", "refused", False, None)
    assert error.exchange.status is None


def test_an_unknown_name_is_definite(client, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(addresses.socket, "getaddrinfo", unknown)
    error = failure(client, put("http://nowhere.example/"))
    assert (error.kind, error.code, error.maybe_applied) == ("unreachable", "dns", False)
    assert "nowhere.example" in error.detail


def test_a_server_that_does_not_speak_tls_is_definite(client):
    def script(talk):
        talk.sock.recv(1000)
        talk.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(script) as server:
        error = failure(client, put(server.url.replace("http:", "https:")))
    assert (error.kind, error.code, error.maybe_applied) == ("unreachable", "tls", False)


def test_a_handshake_that_hangs_ends_at_the_connect_timeout():
    client = HttpClient(limits=HttpLimits(connect_timeout_s=0.3), allowed_networks=LOOPBACK)
    with serving(lambda talk: talk.server.closing.wait(5)) as server:
        started = time.monotonic()
        error = failure(client, put(server.url.replace("http:", "https:")))
        assert elapsed(started) < 4
    assert (error.kind, error.maybe_applied) == ("unreachable", False)


# --- the connection breaks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "half header", "no end of headers", "short body", "short chunk"])
def test_a_connection_lost_after_sending_leaves_a_write_in_doubt(client, how):
    def script(talk):
        talk.request()
        if how == "reset":
            talk.reset()
        elif how == "half header":
            talk.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        elif how == "no end of headers":
            talk.write(b"HTTP/1.1 200 OK\r\nX-A: b\r\n")
        elif how == "short body":
            talk.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")
        elif how == "short chunk":
            talk.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{}")

    with serving(script) as server:
        error = failure(client, put(server.url))
        assert (error.kind, error.code) == ("timeout", "connection_lost")
        assert error.maybe_applied is True
        assert len(server.requests) == 1
        assert failure(client, get(server.url)).maybe_applied is False


def test_a_stale_pooled_connection_is_replaced_for_a_read_and_in_doubt_for_a_write(client):
    gate = threading.Event()

    def script(talk):
        talk.request()
        talk.answer()
        # Closing only after the next request arrived is the race that no check before sending can see.
        talk.request()
        if not gate.is_set():
            talk.reset()
        else:
            talk.answer(b'{"second":true}')

    with serving(script) as server:
        client.send(get(server.url), deadline=Deadline(3))
        assert client.send(get(server.url), deadline=Deadline(3)).body == {}
        assert server.connections == 2
        error = failure(client, put(server.url))
        assert (error.kind, error.code, error.maybe_applied) == ("timeout", "connection_lost", True)
        assert sum(request.startswith(b"PUT") for request in server.requests) == 1


def test_a_connection_closed_while_idle_costs_nothing(client):
    def script(talk):
        talk.request()
        talk.answer()

    with serving(script) as server:
        for _ in range(3):
            assert client.send(put(server.url), deadline=Deadline(3)).status == 200
            time.sleep(0.02)


def test_a_read_is_sent_at_most_twice(client):
    state = {"first": True}

    def script(talk):
        talk.request()
        if state.pop("first", False):
            talk.answer()
            talk.request()
        talk.reset()

    with serving(script) as server:
        client.send(get(server.url), deadline=Deadline(3))
        assert failure(client, get(server.url)).code == "connection_lost"
        assert len(server.requests) == 3
