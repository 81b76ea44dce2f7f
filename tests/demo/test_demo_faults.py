"""Every fault of time, wire and status does what it says, over real sockets."""

import http.client
import json
import socket
import time

import pytest

from syncportal.demo import accounts, shifts
from syncportal.demo.kinds import KINDS
from tests.demo.asking import CHANGED, ONE, ask, put

HANGING = ("timeout", "delayed", "drip")


def eventually(check):
    """Wait for something that another thread does."""
    end = time.monotonic() + 10
    while not check() and time.monotonic() < end:
        time.sleep(0.01)
    assert check()


def raw_exchange(master, *, fault, seconds=10, enough=2**30):
    """Send a GET by hand; return every byte until the server closes, or it is enough or too late; and how it ended."""
    end = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", master.port), timeout=seconds) as sock:
        sock.sendall(f"GET /api{ONE} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Demo-Fault: {fault}\r\n\r\n".encode())
        received = b""
        try:
            while chunk := sock.recv(65536):
                received += chunk
                if len(received) >= enough:
                    break
                sock.settimeout(max(0.001, end - time.monotonic()))
        except TimeoutError:
            return received, "open"
        except ConnectionResetError:
            return received, "reset"
        return received, "closed"


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_latency_delays_the_answer_and_the_write(master):
    begun = time.monotonic()
    assert put(master, fault="latency; latency_ms=120").status == 200
    assert time.monotonic() - begun >= 0.12
    assert master.writes()[0].at - begun >= 0.12


def test_timeout_before_never_answers_and_applies_nothing(master):
    with pytest.raises(TimeoutError):
        put(master, fault="timeout_before", timeout=0.1)
    eventually(master.requests)
    assert master.writes() == []
    assert master.requests()[0].status is None
    assert master.requests()[0].faults == ("timeout_before",)


def test_timeout_after_applies_and_never_answers(master):
    with pytest.raises(TimeoutError):
        put(master, fault="timeout_after", timeout=0.1)
    eventually(master.writes)
    assert master.get("accounts", "ACC-0001")["city"] == "Oslo"
    assert master.requests()[0].status is None
    assert master.requests()[0].write_seq == 1


def test_delayed_apply_answers_a_status_now_and_applies_later(master):
    reply = put(master, fault="delayed_apply; delay_ms=400; answer=503", If_Match='"1"')
    assert reply.status == 503
    assert master.writes() == []
    eventually(lambda: len(master.writes()) == 1)


def test_delayed_apply_honours_if_match_at_the_later_time(master):
    with pytest.raises(TimeoutError):
        put(master, fault="delayed_apply; delay_ms=500", If_Match='"1"', timeout=0.05)
    master.edit("accounts", "ACC-0001", city="Bergen")
    time.sleep(0.7)
    assert [write.actor for write in master.writes()] == ["outside"]
    assert master.get("accounts", "ACC-0001")["city"] == "Bergen"


def test_a_write_whose_client_went_away_during_latency_is_still_applied(master):
    with pytest.raises(TimeoutError):
        put(master, fault="latency; latency_ms=400", timeout=0.03)
    eventually(lambda: len(master.writes()) == 1)


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("kind", "applied"), [("reset_before", 0), ("reset_after", 1)])
def test_resets_close_with_rst_before_or_after_applying(master, kind, applied):
    with pytest.raises(ConnectionResetError):
        put(master, fault=kind)
    eventually(lambda: len(master.writes()) == applied)
    assert raw_exchange(master, fault=kind) == (b"", "reset")


def test_truncate_ends_before_content_length(master):
    with pytest.raises(http.client.IncompleteRead) as broken:
        put(master, fault="truncate; missing=15")
    assert broken.value.expected == 15
    assert len(master.writes()) == 1


def test_drip_sends_the_body_slowly(master):
    received, ended = raw_exchange(master, fault="drip; interval_ms=20", seconds=0.5)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert ended == "open"
    assert 0 < len(body) < 40


def test_drip_headers_sends_the_head_slowly(master):
    with socket.create_connection(("127.0.0.1", master.port), timeout=10) as sock:
        sock.sendall(
            f"GET /api{ONE} HTTP/1.1\r\nHost: x\r\nX-Demo-Fault: drip_headers; interval_ms=20\r\n\r\n".encode()
        )
        pieces = [sock.recv(100) for _ in range(5)]
    assert b"".join(pieces) == b"HTTP/"


