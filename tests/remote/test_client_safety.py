"""No secret leaves an exchange, and no call leaves the networks that are allowed."""

import socket
import traceback

import pytest

from syncportal.remote import addresses
from syncportal.remote.client import Deadline, HttpClient, HttpRequest
from tests.remote.calling import closed_port, failure, get, put
from tests.remote.wire import always, serving

# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_are_found_nowhere_in_an_exchange(client):
    echo = b'{"you_sent": "s3cret-value", "token": "abc-token-value", "note": "fresh-token"}'
    with serving(always(echo, headers="Set-Cookie: sid=cookie-value\r\nX-Echo: s3cret-value\r\n")) as server:
        request = HttpRequest(
            method="POST",
            url=server.url + "/s3cret-value?api_key=query-value&x=s3cret-value",
            purpose="write",
            headers={"Authorization": "Basic header-value", "X-Other": "fresh-token"},
            body=b'{"password": "body-value", "x": "s3cret-value"}',
            is_write=True,
        )
        exchange = client.with_secrets("fresh-token").send(request, deadline=Deadline(3)).exchange
    shown = repr(exchange)
    for secret in ("s3cret-value", "abc-token-value", "fresh-token", "cookie-value", "query-value", "header-value",
                   "body-value"):  # fmt: skip
        assert secret not in shown
    assert b"s3cret-value" in server.requests[0]


def test_secrets_are_found_in_no_traceback_and_no_log(client, caplog):
    url = f"http://127.0.0.1:{closed_port()}/x?signature=query-value"
    with caplog.at_level(0):
        errors = [failure(client, put(url, headers={"Authorization": "Basic header-value"}))]
        with serving(always(b"", headers="no colon\r\n")) as server:
            errors.append(failure(client, put(server.url + "/?signature=query-value")))
        with serving(lambda talk: talk.request()) as server:
            errors.append(failure(client, put(server.url + "/?signature=query-value")))
    shown = "".join("".join(traceback.format_exception(error)) for error in errors) + caplog.text
    assert "query-value" not in shown
    assert "header-value" not in shown


def test_a_stored_body_is_capped_with_a_mark(client):
    with serving(always(b'"' + b"x" * 100_000 + b'"')) as server:
        exchange = client.send(get(server.url), deadline=Deadline(3)).exchange
    assert exchange.response_body.endswith("[cut: 100,002 bytes in all]")
    assert len(exchange.response_body) < 16 * 1024 + 100
    assert exchange.response_bytes == 100_002


# --- where calls may go -----------------------------------------------------------------------------------------------

SPELLINGS = [
    "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
    "http://localhost/", "http://localhost./", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::]/",
    "http://0/", "http://169.254.169.254/latest/meta-data", "http://[fe80::1%25lo]/", "http://[64:ff9b::7f00:1]/",
    "http://0xa9fea9fe/", "http://10.0.0.1/", "http://[fd00:ec2::254]/", "http://100.100.100.200/",
    "http://①②⑦.⓪.⓪.①/", "http://user@127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1/",
]  # fmt: skip


@pytest.mark.parametrize("url", SPELLINGS)
def test_internal_addresses_are_refused_in_every_spelling(url):
    error = failure(HttpClient(allowed_networks=[]), put(url))
    assert error.code in ("address_refused", "dns")
    assert error.maybe_applied is False


def test_a_name_that_changes_its_address_after_the_check_leads_nowhere_else(monkeypatch):
    answers = iter([("93.184.216.34", 80), ("127.0.0.1", 80)])
    asked = []

    def rebinding(host, port, *args, **kwargs):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers)[0], port))]

    connected = []

    def connect(self, address):
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(addresses.socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket.socket, "connect", connect)
    client = HttpClient(allowed_networks=[])
    assert failure(client, get("http://rebind.example/")).code == "refused"
    assert connected == [("93.184.216.34", 80)]
    assert failure(client, get("http://rebind.example/")).code == "address_refused"
    assert connected == [("93.184.216.34", 80)]
    assert asked == ["rebind.example"] * 2


def test_the_allowed_networks_come_from_the_settings(settings):
    settings.REMOTE_ALLOWED_NETWORKS = []
    with serving(always()) as server:
        assert failure(HttpClient(), get(server.url)).code == "address_refused"
        settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]
        assert HttpClient().send(get(server.url), deadline=Deadline(3)).status == 200


def test_ipv6_keeps_its_brackets_in_the_host_header(client):
    try:
        context = serving(always(), family=socket.AF_INET6)
        with context as server:
            client.send(get(f"http://[::1]:{server.port}/"), deadline=Deadline(3))
            assert f"Host: [::1]:{server.port}\r\n".encode() in server.requests[0]
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_the_environment_has_no_say(client, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(always(headers="Set-Cookie: a=b; Path=/\r\n")) as server:
        for _ in range(2):
            client.send(get(server.url), deadline=Deadline(3))
    assert b"Cookie" not in server.requests[1]
