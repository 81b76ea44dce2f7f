"""Whatever is sent, the answer is a problem document and never a 500, HTML or a stack trace."""

import pytest
from django.test import Client, override_settings

from syncportal.sync.models import Record
from tests.api.world import World

BODIES: dict[str, tuple[bytes, int, str]] = {
    "brackets": (b"[" * 100_000, 400, "json_"),
    "braces": (b'{"data":' * 50_000 + b"1" + b"}" * 50_000, 400, "json_too_deep"),
    "deep": (b'{"data":' + b'{"a":' * 60 + b"1" + b"}" * 61, 400, "json_too_deep"),
    "nul": (b'{"data": {"name": "a\\u0000b"}}', 400, "json_nul"),
    "raw nul": (b'{"data": {"name": "a\x00b"}}', 400, "json_"),
    "surrogate": (b'{"data": {"name": "\\ud800"}}', 400, "json_surrogate"),
    "nan": (b'{"data": {"credit": NaN}}', 400, "json_not_a_number"),
    "infinity": (b'{"data": {"credit": 1e999}}', 400, "json_not_a_number"),
    "huge integer": (b'{"data": {"credit": ' + b"9" * 5000 + b"}}", 400, "json_huge_integer"),
    "twice": (b'{"data": {"name": "a", "name": "b"}}', 400, "json_duplicate_key"),
    "large": (b'{"data": {"name": "' + b"x" * 2_000_000 + b'"}}', 413, "body_too_large"),
    "latin-1": (b'{"data": {"name": "\xe9"}}', 400, "json_encoding"),
    "utf-16": ('{"data": {}}'.encode("utf-16"), 400, "json_encoding"),
    "bom": (b'\xef\xbb\xbf{"data": {}}', 400, "json_bom"),
    "truncated": (b'{"data": {"name"', 400, "json_syntax"),
    "array": (b"[]", 400, "json_not_an_object"),
    "text": (b'"data"', 400, "json_not_an_object"),
    "null": (b"null", 400, "json_not_an_object"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused(world: World, name: str) -> None:
    body, status, code = BODIES[name]
    client = world.caller("owner")
    for address, method in (
        ("/api/v1/records/", "post"),
        (f"/api/v1/records/{world.record.pk}/", "patch"),
        (f"/api/v1/records/{world.record.pk}/retry/", "post"),
    ):
        answer = client.generic(method.upper(), address, body, content_type="application/json",
                                HTTP_IDEMPOTENCY_KEY=f"k-{name.replace(' ', '-')}-{method}")  # fmt: skip
        assert answer.status_code == status, answer.content
        assert answer.json()["code"].startswith(code)
        assert answer["Content-Type"] == "application/problem+json"
    world.record.refresh_from_db()
    assert world.record.revision == 1
    assert Record.objects.count() == 2


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/html",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/xml",
        "nonsense",
        "",
    ],
)
def test_another_content_type_is_415(world: World, content_type: str) -> None:
    for client in (world.caller("owner"), _session(world)):
        answer = client.generic("POST", "/api/v1/records/", b'{"resource": "x"}', content_type=content_type)
        assert answer.status_code == 415, (content_type, answer.content)
        assert answer["Content-Type"] == "application/problem+json"


def _session(world: World) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(world.people["owner"])
    return client


def test_a_large_form_of_a_session_is_a_4xx(world: World) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(world.people["owner"])
    client.cookies["csrftoken"] = "a" * 32
    answer = client.generic(
        "POST", "/api/v1/records/", b"a=" + b"x" * 3_000_000, content_type="application/x-www-form-urlencoded"
    )
    assert 400 <= answer.status_code < 500
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("GET", "/api/v1/records/0/", 404), ("GET", "/api/v1/records/999999999999999999/", 404),
        ("GET", "/api/v1/records/99999999999999999999/", 404), ("GET", "/api/v1/records/abc/", 404),
        ("GET", "/api/v1/records/-1/", 404), ("GET", "/api/v1/records", 404), ("POST", "/api/v1/records", 404),
        ("GET", "/api/v1/nothing/", 404), ("GET", "/api/", 404), ("GET", "/api/v2/records/", 404),
        ("PUT", "/api/v1/records/", 405), ("DELETE", "/api/v1/records/", 405), ("OPTIONS", "/api/v1/records/", 405),
        ("TRACE", "/api/v1/records/", 405), ("POST", "/api/v1/events/", 405), ("GET", "/api/v1/records/1/retry/", 405),
        ("GET", "/api/v1/records/%00/", 404), ("GET", "/api/v1/resources/../", 404),
    ],
)  # fmt: skip
def test_wrong_addresses_and_methods_are_problem_documents(
    world: World, method: str, address: str, status: int
) -> None:
    for debug in (False, True):
        with override_settings(DEBUG=debug):
            answer = world.caller("owner").generic(method, address)
        assert answer.status_code == status, answer.content
        assert answer["Content-Type"] == "application/problem+json"
        shown = answer.json()
        assert {"type", "title", "status", "detail", "code", "requestId"} <= set(shown)
        assert shown["requestId"] == answer["X-Request-ID"]
        assert shown["status"] == status


def test_accept_that_cannot_be_met_is_406(world: World) -> None:
    answer = world.caller("owner").get("/api/v1/records/", HTTP_ACCEPT="text/html")
    assert (answer.status_code, answer["Content-Type"]) == (406, "application/problem+json")
    assert world.caller("owner").get("/api/v1/records/", HTTP_ACCEPT="*/*").status_code == 200


def test_a_request_id_is_taken_over_when_it_is_harmless(world: World) -> None:
    client = world.caller("owner")
    assert client.get("/api/v1/x/", HTTP_X_REQUEST_ID="mine-1").json()["requestId"] == "mine-1"
    assert client.get("/api/v1/x/", HTTP_X_REQUEST_ID="a b\n").json()["requestId"] != "a b\n"


def test_a_failure_of_ours_tells_nothing_but_the_request_id(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from syncportal.sync.api.records import RecordViews

    def fail(self: object) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr(RecordViews, "get_queryset", fail)
    for debug in (False, True):
        with override_settings(DEBUG=debug):
            answer = world.caller("owner").get("/api/v1/records/")
        assert (answer.status_code, answer.json()["code"]) == (500, "server_error")
        assert b"secret" not in answer.content
        assert answer.json()["requestId"] == answer["X-Request-ID"]


def test_a_forged_host_is_a_problem_document(world: World) -> None:
    answer = world.caller("owner").get("/api/v1/records/", HTTP_HOST="evil.example")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_every_answer_carries_the_security_headers(world: World) -> None:
    answer = world.caller("owner").get("/api/v1/records/")
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cache-Control"] == "no-store"