def test_a_finished_drip_is_a_whole_answer_on_a_reusable_connection(master):
    connection = http.client.HTTPConnection("127.0.0.1", master.port, timeout=10)
    for fault in ("drip; interval_ms=1; chunk=40", "drip_headers; interval_ms=1; chunk=40", "latency; latency_ms=1"):
        connection.request("GET", f"/api{ONE}", headers={"X-Demo-Fault": fault})
        assert json.loads(connection.getresponse().read())["id"] == "ACC-0001"
    connection.close()


def test_big_headers_exceed_what_clients_accept(master):
    received, _ = raw_exchange(master, fault="big_headers; count=90; size=4000", enough=90 * 4000 + 1)
    assert len(received.partition(b"\r\n\r\n")[0]) > 90 * 4000


# ── statuses ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 412, 422, 429, 500, 502, 503, 504])
def test_any_status_is_answered_without_applying(master, status):
    reply = put(master, fault=f"status; status={status}")
    assert reply.status == status
    assert master.writes() == []


def test_a_status_can_be_answered_after_applying(master):
    assert put(master, fault="500; apply=true").status == 500
    assert len(master.writes()) == 1


@pytest.mark.parametrize("text", ["7", "soon", "315360000"])
def test_retry_after_is_sent_as_given(master, text):
    assert put(master, fault=f"429; retry_after={text}").headers["retry-after"] == text


def test_retry_after_can_be_a_date_ahead_or_past(master):
    for text, early, late in (("date:60", 50, 61), ("past", -3601, -3500)):
        value = put(master, fault=f"503; retry_after={text}").headers["retry-after"]
        ahead = http.client.email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        assert early <= ahead <= late


def test_a_status_can_carry_any_body(master):
    reply = put(master, fault='{"kind": "status", "status": 412, "body": "<stale/>", "media_type": "application/xml"}')
    assert (reply.status, reply.body, reply.headers["content-type"]) == (412, b"<stale/>", "application/xml")


def test_redirect_points_elsewhere_and_applies_nothing(master):
    reply = put(master, fault="redirect; url=http://169.254.169.254/; status=307")
    assert (reply.status, reply.headers["location"]) == (307, "http://169.254.169.254/")
    assert master.writes() == []


# ── success that is none ─────────────────────────────────────────────────────────────────────────────────────────────
def test_no_change_shows_what_was_asked_for_but_applies_nothing(master):
    reply = put(master, fault="no_change")
    assert (reply.status, reply.json["city"], reply.json["version"]) == (200, "Oslo", 1)
    assert master.writes() == []
    assert put(master, fault="no_change; answer=empty").status == 204
    assert put(master, fault="no_change; answer=current").json["city"] == "Aarhus"


def test_error_200_says_ok_with_an_error_text(master):
    reply = put(master, fault="error_200")
    assert reply.status == 200
    assert "error" in reply.json
    assert master.writes() == []


@pytest.mark.parametrize(("kind", "status"), [("empty", 200), ("no_content", 204)])
def test_empty_answers_hide_the_object_but_apply(master, kind, status):
    reply = put(master, fault=kind)
    assert (reply.status, reply.body) == (status, b"")
    assert len(master.writes()) == 1


def test_body_faults_apply_nothing_when_told_so(master):
    assert put(master, fault="html; apply=false").status == 200
    assert master.writes() == []


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_leaves_the_server_working(master, kind):
    quick = {"delay_ms": 1, "latency_ms": 1, "interval_ms": 1, "mb": 0.1, "depth": 100}
    settings = {name: value for name, value in quick.items() if name in KINDS[kind].settings}
    for method, path, body in (
        ("GET", "/accounts/", None),
        ("GET", ONE, None),
        ("PUT", ONE, CHANGED),
        ("POST", "/shifts/", {"code": "N-1", "title": "New", "seats": 1}),
        ("DELETE", "/accounts/ACC-0003", None),
        ("GET", "/nowhere", None),
    ):
        master.faults.add(kind, times=1, **settings)
        try:
            ask(master, method, path, body, timeout=0.1 if kind.startswith(HANGING) else 10)
        except (OSError, http.client.HTTPException):
            assert kind.startswith(("timeout", "reset", "delayed", "truncate", "drip", "big"))
    master.faults.clear()
    assert ask(master, "GET", "/accounts/ACC-0002").status == 200


def test_an_outage_refuses_connections_and_ends(master):
    master.go_down()
    with pytest.raises(ConnectionRefusedError):
        ask(master, "GET", ONE)
    master.come_up()
    assert ask(master, "GET", ONE).status == 200


def test_stopping_does_not_wait_for_hung_requests(start):
    master = start(accounts(1), shifts(1))
    with pytest.raises(TimeoutError):
        put(master, fault="timeout_before", timeout=0.05)
    begun = time.monotonic()
    master.stop()
    assert time.monotonic() - begun < 5
