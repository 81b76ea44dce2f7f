"""Somebody to tell, an installation with troubles, and servers that take notices."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.ops.alerts.receivers import Hook, MailBox, mail_server, web_hook
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


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Run a web server that takes notices."""
    with web_hook() as made:
        yield made


@pytest.fixture
def mailbox(settings: Any) -> Iterator[MailBox]:
    """Run a mail server and send all mail there."""
    with mail_server() as box:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = box.host, box.port, 0.3
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        yield box
