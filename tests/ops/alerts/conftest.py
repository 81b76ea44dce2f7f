"""Somebody to tell, and an installation with troubles."""

from typing import Any

import pytest

from tests.ops.alerts.watched import Watched


@pytest.fixture(autouse=True)
def loopback_is_allowed(settings: Any) -> None:
    """Let channels stand on this machine."""
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture
def watched(transactional_db: None, settings: Any) -> Watched:
    """Return an installation whose operators have one mail address."""
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    return Watched()
