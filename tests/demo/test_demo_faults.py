"""Every fault does what it says, over real sockets."""

import gzip
import http.client
import json
import socket
import time

import pytest

from syncportal.demo import Collection, FaultBook, FaultError, accounts, shifts
from syncportal.demo.kinds import KINDS, PRESETS, make_fault, parse_header
from syncportal.demo.messages import Call
from tests.demo.asking import ACCOUNT, ask

ONE = "/accounts/ACC-0001"
CHANGED = {**ACCOUNT, "city": "Oslo"}


def put(master, *, fault="", timeout=0.3, **headers):
    """PUT account 1 under a fault of this request."""
    if fault:
        headers["X_Demo_Fault"] = fault
    return ask(master, "PUT", ONE, CHANGED, timeout=timeout, **headers)


def eventually(check):
    """Wait up to a second for something that another thread does."""
    end = time.monotonic() + 1
    while not check() and time.monotonic() < end:
        time.sleep(0.01)
    assert check()


def raw_exchange(master, *, fault, seconds=0.5):
    """Send a GET by hand and return every byte until the server closes or the time is over, and how it ended."""
    end = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", master.port), timeout=seconds) as sock:
        sock.sendall(f"GET /api{ONE} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Demo-Fault: {fault}\r\n\r\n".encode())
        received = b""
        try:
            while chunk := sock.recv(65536):
                received += chunk
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
    assert master.writes() == []
    assert master.requests()[0].status is None
    assert master.requests()[0].faults == ("timeout_before",)


def test_timeout_after_applies_and_never_answers(master):
    with pytest.raises(TimeoutError):
        put(master, fault="timeout_after", timeout=0.1)
    assert master.get("accounts", "ACC-0001")["city"] == "Oslo"
    assert master.requests()[0].status is None
    assert master.requests()[0].write_seq == 1


def test_delayed_apply_answers_a_status_now_and_applies_later(master):
    reply = put(master, fault="delayed_apply; delay_ms=80; answer=503", If_Match='"1"')
    assert reply.status == 503
    assert master.writes() == []
    eventually(lambda: len(master.writes()) == 1)


def test_delayed_apply_honours_if_match_at_the_later_time(master):
    with pytest.raises(TimeoutError):
        put(master, fault="delayed_apply; delay_ms=150", If_Match='"1"', timeout=0.05)
    master.edit("accounts", "ACC-0001", city="Bergen")
    time.sleep(0.25)
    assert [write.actor for write in master.writes()] == ["outside"]
    assert master.get("accounts", "ACC-0001")["city"] == "Bergen"


def test_a_write_whose_client_went_away_during_latency_is_still_applied(master):
    with pytest.raises(TimeoutError):
        put(master, fault="latency; latency_ms=120", timeout=0.03)
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
    assert 2 < len(body) < 40


def test_drip_headers_sends_the_head_slowly(master):
    with socket.create_connection(("127.0.0.1", master.port), timeout=0.3) as sock:
        sock.sendall(
            f"GET /api{ONE} HTTP/1.1\r\nHost: x\r\nX-Demo-Fault: drip_headers; interval_ms=20\r\n\r\n".encode()
        )
        pieces = [sock.recv(100) for _ in range(5)]
    assert b"".join(pieces) == b"HTTP/"


def test_a_finished_drip_is_a_whole_answer_on_a_reusable_connection(master):
    connection = http.client.HTTPConnection("127.0.0.1", master.port, timeout=2)
    for fault in ("drip; interval_ms=1; chunk=40", "drip_headers; interval_ms=1; chunk=40", "latency; latency_ms=1"):
        connection.request("GET", f"/api{ONE}", headers={"X-Demo-Fault": fault})
        assert json.loads(connection.getresponse().read())["id"] == "ACC-0001"
    connection.close()


def test_big_headers_exceed_what_clients_accept(master):
    received, _ = raw_exchange(master, fault="big_headers; count=90; size=4000", seconds=0.2)
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


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_html_is_a_200_page(master):
    reply = put(master, fault="html")
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.body.startswith(b"<!DOCTYPE html>")


def test_huge_is_as_large_as_asked(master):
    assert len(put(master, fault="huge; mb=3", timeout=5).body) > 3_000_000


def test_gzip_bomb_is_small_and_inflates(master):
    reply = put(master, fault="gzip_bomb; mb=5", timeout=5)
    assert reply.headers["content-encoding"] == "gzip"
    assert len(reply.body) < 20_000
    assert len(gzip.decompress(reply.body)) > 5_000_000


