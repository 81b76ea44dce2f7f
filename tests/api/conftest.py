"""The world that API tests live in."""

import pytest

from tests.api.world import World


@pytest.fixture
def world(db: None) -> World:
    """Make people, a resource and two records."""
    return World()
