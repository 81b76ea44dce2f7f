"""The demo master's collections can be any of the remotes that the product must work with."""

import itertools
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

import syncportal.demo
from syncportal.demo import Collection, accounts, shifts
from syncportal.demo.spec import collection_from, collections_from
from syncportal.demo.store import Refused, Store
from syncportal.demo.versions import checksum_of
from tests.demo.asking import ACCOUNT, ask

ONE = "/accounts/ACC-0001"


def error(reply):
    return reply.json["error"]["code"]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_seed_is_the_same_everywhere(master):
    first = ask(master, "GET", ONE).json
    assert first["email"] == "account0001@example.org"
    assert list(first)[0] == "id"
    assert accounts(40).rows[:10] == accounts(10).rows
    assert ask(master, "GET", "/shifts/SH-0010").json["code"] == "SH-0010"


def test_lists_filter_by_natural_key_and_by_change_time(master):
    assert [row["id"] for row in ask(master, "GET", "/shifts/?code=SH-0004").json["items"]] == ["SH-0004"]
    assert ask(master, "GET", "/shifts/?code=none").json["items"] == []
    master.edit("shifts", "SH-0007", seats=9)
    rows = ask(master, "GET", "/shifts/?updated_since=2026-11-02T00:00:00Z").json["items"]
    assert [row["id"] for row in rows] == ["SH-0007"]


FOLLOW = {
    "offset": lambda reply, n: f"offset={n}" if n < reply.json["total"] else None,
    "page": lambda reply, n: f"page={reply.json['page'] + 1}" if reply.json["page"] < reply.json["pages"] else None,
    "cursor": lambda reply, n: reply.json["next_cursor"] and f"cursor={reply.json['next_cursor']}",
    "last_id": lambda reply, n: f"after={reply.json['items'][-1]['id']}" if reply.json["more"] else None,
    "link": lambda reply, n: reply.headers.get("link", "?").split("?")[1].split(">")[0] or None,
    "next_url": lambda reply, n: reply.json["next"] and reply.json["next"].split("?")[1],
    "header_url": lambda reply, n: reply.headers.get("next-page", "?").split("?")[1] or None,
    "header_params": lambda reply, n: (
        f"offset={reply.headers['x-next-offset']}" if "x-next-offset" in reply.headers else None
    ),
}


@pytest.mark.parametrize("order", ["id", "hashed"])
@pytest.mark.parametrize("style", list(FOLLOW))
def test_every_paging_style_shows_each_object_once(start, style, order):
    master = start(shifts(23, paging=style, order=order))
    seen, query = [], "limit=5"
    for _ in range(10):
        reply = ask(master, "GET", f"/shifts/?{query}")
        rows = reply.json if style == "link" else reply.json["items"]
        seen += [row["id"] for row in rows]
        following = FOLLOW[style](reply, len(seen))
        if not following:
            break
        query = following if "limit=" in following else f"{following}&limit=5"
    assert sorted(seen) == [f"SH-{number:04d}" for number in range(1, 24)]
    assert (seen == sorted(seen)) == (order == "id")


def test_next_links_come_in_four_forms_and_offsets_may_start_at_one(start):
    path = "/api/shifts/?limit=5&offset=5"
    for form, link in (("host", path), ("request", "?limit=5&offset=5"), ("base", "shifts/?limit=5&offset=5")):
        master = start(shifts(9, paging="next_url", next_form=form))
        assert ask(master, "GET", "/shifts/?limit=5").json["next"] == link
    master = start(shifts(9, paging="next_url"))
    assert ask(master, "GET", "/shifts/?limit=5").json["next"] == master.url + path
    master = start(shifts(9, paging="offset", offset_start=1))
    assert ask(master, "GET", "/shifts/?limit=5&offset=6").json["items"][0]["id"] == "SH-0006"


def test_an_unstable_order_changes_between_requests_and_the_size_is_capped(start):
    master = start(shifts(30, order="unstable", max_page_size=20))
    orders = {tuple(row["id"] for row in ask(master, "GET", "/shifts/?limit=999").json["items"]) for _ in range(3)}
    assert {len(order) for order in orders} == {20}
    assert len(orders) > 1


