"""Redaction: secrets never reach what is stored, whatever shape they travel in."""

import base64
import json
from urllib.parse import quote

import pytest

from syncportal.kernel.redaction import MASK, Redactor, cap_bytes, looks_secret, visible

CANARY = "s3cr3t/Canary+value="


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "apikey", "api_key", "apiKey",
        "password", "passwd", "user_password", "newPassword", "client_secret", "clientSecret", "secret", "token",
        "access_token", "refreshToken", "X-Auth-Token", "id_token", "private_key", "X-Amz-Signature", "sig",
        "sessionid", "X-CSRF-Token", "jwt", "pwd", "passphrase", "X-Access-Key", "accountKey", "credential", "auth",
    ],
)  # fmt: skip
def test_names_under_which_secrets_travel_are_known(name):
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    ["id", "title", "seats", "key", "public_key_count", "author", "Content-Type", "ETag", "next_page_token",
     "passenger", "assignee", "WWW-Authenticate", "Idempotency-Key", "code", "tokenizer_name", "pinned", "design"],
)  # fmt: skip
def test_ordinary_names_are_left_alone(name):
    assert not looks_secret(name)


def test_secret_headers_keep_only_their_names():
    found = Redactor(names=["X-Odd"]).headers(
        {"Authorization": "Basic abc", "x-odd": "1", "Accept": "a/b", "ETag": '"1"'}
    )
    assert found == {"Authorization": MASK, "x-odd": MASK, "Accept": "a/b", "ETag": '"1"'}


def test_a_url_loses_userinfo_and_secret_parameters():
    found = Redactor().url("https://me:pw@host/p;x?api_key=abc&page=2&se%63ret=1&X-Amz-Signature=ff#frag")
    assert found == f"https://{MASK}@host/p;x?api_key={MASK}&page=2&se%63ret={MASK}&X-Amz-Signature={MASK}#frag"


@pytest.mark.parametrize(
    "spelled",
    [
        CANARY, quote(CANARY, safe=""), quote(CANARY), json.dumps(CANARY), 
        base64.b64encode(CANARY.encode()).decode(), base64.urlsafe_b64encode(CANARY.encode()).decode(),
        quote(CANARY, safe="").lower().replace("canary", "Canary"), CANARY.replace("/", "\\/"),
    ],
)  # fmt: skip
def test_a_known_secret_is_found_in_every_spelling(spelled):
    redactor = Redactor(secrets=[CANARY])
    for text in (
        redactor.line(f"failed with {spelled} somewhere"),
        redactor.url(f"https://host/{spelled}?q={spelled}"),
        redactor.body(f'{{"note": "{spelled}"}}'.encode()),
        redactor.body(f"<p>{spelled}</p>"),
        redactor.headers({"X-Echo": spelled})["X-Echo"],
    ):
        assert MASK in text
        assert CANARY.lower() not in text.lower()
        assert spelled.strip('"') not in text


def test_secret_fields_of_a_json_body_are_masked_at_any_depth():
    body = b'{"a": [{"password": "hunter2", "n": 1}], "access_token": {"x": "y"}, "api\\u005fkey": 5, "token": null}'
    assert json.loads(Redactor().body(body)) == {
        "a": [{"password": MASK, "n": 1}], "access_token": MASK, "api_key": MASK, "token": None,
    }  # fmt: skip


def test_a_body_without_secrets_is_kept_as_it_came():
    body = '{ "title" : "Ä",  "seats":3 }\n'
    assert Redactor(secrets=["abcdef"]).body(body.encode()) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"password": "hunter2", "broken',
        b'{"password":"hunter2"',
        b'x {"password" : "hunter2"}',
        b"grant_type=a&client_secret=hunter2&b=1",
        b"client_secret=hunter2",
        b"Authorization: Bearer hunter2222",
        b'{"password": "hunter2' + b"x" * 100_000,
        b'[{"a":"' + b"x" * 70_000 + b'"},{"password": "hunter2"}]',
    ],
)
def test_a_body_that_is_not_json_is_searched_as_text(body):
    assert "hunter2" not in Redactor().body(body)


def test_a_long_body_is_cut_by_bytes_and_says_so():
    found = Redactor(cap=10).body("ä" * 50)
    assert found == "ä" * 5 + "… [cut: 100 bytes in all]"
    assert Redactor(cap=10).body("ä" * 5) == "ä" * 5
    assert Redactor(cap=11).body("ä" * 50).startswith("ä" * 5 + "…")
    assert cap_bytes("ä" * 50, cap=10) == found
    assert cap_bytes("abc", cap=10) == "abc"


def test_a_secret_at_the_edge_of_the_cap_is_not_half_kept():
    found = Redactor(secrets=["0123456789abcdef"], cap=20).body("x" * 12 + "0123456789abcdef" + "y" * 500)
    assert "0123" not in found


@pytest.mark.parametrize("before", ["", "u:", "us:", "user:", "a-long-user-name:"])
def test_a_secret_inside_base64_is_found_at_every_offset(before):
    coded = base64.b64encode(f"{before}0123456789abcdef:more".encode()).decode()
    found = Redactor(secrets=["0123456789abcdef"]).line(f"x {coded} y")
    kept = found.replace(MASK, "").replace("x ", "").replace(" y", "")
    assert MASK in found
    assert len(kept) <= len(coded) - 18


def test_a_secret_cut_by_the_window_is_dropped_even_when_the_text_shrinks():
    secret = "k3y-" * 300
    found = Redactor(secrets=[secret], cap=1000).body((secret * 9).encode())
    assert "k3y-" not in found


def test_control_and_direction_characters_become_escapes():
    assert visible("a\x00b\x1b[31m\r\nc\u202e") == "a\\u0000b\\u001b[31m\\u000d\nc\\u202e"
    assert Redactor().line("a\nb") == "a\\u000ab"
    assert Redactor().body(b"a\x00\xff\n") == "a\\u0000\\xff\n"
    assert visible("tab\tä") == "tab\tä"


def test_no_body_stays_no_body():
    assert Redactor().body(None) is None
    assert Redactor().body(b"") == ""


def test_short_secrets_do_not_blank_ordinary_text():
    assert Redactor(secrets=["a", "", "abc"]).line("abc banana") == "abc banana"


def test_further_secrets_can_be_added_later():
    redactor = Redactor(secrets=["first-one"], names=["x-odd"]).with_secrets("second-one")
    assert redactor.line("first-one second-one") == f"{MASK} {MASK}"
    assert redactor.is_secret("X-Odd")
