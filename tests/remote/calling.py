"""One call with the HTTP client: its requests, and how it fails."""

import gzip
import socket

import pytest

from syncportal.remote.client import Deadline, HttpRequest
from syncportal.remote.errors import RemoteError

LOOPBACK = ["127.0.0.0/8", "::1/128"]


def get(url, **rest):
    return HttpRequest(method="GET", url=url, purpose="read", **rest)


def put(url, **rest):
    return HttpRequest(method="PUT", url=url, purpose="write", body=b'{"a":1}', is_write=True, **rest)


def failure(client, request, *, seconds=3.0):
    with pytest.raises(RemoteError) as caught:
        client.send(request, deadline=Deadline(seconds))
    return caught.value


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


BOMB = gzip.compress(b" " * 40_000_000, mtime=0)
