"""No spelling of an internal address gets past the policy."""

import socket
import threading
import time

import pytest

from syncportal.remote import addresses
from syncportal.remote.addresses import AddressPolicy, AddressRefused, NameNotResolved, parse_url

METADATA = ["169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"]
NEVER = [
    *METADATA,
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.255",
    "ff02::1",
    "240.0.0.1",
    "255.255.255.255",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:1::1",
]
PRIVATE = [
    "127.0.0.1",
    "127.255.0.9",
    "::1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "::7f00:1",
    "2002:7f00:1::",
    "198.18.0.1",
    "192.0.2.1",
    "2606:4700::200:5efe:a00:1",
]


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_whatever_is_allowed(address):
    assert AddressPolicy().problem(address)
    assert "never allowed" in AddressPolicy(["0.0.0.0/0", "::/0"]).problem(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_need_an_entry(address):
    assert AddressPolicy().problem(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses_are_allowed(address):
    assert AddressPolicy().problem(address) is None


@pytest.mark.parametrize(
    ("network", "address", "allowed"),
    [
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "::ffff:127.0.0.1", True),
        ("127.0.0.0/8", "64:ff9b::7f00:1", True),
        ("127.0.0.0/8", "::1", False),
        ("127.0.0.0/8", "10.0.0.1", False),
        ("::1/128", "::1", True),
        ("10.0.0.0/8", "10.9.9.9", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", False),
        ("100.64.0.0/10", "100.64.0.1", True),
        ("100.64.0.0/10", "100.100.100.200", False),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "fd00:ec2::254", False),
        (" 10.0.0.1/8 ", "10.0.0.1", True),
    ],
)
def test_an_entry_allows_exactly_its_network(network, address, allowed):
    assert (AddressPolicy([network]).problem(address) is None) is allowed


def test_a_bad_network_is_an_error():
    with pytest.raises(ValueError, match="nonsense"):
        AddressPolicy(["nonsense"])


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.0.0.1", "017700000001", "localhost", "::1",
     "::ffff:127.0.0.1", "0:0:0:0:0:ffff:7f00:1", "0", "0.0.0.0", "169.254.169.254", "2852039166", "0xa9fea9fe",
     "::ffff:a9fe:a9fe", "[::1]".strip("[]")],
)  # fmt: skip
def test_every_spelling_of_an_internal_address_is_refused(host):
    with pytest.raises((AddressRefused, NameNotResolved)):
        AddressPolicy().resolve(host, 80, timeout_s=2)


def test_a_name_with_good_and_bad_addresses_leads_only_to_the_good_ones(monkeypatch):
    infos = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
        for address in ("169.254.169.254", "93.184.216.34", "10.0.0.1")
    ]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *args, **kwargs: infos)
    found = AddressPolicy().resolve("mixed.example", 80, timeout_s=1)
    assert [address.sockaddr[0] for address in found] == ["93.184.216.34"]


def test_a_resolver_that_hangs_does_not_hold_the_caller(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *args, **kwargs: release.wait(5))
    started = time.monotonic()
    with pytest.raises(NameNotResolved, match="in time"):
        AddressPolicy().resolve("slow.example", 80, timeout_s=0.1)
    release.set()
    assert time.monotonic() - started < 4


def test_a_url_is_taken_apart_once():
    target = parse_url("HTTPS://Example.COM:8443/a%3Ab/../c?q=%20&x=1#frag")
    assert (target.scheme, target.host, target.port) == ("https", "example.com", 8443)
    assert target.path == "/a%3Ab/../c?q=%20&x=1"
    assert parse_url("http://h").path == "/"
    assert parse_url("http://h").port == 80
    assert parse_url("https://h?q=1").path == "/?q=1"
    assert parse_url("http://[::1]:81/").host == "::1"
    assert parse_url("http://bücher.example/").host == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "url",
    ["ftp://h/", "file:///etc/passwd", "gopher://h", "//h/", "h/x", "", "http://", "http:///x", "http://u:p@h/",
     "http://u@h/", "http://@h/", "http://h:0/", "http://h:99999/", "http://h:x/", "http://h\\@evil/", "http://h /",
     "http://h/\r\nX: y", "http://h/\x00", "http://[::1/", "javascript:alert(1)", "http://" + "ü" * 80 + "/"],
)  # fmt: skip
def test_anything_but_a_plain_http_url_is_refused(url):
    with pytest.raises(AddressRefused):
        parse_url(url)
