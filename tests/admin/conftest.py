"""People in their roles, a demo master, and records that agree with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from syncportal.access import roles
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.models import Resource
from syncportal.sync.models import Conflict, Record
from tests.factories import drain, edit, make_remote, make_resource, take

HOSTILE = [
    '<script>alert("x")</script>',
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "javascript:alert(1)",
    "{{7*7}}{% csrf_token %}",
    "<svg/onload=alert(1)>",
    "</textarea><script>alert(2)</script>",
    "\u202egpj.exe",
]


@pytest.fixture(autouse=True)
def loopback_is_allowed(settings: Any) -> None:
    """Let remotes stand on this machine."""
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture(scope="session")
def running_master() -> Iterator[DemoMaster]:
    """Run one master for all tests of this process."""
    with DemoMaster() as master:
        yield master


@pytest.fixture
def master(running_master: DemoMaster) -> DemoMaster:
    """Return the master with fresh contents, no faults and empty logs."""
    running_master.reset((accounts(12), shifts(4)))
    running_master.faults.clear()
    return running_master


@dataclass
class World:
    """Two owners, operations, a viewer, an administrator, and somebody with no rights; ACC-1 and 2 are Olga's."""

    master: DemoMaster
    resource: Resource
    people: dict[str, User]
    records: list[Record]

    def client(self, who: str) -> Client:
        """Return a browser in which that person is signed in; it checks CSRF tokens only where a test asks."""
        client = Client()
        client.force_login(self.people[who])
        return client

    def conflict(self, record: Record, *, remote: dict[str, Any], **local: Any) -> Conflict:
        """Make both sides of a record differ, and push."""
        edit(record, **local)
        self.master.edit("accounts", str(record.external_id), remote)
        drain()
        return Conflict.objects.get(record=record, state="open")


ROLES = {
    "olga": roles.OWNERS,
    "otto": roles.OWNERS,
    "ops": roles.OPERATIONS,
    "vera": roles.VIEWERS,
    "anna": roles.ADMINISTRATORS,
    "nobody": "",
}


@pytest.fixture
def world(transactional_db: None, master: DemoMaster) -> World:
    """Make the people, the resource and six records."""
    roles.make_roles()
    people = {}
    for name, role in ROLES.items():
        people[name] = User.objects.create_user(name, is_staff=True)
        if role:
            people[name].groups.add(Group.objects.get(name=role))
    limits = {"concurrency": 4, "connect_timeout_s": 1, "total_timeout_s": 2}
    resource = make_resource(make_remote(master.api_url, limits=limits))
    own = take(master, resource, "ACC-0001", "ACC-0002", owner=people["olga"])
    rest = take(master, resource, "ACC-0003", "ACC-0004", "ACC-0005", "ACC-0006")
    return World(master, resource, people, [*own, *rest])
