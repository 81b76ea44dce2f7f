"""A plain HTTP client for the demo master's tests."""

import http.client
import json
from dataclasses import dataclass
from typing import Any

from syncportal.demo import DemoMaster

ACCOUNT = {"name": "New", "email": "new@example.org", "tier": "gold", "active": True}
ONE = "/accounts/ACC-0001"
CHANGED = {**ACCOUNT, "city": "Oslo"}


@dataclass
class Reply:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Read the body as JSON."""
        return json.loads(self.body)


def ask(master: DemoMaster, method: str, path: str, body: Any = None, *, timeout: float = 10, **headers: str) -> Reply:
    """Send one request on a connection of its own; header names are written with underscores."""
    connection = http.client.HTTPConnection("127.0.0.1", master.port, timeout=timeout)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        payload = body if body is None or isinstance(body, bytes | str) else json.dumps(body)
        connection.request(method, path if path.startswith("/_") else f"/api{path}", payload, sent)
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def put(master: DemoMaster, *, fault: str = "", timeout: float = 10, **headers: str) -> Reply:
    """PUT account 1 under a fault of this request."""
    if fault:
        headers["X_Demo_Fault"] = fault
    return ask(master, "PUT", ONE, CHANGED, timeout=timeout, **headers)
