"""A client of the control API, for the command line and for tests whose demo master is another process.

Owns: the calls to `/_demo/`. Guarantees: a refusal is a `ControlError` with the server's sentence.
"""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit


class ControlError(Exception):
    """The demo master refused a command, or is not there; the message says which."""


class DemoControl:
    """Switches a running demo master. `url` is its address, e.g. http://127.0.0.1:8900."""

    def __init__(self, url: str, *, timeout_s: float = 10) -> None:
        split = urlsplit(url)
        if split.scheme != "http" or not split.hostname:
            raise ControlError(f"{url!r} is not an http:// address.")
        self.url = url.rstrip("/")
        self._address = (split.hostname, split.port or 80)
        self._timeout_s = timeout_s

    def add_fault(self, **rule: Any) -> dict[str, Any]:
        """Switch on a preset (`preset=`), a kind (`kind=`, its settings and matches) or a script (`script=`)."""
        return self._call("POST", "faults", rule)

    def faults(self) -> list[dict[str, Any]]:
        """List the rules that are on."""
        return list(self._call("GET", "faults")["faults"])

    def clear_faults(self, which: str = "") -> int:
        """Switch off one rule by number, name or kind, or all; return how many."""
        return int(self._call("DELETE", f"faults/{quote(which, safe='')}" if which else "faults")["removed"])

    def writes(self, *, after: int = 0) -> list[dict[str, Any]]:
        """Return the applied writes with a higher number."""
        return list(self._call("GET", "log?" + urlencode({"after": after}))["writes"])

    def requests(self, *, after: int = 0) -> list[dict[str, Any]]:
        """Return the API requests with a higher number."""
        return list(self._call("GET", "requests?" + urlencode({"after": after}))["requests"])

    def state(self, collection: str) -> dict[str, dict[str, Any]]:
        """Return a collection's objects by their `id` field."""
        state = self._call("GET", "state?" + urlencode({"collection": collection}))
        return {str(row["id"]): row for row in state["collections"][collection]["objects"]}

    def edit(self, collection: str, object_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change an object as somebody else would."""
        return self._call("POST", "edit", {"collection": collection, "id": object_id, "changes": dict(changes)})

    def create(self, collection: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Add an object as somebody else would."""
        return self._call("POST", "create", {"collection": collection, "document": dict(document)})

    def delete(self, collection: str, object_id: str) -> dict[str, Any]:
        """Delete an object as somebody else would."""
        return self._call("POST", "delete", {"collection": collection, "id": object_id})

    def reset(self, collections: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Begin again with other collections, no faults and empty logs."""
        return self._call("POST", "reset", {"collections": collections or []})

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
        try:
            payload = json.dumps(body) if body is not None else None
            connection.request(method, f"/_demo/{path}", payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            document = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ControlError(f"No demo master answers at {self.url}: {error}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise ControlError(str(document.get("error", {}).get("detail", response.status)))
        return dict(document)