def test_bad_encodings_are_bad(master):
    with pytest.raises(UnicodeDecodeError):
        put(master, fault="bad_utf8").body.decode()
    assert json.loads(put(master, fault="utf16").body.decode("utf-16"))["city"] == "Oslo"
    assert put(master, fault="bom").body.startswith(b"\xef\xbb\xbf{")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_nan_and_infinities_stand_in_the_text(master, value):
    body = ask(master, "GET", ONE, X_Demo_Fault=f"nan; value={value}").body
    assert f'"credit":{value}'.encode() in body


def test_strings_can_hold_nul_and_lone_surrogates(master):
    assert rb"\u0000" in put(master, fault="nul; field=city").body
    assert rb'"city":"before\ud800after"' in put(master, fault="surrogate; field=city").body


def test_a_key_can_stand_twice(master):
    body = put(master, fault="duplicate_keys; field=city").body
    assert body.count(b'"city":') == 2
    assert json.loads(body)["city"] == "Oslo"


def test_depth_and_digits_go_beyond_any_parser(master):
    assert put(master, fault="deep; depth=100000", timeout=2).body.count(b"[") == 100_000
    assert b"9" * 4000 in put(master, fault="huge_integer").body


# ── objects ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("how", "version"), [("lower", -3), ("equal", 1), ("string", "not-a-version")])
def test_wrong_version_in_body_and_etag(master, how, version):
    reply = put(master, fault=f"wrong_version; how={how}")
    assert reply.json["version"] == version
    assert reply.headers["etag"] == f'"{version}"'
    assert master.get("accounts", "ACC-0001")["version"] == 2


def test_a_version_can_be_missing_or_any_value(master):
    reply = put(master, fault="wrong_version; how=missing")
    assert "version" not in reply.json
    assert "etag" not in reply.headers
    assert put(master, fault="wrong_version; value=77").json["version"] == 77


def test_stale_version_serves_the_object_before_its_last_write(master):
    put(master)
    reply = ask(master, "GET", ONE, X_Demo_Fault="stale_version")
    assert (reply.json["version"], reply.json["city"], reply.headers["etag"]) == (1, "Aarhus", '"1"')


def test_wrong_id_and_invalid_data(master):
    assert put(master, fault="wrong_id; id=ACC-9").json["id"] == "ACC-9"
    assert put(master, fault="invalid_data").json["name"] == {"unexpected": "object"}
    assert "email" not in put(master, fault="invalid_data; how=missing; field=email").json
    assert master.get("accounts", "ACC-0001")["name"] == "New"


@pytest.mark.parametrize("where", ["body", "header"])
def test_bad_checksum_does_not_fit(start, where):
    master = start(accounts(2, checksum_fields=("name", "city"), checksum_in=where))

    def seen(reply):
        return reply.json["checksum"] if where == "body" else reply.headers["x-checksum"]

    assert seen(ask(master, "GET", ONE)) != "0" * 64
    assert seen(ask(master, "GET", ONE, X_Demo_Fault="bad_checksum")) == "0" * 64


def test_object_faults_reach_wrapped_answers_and_the_first_row_of_a_list(start):
    master = start(accounts(2, wrap="data", items_key="data"))
    assert ask(master, "GET", ONE, X_Demo_Fault="wrong_id").json["data"]["id"] == "WRONG-ID"
    rows = ask(master, "GET", "/accounts/", X_Demo_Fault="wrong_id").json["data"]
    assert [row["id"] for row in rows] == ["WRONG-ID", "ACC-0002"]


# ── paging ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def page_ids(master, fault, query=""):
    reply = ask(master, "GET", f"/things?limit=4{query}", X_Demo_Fault=fault)
    return [row["id"] for row in reply.json["items"]], reply.json


@pytest.fixture
def things(start):
    rows = tuple({"id": f"T{number}"} for number in range(10))
    return start(Collection(name="things", rows=rows, paging="next_url"))


def test_page_loop_repeat_overlap_skip_and_empty(things):
    assert page_ids(things, "page_loop", "&offset=4")[0] == ["T0", "T1", "T2", "T3"]
    assert "offset=4" in page_ids(things, "page_loop", "&offset=8")[1]["next"]
    assert page_ids(things, "page_repeat", "&offset=4")[0] == ["T0", "T1", "T2", "T3"]
    assert page_ids(things, "page_overlap; rows=2", "&offset=4")[0] == ["T2", "T3", "T4", "T5", "T6", "T7"]
    assert page_ids(things, "page_skip; rows=1", "&offset=4")[0] == ["T5", "T6", "T7"]
    ids, document = page_ids(things, "page_empty", "&offset=4")
    assert (ids, "offset=8" in document["next"]) == ([], True)


