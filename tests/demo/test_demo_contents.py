"""Every fault of bodies, objects and pages does what it says, over real sockets."""

import gzip
import json

import pytest

from syncportal.demo import Collection, accounts
from tests.demo.asking import ONE, ask, put


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_html_is_a_200_page(master):
    reply = put(master, fault="html")
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.body.startswith(b"<!DOCTYPE html>")


def test_huge_is_as_large_as_asked(master):
    assert len(put(master, fault="huge; mb=3").body) > 3_000_000


def test_gzip_bomb_is_small_and_inflates(master):
    reply = put(master, fault="gzip_bomb; mb=5")
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
    assert put(master, fault="deep; depth=100000").body.count(b"[") == 100_000
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
