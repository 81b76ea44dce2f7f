"""Somebody else at a real server: what tests change behind our back, and what the server truly holds."""

from typing import Any

import requests

from tests.remotes.servers import Server

COMPARED = ("code", "title", "site", "worker", "seats", "rate", "status", "confirmed")


class Outside:
    """Speaks to the server without us."""

    def __init__(self, server: Server) -> None:
        self.session = requests.Session()
        self.kinto = server.name == "kinto"
        self.collection = f"{server.base_url}/buckets/ops/collections/shifts"
        self.url = f"{self.collection}/records" if self.kinto else f"{server.base_url}/api/collections/shifts/records"
        if self.kinto:
            self.session.auth = ("admin", "s3cret")
        else:
            self.session.headers["Authorization"] = f"Bearer {server.token}"

    def edit(self, external_id: str, **changes: Any) -> None:
        """Change one object."""
        body = {"data": changes} if self.kinto else changes
        self.session.patch(f"{self.url}/{external_id}", json=body, timeout=10).raise_for_status()

    def delete(self, external_id: str) -> None:
        """Delete one object."""
        self.session.delete(f"{self.url}/{external_id}", timeout=10).raise_for_status()

    def add(self, **values: Any) -> str:
        """Make an object and return its id."""
        body = {"data": values} if self.kinto else values
        answer = self.session.post(self.url, json=body, timeout=10)
        answer.raise_for_status()
        made = answer.json()["data"] if self.kinto else answer.json()
        return str(made["id"])

    def limit_titles(self, length: int) -> None:
        """Let Kinto refuse longer titles; the server's own schema then knows more than ours."""
        collection = self.session.get(self.collection, timeout=10).json()["data"]
        schema = collection["schema"]
        schema["properties"]["title"] = {"type": "string", "maxLength": length}
        self.session.patch(self.collection, json={"data": {"schema": schema}}, timeout=10).raise_for_status()

    def contents(self) -> dict[str, dict[str, Any]]:
        """Return every object by id, read page by page."""
        found: dict[str, dict[str, Any]] = {}
        if self.kinto:
            url: str | None = f"{self.url}?_limit=100"
            while url:
                answer = self.session.get(url, timeout=10)
                found |= {item["id"]: item for item in answer.json()["data"]}
                url = answer.headers.get("Next-Page")
            return found
        for page in range(1, 10):
            answer = self.session.get(f"{self.url}?perPage=100&page={page}", timeout=10).json()
            found |= {item["id"]: item for item in answer["items"]}
            if page >= answer["totalPages"]:
                break
        return found

    def compared(self) -> dict[str, dict[str, Any]]:
        """Return the same with only the fields that we compare."""
        return {key: {name: item.get(name) for name in COMPARED} for key, item in self.contents().items()}