def test_rows_can_be_stubs_wrapped_or_a_bare_array(start):
    master = start(accounts(1, stub_rows=True, row_key="row", items_key=""))
    assert ask(master, "GET", "/accounts").json == [{"row": {"id": "ACC-0001"}}]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=%FF", "cursor=e30=", "limit=-1"])
def test_a_bad_page_is_a_400(master, query):
    assert ask(master, "GET", f"/shifts/?{query}").status == 400


# ── versions and preconditions ───────────────────────────────────────────────────────────────────────────────────────
def test_if_match_refuses_a_stale_write_and_takes_a_fresh_one(master):
    assert ask(master, "PUT", ONE, ACCOUNT, If_Match='"9"').status == 412
    reply = ask(master, "PUT", ONE, ACCOUNT, If_Match='"1"')
    assert (reply.status, reply.json["version"], reply.headers["etag"]) == (200, 2, '"2"')
    assert ask(master, "DELETE", ONE, If_Match='"1"').status == 412
    assert ask(master, "DELETE", ONE, If_Match='"2"').status == 204
    assert ask(master, "GET", ONE).status == 404


def test_if_match_can_be_ignored_or_required(start):
    master = start(accounts(2, precondition="ignored"))
    assert ask(master, "PUT", ONE, ACCOUNT, If_Match='"9"').status == 200
    master = start(accounts(2, require_precondition=True))
    assert ask(master, "PUT", ONE, ACCOUNT).status == 428
    assert ask(master, "DELETE", ONE).status == 428
    assert ask(master, "PUT", ONE, ACCOUNT, If_Match="*").status == 200


def test_preconditions_in_body_query_and_date(start):
    master = start(accounts(2, precondition="body", conflict_status=409))
    assert ask(master, "PUT", ONE, {**ACCOUNT, "version": 4}).status == 409
    assert ask(master, "PUT", ONE, {**ACCOUNT, "version": 1}).json["version"] == 2
    master = start(accounts(2, precondition="query"))
    assert ask(master, "PUT", f"{ONE}?version=2", ACCOUNT).status == 412
    assert ask(master, "PUT", f"{ONE}?version=1", ACCOUNT).status == 200
    master = start(accounts(2, precondition="if_unmodified_since"))
    assert ask(master, "PUT", ONE, ACCOUNT, If_Unmodified_Since="Sun, 01 Nov 2015 06:00:00 GMT").status == 412
    assert ask(master, "PUT", ONE, ACCOUNT, If_Unmodified_Since="Sun, 01 Nov 2026 06:01:00 GMT").status == 200
    assert ask(master, "PUT", ONE, ACCOUNT, If_Unmodified_Since="yesterday").status == 400


def test_versions_can_be_etags_only_or_none(start):
    master = start(accounts(2, version="etag", version_style="opaque"))
    reply = ask(master, "GET", ONE)
    assert "version" not in reply.json
    assert ask(master, "PUT", ONE, ACCOUNT, If_Match='"other"').status == 412
    assert ask(master, "PUT", ONE, ACCOUNT, If_Match=reply.headers["etag"]).status == 200
    master = start(accounts(2, version="none"))
    reply = ask(master, "GET", ONE)
    assert "version" not in reply.json
    assert "etag" not in reply.headers


def test_an_etag_can_be_a_digest_that_says_nothing_about_the_version(start):
    master = start(accounts(2, etag="digest"))
    etag = ask(master, "GET", ONE).headers["etag"]
    assert etag != '"1"'
    assert ask(master, "PUT", ONE, ACCOUNT, If_Match=etag).status == 412
    assert ask(master, "PUT", ONE, ACCOUNT, If_Match='"1"').status == 200


def test_versions_can_have_a_resolution_of_one_second(start):
    master = start(accounts(2, version_style="second"))
    versions = {ask(master, "PUT", ONE, {**ACCOUNT, "city": str(n)}).json["version"] for n in range(5)}
    assert len(versions) < 3
    assert all(len(version) == 20 for version in versions)


@pytest.mark.parametrize(("bumps", "after"), [(True, 3), (False, 2)])
def test_a_write_that_changes_nothing_bumps_the_version_or_not(start, bumps, after):
    master = start(accounts(2, no_change_bumps=bumps))
    ask(master, "PUT", ONE, ACCOUNT)
    assert ask(master, "PUT", ONE, ACCOUNT).json["version"] == after
    assert len(master.writes()) == 2