def test_page_shrink_lose_tail_and_other_host(things):
    assert page_ids(things, "page_shrink")[1]["total"] == 10
    assert page_ids(things, "page_shrink", "&offset=4")[1]["total"] == 3
    ids, document = page_ids(things, "page_lose_tail", "&offset=4")
    assert (ids, document["next"], document["total"]) == (["T4"], None, 5)
    assert page_ids(things, "page_other_host; host=http://evil.invalid")[1]["next"].startswith(
        "http://evil.invalid/api/"
    )


# ── who is struck ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_rules_match_object_collection_method_and_phase(master):
    master.faults.add("403", object_id="ACC-0002", collection="accounts", methods=("PUT",))
    master.faults.add("503", collection="shifts", phase="read")
    assert ask(master, "GET", "/accounts/ACC-0002").status == 200
    assert ask(master, "PUT", "/accounts/ACC-0002", CHANGED).status == 403
    assert put(master).status == 200
    assert ask(master, "GET", "/shifts/").status == 503
    assert ask(master, "PATCH", "/shifts/SH-0001", {"seats": 4}).status == 200
    assert master.faults.clear() == 2
    assert ask(master, "GET", "/shifts/").status == 200


def test_a_rule_strikes_the_next_n_after_sparing_some(master):
    master.faults.add("500", times=2, skip=1)
    assert [ask(master, "GET", ONE).status for _ in range(5)] == [200, 500, 500, 200, 200]
    assert master.faults.rules() == []


def test_a_script_is_consumed_in_order(master):
    master.faults.script(["503; retry_after=1", None, "ok", {"kind": "status", "status": 404}], phase="detail")
    assert ask(master, "GET", "/accounts/").status == 200
    assert [ask(master, "GET", ONE).status for _ in range(5)] == [503, 200, 200, 404, 200]


def test_a_rate_is_repeatable_by_its_seed(start):
    patterns = []
    for seed in (1, 1, 2):
        master = start(seed=seed)
        master.faults.add("500", rate=0.5)
        patterns.append([ask(master, "GET", ONE).status for _ in range(30)])
    assert patterns[0] == patterns[1] != patterns[2]
    assert 5 < patterns[0].count(500) < 25


def test_latency_adds_to_another_fault():
    book = FaultBook()
    book.add("latency", latency_ms=5)
    book.add("503")
    book.add("500")
    book.add("latency", latency_ms=7)
    assert [fault.kind for fault in book.pick(Call("GET", "/api/x"))] == ["latency", "status", "latency"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "flood"},
        {"kind": "latency", "seconds": 3},
        {"kind": "latency", "latency_ms": "long"},
        {"kind": "500", "phase": "sometimes"},
        {"kind": "500", "rate": 0},
        {"preset": "nothing"},
        {"script": ["what"]},
        {"script": [3]},
        {},
    ],
)
def test_a_wrong_rule_is_refused_by_name(wrong):
    with pytest.raises(FaultError):
        FaultBook().add_json(wrong)


def test_a_wrong_fault_header_is_a_400_and_applies_nothing(master):
    for text in ("flood", "latency; x=1", "{broken"):
        assert put(master, fault=text).status == 400
    assert master.writes() == []


def test_headers_read_several_faults_and_json():
    assert [fault.kind for fault in parse_header("latency; latency_ms=3, 503; retry_after=9")] == ["latency", "status"]
    assert parse_header('[{"kind": "html"}]')[0].kind == "html"
    assert make_fault("timeout-after").kind == "timeout_after"


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
            ask(master, method, path, body, timeout=0.1)
        except (OSError, http.client.HTTPException):
            assert kind.startswith(("timeout", "reset", "delayed", "truncate", "drip", "big"))
    master.faults.clear()
    assert ask(master, "GET", "/accounts/ACC-0002").status == 200


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_can_be_switched_on_twice_and_off(preset):
    book = FaultBook()
    book.add_json({"preset": preset})
    book.add_json({"preset": preset, "collection": "accounts"})
    assert [rule.name for rule in book.rules()] == [preset]
    assert book.remove(preset) == 1


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
    assert time.monotonic() - begun < 2
