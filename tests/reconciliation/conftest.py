"""A running demo master, and permission to call it."""

from collections.abc import Iterator
from typing import Any

import pytest

from syncportal.demo import DemoMaster, accounts, shifts


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
    running_master.reset((accounts(20), shifts(10)))
    return running_master
