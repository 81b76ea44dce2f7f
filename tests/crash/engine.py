"""The fixture of tests of the engine that need rows but no real remote; conftest files hand it out as `base`."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.crash import database
from tests.crash.world import Base, prepared


@pytest.fixture(scope="module")
def base(django_db_setup: None, django_db_blocker: Any) -> Iterator[Base]:
    """Give a module of tests a database in memory of its own."""
    if connection.vendor != "sqlite":
        pytest.skip("runs in memory")
    with django_db_blocker.unblock(), database.in_memory(), prepared() as made:
        yield made
