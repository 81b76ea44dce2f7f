"""A running demo master and permission to call it, an account of it as a record, virtual time, and a small world."""

from collections.abc import Iterator
from typing import Any

import pytest

from syncportal.access.roles import make_roles
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.models import Resource
from syncportal.sync.models import Record
from tests.api.world import World
from tests.factories import Clock, make_resource, take


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
    running_master.latency_ms = 0
    running_master.reset((accounts(10), shifts(10)))
    return running_master


@pytest.fixture
def resource(master: DemoMaster) -> Resource:
    """Return the master's accounts as a resource."""
    return make_resource(master)


@pytest.fixture
def record(master: DemoMaster, resource: Resource) -> Record:
    """Return account 1 as a record that agrees."""
    return take(master, resource, "ACC-0001")[0]


@pytest.fixture
def clock() -> Clock:
    """Return virtual time, a little ahead of what records are made at."""
    clock = Clock()
    clock.forward(5)
    return clock


@pytest.fixture
def world(transactional_db: None) -> World:
    """Return people with records of their own."""
    make_roles()
    return World()