# ── updates ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_put_replaces_and_patch_merges(start):
    master = start(accounts(2, methods={"PUT": "replace", "PATCH": "merge"}))
    merged = ask(master, "PATCH", ONE, {"city": "Oslo", "notes": None}).json
    assert (merged["city"], merged["email"], "notes" in merged) == ("Oslo", "account0001@example.org", False)
    assert "city" not in ask(master, "PUT", ONE, ACCOUNT).json


def test_null_can_be_a_value_in_a_merge(start):
    master = start(accounts(2, methods={"PATCH": "merge"}, null_removes=False))
    assert ask(master, "PATCH", ONE, {"notes": None}).json["notes"] is None


def test_other_verbs_are_405_and_name_the_allowed_ones(master):
    reply = ask(master, "PATCH", ONE, {})
    assert (reply.status, reply.headers["allow"]) == (405, "GET, PUT, DELETE")
    assert ask(master, "PUT", "/accounts/", ACCOUNT).status == 405
    assert ask(master, "GET", "/elsewhere/1").status == 404
    assert ask(master, "GET", f"{ONE}/deeper").status == 404


def test_server_owned_fields_are_ignored_or_refused_and_the_id_stays(start, master):
    sent = {**ACCOUNT, "version": 99, "updated_at": "never"}
    assert ask(master, "PUT", ONE, sent).json["version"] == 2
    assert ask(master, "PUT", ONE, {**ACCOUNT, "id": "ACC-0002"}).status == 422
    strict = start(accounts(2, refuse_read_only=True))
    reply = ask(strict, "PUT", ONE, sent)
    assert (reply.status, error(reply)) == (422, "read_only")


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"tier": "iron"}, "tier"), ({"active": "yes"}, "active"), ({"credit": -1}, "credit"), ({"name": ""}, "name")],
)
def test_the_schema_is_enforced_with_errors_per_field(master, changes, field):
    reply = ask(master, "PUT", ONE, {**ACCOUNT, **changes})
    assert reply.status == 422
    assert [item["field"] for item in reply.json["error"]["fields"]] == [field]
    assert master.writes() == []


@pytest.mark.parametrize("body", ["", "{", "[1]", '{"credit": NaN}', "[" * 50_000, b"\xff"])
def test_unreadable_bodies_are_4xx(master, body):
    assert ask(master, "PUT", ONE, body).status in (400, 422)
    assert master.writes() == []


def test_bodies_can_be_wrapped_or_forms(start):
    master = start(shifts(2, wrap="data"))
    assert ask(master, "PATCH", "/shifts/SH-0001", {"data": {"seats": 7}}).json["data"]["seats"] == 7
    assert ask(master, "PATCH", "/shifts/SH-0001", {"seats": 7}).status == 422
    master = start(shifts(2, encoding="form"))
    reply = ask(master, "PATCH", "/shifts/SH-0001", "seats=8&confirmed=true&rate=2.5&worker=&site=A%26B").json
    assert [reply[name] for name in ("seats", "confirmed", "rate", "site")] == [8, True, 2.5, "A&B"]
    assert "worker" not in reply


def test_answers_to_writes_can_hide_the_object_or_spell_it_differently(start):
    master = start(accounts(2, write_answer="empty"))
    assert ask(master, "PUT", ONE, ACCOUNT).status == 204
    master = start(accounts(2, write_answer="stub"))
    assert ask(master, "PUT", ONE, ACCOUNT).json == {"id": "ACC-0001"}
    master = start(accounts(2, spelling="loose"))
    shown = ask(master, "PUT", ONE, {**ACCOUNT, "credit": 20.0, "notes": ""}).json
    assert (shown["credit"], shown["notes"], shown["active"]) == (20, None, 1)
    assert ask(master, "PUT", ONE, {**ACCOUNT, "credit": 19.25}).json["credit"] == "19.25"


@pytest.mark.parametrize(("style", "begins"), [("xml", b"<?xml"), ("text", b"The object"), ("empty", b"")])
def test_errors_can_be_told_in_other_ways(start, style, begins):
    reply = ask(start(accounts(1, error_body=style)), "PUT", ONE, ACCOUNT, If_Match='"9"')
    assert reply.status == 412
    assert reply.body.startswith(begins)
    assert (reply.body == b"") == (style == "empty")


