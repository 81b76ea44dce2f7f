"""Tokens: fetched once, shared encrypted through the database, renewed once after a 401, never shown."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from django.core.exceptions import ImproperlyConfigured

from syncportal.kernel import encryption
from syncportal.remote import auth
from syncportal.remote.client import Deadline
from syncportal.remote.configuration import save_remote, save_resource
from syncportal.remote.errors import Misconfiguration, Unauthorized
from syncportal.remote.gateway import client_for
from syncportal.remote.models import AccessToken, Remote, Resource


class Issuer(BaseHTTPRequestHandler):
    """Issues numbered tokens and accepts only the newest one."""

    protocol_version = "HTTP/1.1"
    issued = 0
    seen: list[tuple[str, str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/token":
            given = self.headers.get("Authorization", "")
            wanted = "Basic " + base64.b64encode(b"me:s3cret-word").decode()
            good = given == wanted and parse_qs(body)["grant_type"] == ["client_credentials"]
        else:
            good = json.loads(body) == {"identity": "me", "password": "s3cret-word"}
        if not good:
            self.answer(401, {})
            return
        Issuer.issued += 1
        self.answer(200, {"access_token": f"token-{Issuer.issued}", "expires_in": 3600})

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        Issuer.seen.append((self.path, given))
        self.answer(200 if given == f"Bearer token-{Issuer.issued}" else 401, {"id": "1"})

    def answer(self, status: int, body: dict) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def base_url(settings) -> Iterator[str]:
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    Issuer.issued, Issuer.seen = 0, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


KINDS = {
    "oauth2_client_credentials": {"token_url": "/token", "client_id": "me", "secret": "s3cret-word"},
    "login": {
        "token_path": "/login", "token_body": {"identity": "{user}", "password": "{password}"},
        "token_pointer": "/access_token", "ttl_s": 3600, "secret": "me:s3cret-word",
    },
}  # fmt: skip


def resource_with(kind: str, base_url: str, *, secret: str | None = None) -> Resource:
    knobs = dict(KINDS[kind])
    default = knobs.pop("secret")
    config = {"auth": {"kind": kind, "credential": "stored", **knobs}}
    remote = save_remote(slug="r", name="", base_url=base_url, config=config, secret=secret or default).row
    return save_resource(
        remote=remote, slug="things", name="", config={"detail": {"path": "/things/{0}"}, "id": ["/id"]}
    ).row


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", KINDS)
def test_a_token_is_fetched_once_and_shared(kind, base_url) -> None:
    resource = resource_with(kind, base_url)
    for _ in range(3):
        found = client_for(resource).read("1", deadline=Deadline(5))
        assert "token-1" not in repr(found.answer.exchange)
    assert Issuer.issued == 1
    row = AccessToken.objects.get()
    assert (str(row.token), row.expires_at > row.fetched_at) == ("token-1", True)
    assert "s3cret" not in str(AccessToken.objects.values())


@pytest.mark.django_db(transaction=True)
def test_a_refused_token_is_renewed_once_and_stored_by_the_caller(base_url) -> None:
    resource = resource_with("login", base_url)
    client = client_for(resource)
    Issuer.issued += 1  # the remote forgets the first token
    assert client.read("1", deadline=Deadline(5)).object.external_id == "1"
    assert Issuer.issued == 3
    assert auth.store(resource.remote, client.credentials)
    assert str(AccessToken.objects.get().token) == "token-3"
    assert not auth.store(resource.remote, client.credentials)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_credential_is_unauthorized_and_not_quoted(kind, base_url) -> None:
    with pytest.raises(Unauthorized) as failure:
        client_for(resource_with(kind, base_url, secret="me:wrong-word"))
    assert "wrong-word" not in str(failure.value) + repr(failure.value.exchange)


@pytest.mark.django_db(transaction=True)
def test_a_new_credential_never_uses_the_old_token(base_url) -> None:
    resource = resource_with("login", base_url)
    client_for(resource)
    Remote.objects.update(secret="me:other-word")
    with pytest.raises(Unauthorized):
        client_for(Resource.objects.get())


@pytest.mark.django_db
def test_what_is_missing_is_said_in_words(settings) -> None:
    remote = Remote(
        slug="r", base_url="http://x.test", config={"auth": {"kind": "basic", "credential": "env:NOT_THERE"}}
    )
    with pytest.raises(Misconfiguration, match="NOT_THERE"):
        auth.prepare(remote)
    settings.ENV_SECRET = lambda name: "no-colon"
    with pytest.raises(Misconfiguration, match="user:password"):
        auth.prepare(remote)
    remote.config["auth"]["credential"] = "stored"
    with pytest.raises(Misconfiguration, match="no stored credential"):
        auth.prepare(remote)


def test_query_credentials_are_stripped_from_links_that_are_kept() -> None:
    remote = Remote(slug="r", base_url="http://x.test", config={"auth": {"kind": "query", "credential": "stored"}})
    remote.secret = "sig=abcdef&se=2030"
    credentials = auth.prepare(remote)
    assert credentials.stripped("http://x.test/a?sig=abcdef&page=2&se=2030") == "http://x.test/a?page=2"
    assert "abcdef" not in repr(credentials)


def test_keys_rotate_and_any_text_can_be_a_key() -> None:
    old = encryption.encrypt("secret", keys=["any old words"])
    assert encryption.decrypt(old, keys=["a new key", "any old words"]) == "secret"
    lost = encryption.decrypt(old, keys=["another"])
    assert isinstance(lost, encryption.Undecryptable)
    assert (lost, lost.ciphertext) == ("", old)
    with pytest.raises(ImproperlyConfigured):
        encryption.encrypt("x", keys=[])


@pytest.mark.django_db
def test_a_secret_whose_key_is_lost_survives_a_save(settings) -> None:
    Remote.objects.create(slug="r", base_url="http://x.test", secret="user:pass")
    keys, settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS, ["another key"]
    row = Remote.objects.get()
    row.name = "renamed"
    row.save()
    row.config = {"auth": {"kind": "basic", "credential": "stored"}}
    with pytest.raises(Misconfiguration, match="ENCRYPTION_KEYS"):
        auth.prepare(row)
    settings.ENCRYPTION_KEYS = keys
    assert Remote.objects.get().secret == "user:pass"
