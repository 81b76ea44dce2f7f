"""TLS: certificates are always checked against the URL's host, and a deadline holds through the encryption."""

import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from syncportal.remote import sockets
from syncportal.remote.client import Deadline, HttpClient, HttpRequest
from syncportal.remote.errors import RemoteError
from tests.remote.wire import always, elapsed, serving


def certificate(folder, *names, expired=False):
    """Write a self-signed certificate and key; return the path of the file that holds both."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    until = datetime.now(UTC) + timedelta(days=-1 if expired else 1)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=5))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)


def talking(script, path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return serving(script, context=context)


def client(path=None):
    context = sockets.tls_context(cafile=path) if path else None
    return HttpClient(allowed_networks=["127.0.0.0/8", "::1/128"], context=context)


def put(url):
    return HttpRequest(method="PUT", url=url, purpose="write", body=b"{}", is_write=True)


HERE = (x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost"))


def test_a_trusted_certificate_is_accepted_and_the_connection_kept(tmp_path):
    path = certificate(tmp_path, *HERE)
    with talking(always(b'{"a":1}'), path) as server:
        calling = client(path)
        for host in ("127.0.0.1", "localhost"):
            for _ in range(3):
                answer = calling.send(put(f"https://{host}:{server.port}/"), deadline=Deadline(3))
                assert answer.body == {"a": 1}
        assert server.connections == 2


@pytest.mark.parametrize("fault", ["unknown", "expired", "other host"])
def test_a_bad_certificate_is_refused_before_anything_is_sent(tmp_path, fault):
    names = (x509.DNSName("elsewhere.example"),) if fault == "other host" else HERE
    path = certificate(tmp_path, *names, expired=fault == "expired")
    with talking(always(), path) as server:
        with pytest.raises(RemoteError) as caught:
            client(None if fault == "unknown" else path).send(put(server.url), deadline=Deadline(3))
        assert server.requests == []
    error = caught.value
    assert (error.kind, error.code, error.maybe_applied) == ("unreachable", "tls", False)
    assert "certificate" in error.detail


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_dripping_answer_ends_at_the_deadline_through_tls(tmp_path, part):
    path = certificate(tmp_path, *HERE)

    def script(talk):
        talk.request()
        if part == "body":
            talk.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        talk.drip(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000 if part == "headers" else b" " * 1000)

    with talking(script, path) as server:
        calling = client(path)
        started = time.monotonic()
        with pytest.raises(RemoteError) as caught:
            calling.send(put(server.url), deadline=Deadline(0.5))
        assert elapsed(started) < 4
    assert (caught.value.kind, caught.value.maybe_applied) == ("timeout", True)