def test_checksums_cover_the_listed_fields(start):
    fields = ("name", "city", "missing")
    master = start(accounts(2, checksum_fields=fields))
    shown = ask(master, "PUT", ONE, {**ACCOUNT, "city": "Århus"}).json
    assert shown["checksum"] == checksum_of(shown, fields=fields)


# ── create and delete ────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_server_makes_ids_and_refuses_a_taken_natural_key(master):
    new = {"code": "NEW", "title": "New", "seats": 2}
    reply = ask(master, "POST", "/shifts/", new)
    assert (reply.status, reply.json["id"], reply.headers["location"]) == (201, "SH-0011", "/api/shifts/SH-0011")
    again = ask(master, "POST", "/shifts/", new)
    assert (again.status, error(again)) == (409, "duplicate")
    assert ask(master, "PATCH", "/shifts/SH-0001", {"code": "NEW"}).status == 409
    assert ask(master, "DELETE", "/shifts/SH-0011").status == 204
    assert ask(master, "POST", "/shifts/", new).json["id"] > "SH-0011"


def test_put_creates_only_under_if_none_match(master):
    assert ask(master, "PUT", "/accounts/MINE", ACCOUNT).status == 404
    reply = ask(master, "PUT", "/accounts/MINE", ACCOUNT, If_None_Match="*")
    assert (reply.status, reply.json["id"]) == (201, "MINE")
    assert ask(master, "PUT", "/accounts/MINE", ACCOUNT, If_None_Match="*").status == 412
    assert ask(master, "PUT", "/accounts/OTHER", ACCOUNT, If_Match='"1"').status == 404


def test_an_upsert_server_brings_a_deleted_object_back(start):
    master = start(accounts(2, upsert=True))
    ask(master, "DELETE", ONE)
    assert ask(master, "PUT", ONE, ACCOUNT).status == 201


def test_create_modes_are_enforced(start):
    assert ask(start(accounts(1, create="no")), "POST", "/accounts/", ACCOUNT).status == 405
    assert ask(start(accounts(1, create="client")), "POST", "/accounts/", ACCOUNT).status == 422
    client = start(accounts(1, create="both"))
    assert ask(client, "POST", "/accounts/", {**ACCOUNT, "id": "X"}).json["id"] == "X"
    assert ask(client, "POST", "/accounts/", {**ACCOUNT, "id": "X"}).status == 409
    server = start(accounts(1, create="server"))
    assert ask(server, "POST", "/accounts/", {**ACCOUNT, "id": "X"}).json["id"] == "ACC-0002"
    assert ask(server, "PUT", "/accounts/Y", ACCOUNT, If_None_Match="*").status == 404


def test_an_idempotency_key_replays_the_stored_answer(master):
    first = ask(master, "POST", "/accounts/", ACCOUNT, Idempotency_Key="k1")
    again = ask(master, "POST", "/accounts/", ACCOUNT, Idempotency_Key="k1")
    assert first.json == again.json
    assert again.headers["idempotent-replayed"] == "true"
    other = ask(master, "POST", "/accounts/", {**ACCOUNT, "city": "Rome"}, Idempotency_Key="k1")
    assert (other.status, error(other)) == (422, "idempotency_key_reused")
    assert len(master.writes()) == 1
    assert master.writes()[0].idempotency_key == "k1"


def test_deleted_objects_can_be_gone_or_tombstones(start):
    master = start(accounts(3, gone_status=410))
    ask(master, "DELETE", ONE)
    assert ask(master, "GET", ONE).status == 410
    assert ask(master, "GET", "/accounts/NEVER").status == 404
    master = start(accounts(3, tombstone=("status", "deleted")))
    ask(master, "DELETE", ONE)
    reply = ask(master, "GET", ONE)
    assert (reply.status, reply.json["status"], reply.json["version"]) == (200, "deleted", 2)
    assert ask(master, "PUT", ONE, ACCOUNT).status == 404
    assert ask(master, "DELETE", ONE).status == 404
    assert [row["id"] for row in ask(master, "GET", "/accounts/").json["items"]] == ["ACC-0002", "ACC-0003"]
    master = start(accounts(3, tombstone=("status", "deleted"), list_tombstones=True))
    ask(master, "DELETE", ONE)
    assert len(ask(master, "GET", "/accounts/").json["items"]) == 3


