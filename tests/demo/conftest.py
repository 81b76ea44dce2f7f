"""Running demo masters for these tests; no database, no product code."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncportal.demo import Collection, DemoMaster, accounts, shifts


@pytest.fixture
def start() -> Iterator[Callable[..., DemoMaster]]:
    """Start masters with given collections; all are stopped at the end."""
    running: list[DemoMaster] = []

    def make(*collections: Collection, **options: Any) -> DemoMaster:
        running.append(DemoMaster(collections or (accounts(10), shifts(10)), **options).start())
        return running[-1]

    yield make
    for master in running:
        master.stop()


@pytest.fixture
def master(start: Callable[..., DemoMaster]) -> DemoMaster:
    """Start the standard master with ten accounts and ten shifts."""
    return start()
