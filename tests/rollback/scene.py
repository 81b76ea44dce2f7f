"""What grouped update tests begin with: a resource on the demo master, its records, people with keys.

Owns: the shortest way to a sent request. Guarantees: nothing here asserts.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from syncportal.access.keys import Scope
from syncportal.demo import DemoMaster
from syncportal.remote.models import Resource
from syncportal.sync.models import Record
from tests.api.world import ROLES, caller, person
from tests.factories import ACCOUNTS, make_resource, take

ADDRESS = "/api/v1/grouped-updates/"
TASKS = "/api/v1/compensating-tasks/"
_numbers = itertools.count(1)


@dataclass
class Scene:
    """A master, a resource, and people. Everybody's records belong to `owner`."""

    master: DemoMaster
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resource: Resource = make_resource(self.master, ACCOUNTS, **self.changes)
        self.people: dict[str, User] = {name: person(name, role) for name, role in ROLES.items()}

    def records(self, *external_ids: str, owner: str = "owner") -> list[Record]:
        """Make records that agree with the master."""
        return take(self.master, self.resource, *external_ids, owner=self.people[owner] if owner else None)

    def caller(self, name: str, *scopes: Scope) -> APIClient:
        """Return a client with a key of the named person's."""
        return caller(self.people[name] if name else None, *scopes)

    def body(self, *external_ids: str, request_id: str = "", **changes: Any) -> dict[str, Any]:
        """Return a request with one group that changes these objects' cities, or what is given."""
        wanted = changes or {"city": "Porto"}
        updates = [{"occurrenceId": external_id, "changes": wanted} for external_id in external_ids]
        return {
            "requestId": request_id or f"req-{next(_numbers)}",
            "resource": self.resource.slug,
            "groups": [{"groupId": "g1", "updates": updates}],
        }

    def break_write(self, external_id: str, *, times: int | None = None, **settings: Any) -> None:
        """Refuse writes of one object."""
        rule: dict[str, Any] = {"collection": "accounts", "object_id": external_id, "phase": "write"}
        if times is not None:
            rule["times"] = times
        self.master.faults.add("status", **rule, **(settings or {"status": 422}))

    def city(self, external_id: str) -> Any:
        """Return what the master holds."""
        return self.master.get("accounts", external_id).get("city")