def test_ids_may_be_composite_and_contain_anything(start):
    rows = ({"site": "A/B", "code": "x y|%3A", "seats": 1}, {"site": 'Hall "B"', "code": "ü", "seats": 2})
    master = start(Collection(name="slots", rows=rows, id_fields=("site", "code"), methods={"PATCH": "merge"}))
    assert ask(master, "GET", "/slots/A%2FB/x%20y%7C%253A").json["seats"] == 1
    assert ask(master, "PATCH", "/slots/Hall%20%22B%22/%C3%BC", {"seats": 5}).json["seats"] == 5
    assert master.writes()[0].object_id == 'Hall "B"|ü'
    assert master.get("slots", "A/B|x y%7C%3A")["seats"] == 1


# ── credentials, options, transport ──────────────────────────────────────────────────────────────────────────────────
def test_a_configured_credential_is_asked_for(start):
    master = start(accounts(1), credential="demo:s3cret")
    assert ask(master, "GET", ONE).status == 401
    assert ask(master, "GET", ONE, Authorization="Basic ZGVtbzp3cm9uZw==").status == 401
    assert ask(master, "GET", ONE, Authorization="Basic ZGVtbzpzM2NyZXQ=").status == 200
    master = start(accounts(1), credential="bearer:abc")
    assert ask(master, "GET", ONE, Authorization="Bearer abc").status == 200


def test_options_are_checked_and_readable_from_json():
    with pytest.raises(ValueError, match="paging must be one of"):
        accounts(1, paging="scroll")
    with pytest.raises(ValueError, match="unknown option 'pages'"):
        collection_from({"name": "accounts", "pages": 3})
    made = collections_from([{"kind": "shifts", "name": "turns", "count": 2}, {"name": "x", "rows": [{"id": "1"}]}])
    assert [(spec.name, len(spec.rows)) for spec in made] == [("turns", 2), ("x", 1)]


def test_the_store_works_without_any_transport():
    store = Store((accounts(3),))
    store.edit("accounts", "ACC-0001", {"city": "Lund"})
    store.create("accounts", ACCOUNT)
    store.delete("accounts", "ACC-0003")
    assert [write.seq for write in store.writes()] == [1, 2, 3]
    assert [row["id"] for row in store.all("accounts")] == ["ACC-0001", "ACC-0002", "ACC-0004"]
    with pytest.raises(Refused) as refused:
        store.edit("accounts", "ACC-0003", {})
    assert refused.value.status == 404


def test_requests_may_arrive_in_pieces_or_several_at_once(master):
    import socket

    request = f"GET /api{ONE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", master.port), timeout=1) as sock:
        for piece in itertools.batched(request, 7) if hasattr(itertools, "batched") else (request[:9], request[9:]):
            sock.sendall(bytes(piece))
        assert b"200 OK" in sock.recv(4096)
        sock.sendall(request * 3)
        received = b""
        while received.count(b"200 OK") < 3:
            received += sock.recv(65536)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /api/accounts HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"PUT /api/accounts/1 HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"PUT /api/accounts/1 HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"PUT /api/accounts/1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, b"431"),
    ],
)
def test_what_is_no_request_is_answered_and_closed(master, raw, status):
    import socket

    with socket.create_connection(("127.0.0.1", master.port), timeout=1) as sock:
        sock.sendall(raw)
        received = b""
        while chunk := sock.recv(4096):
            received += chunk
    assert received.startswith(b"HTTP/1.1 " + status)


def test_the_seed_fits_the_configuration_file_that_comes_with_it(master):
    path = Path(syncportal.demo.__file__).with_name("remotes.yaml")
    for remote in yaml.safe_load(path.read_text())["remotes"]:
        for resource in remote["resources"]:
            validator = Draft202012Validator(resource["schema"], format_checker=Draft202012Validator.FORMAT_CHECKER)
            rows = ask(master, "GET", resource["list"]["path"]).json["items"]
            assert len(rows) == 10
            for row in rows:
                validator.validate(row)
                assert set(row) == set(resource["schema"]["properties"])
