"""What all tests share.

The suite runs twice: everything on SQLite, and the tests marked `db` on PostgreSQL (`python -m tests.postgres --
pytest -m db`). The SQLite database is a file, with the settings of production: threads and child processes see it.
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase
from whitenoise.middleware import WhiteNoiseMiddleware

from tests.emptying import AsMigrated
from tests.postgres import given_url, running_server

MEMORY = Path("/dev/shm")
ROOM = 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Make test users cheap: the password hasher of production takes 0.2 s a user."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking again and again over what stays alive anyway."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give each test process a database of its own."""
    worker = getattr(request.config, "workerinput", {}).get("workerid", "gw")
    test = settings.DATABASES["default"].setdefault("TEST", {})
    if connection.vendor == "postgresql":
        test["NAME"] = f"test_syncportal_{os.getpid()}_{worker}"
        connection.settings_dict["TEST"]["NAME"] = test["NAME"]
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="syncportal-test-", dir=_quick_folder()))
    test["NAME"] = str(folder / "test.sqlite3")
    connection.settings_dict["TEST"]["NAME"] = test["NAME"]
    yield
    shutil.rmtree(folder, ignore_errors=True)


def _quick_folder() -> Path | None:
    """Return a folder in memory where there is room: every commit is written through, which takes a disk 5 ms."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM else None


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Empty the database after tests that commit in a quicker way than Django's."""
    with django_db_blocker.unblock():
        as_migrated = AsMigrated.remembered()
    with patch.object(TransactionTestCase, "_fixture_teardown", lambda case: as_migrated.restore()):
        yield


@pytest.fixture(scope="session", autouse=True)
def one_table_of_static_files() -> Iterator[None]:
    """List the static files once: every test client makes a handler of its own, and each would look for them again."""
    table: dict[str, Any] = {}
    listed = WhiteNoiseMiddleware.add_files_from_finders

    def shared(middleware: WhiteNoiseMiddleware) -> None:
        if not table:
            listed(middleware)
            table.update(middleware.files)
        middleware.files = table

    with patch.object(WhiteNoiseMiddleware, "add_files_from_finders", shared):
        yield


@pytest.fixture
def child_environment(transactional_db: None) -> dict[str, str]:
    """Return an environment in which `manage.py` and other child processes use this test's database."""
    wanted = connection.settings_dict
    if connection.vendor == "sqlite":
        url = f"sqlite:///{wanted['NAME']}"
    else:
        password = f":{quote(wanted['PASSWORD'], safe='')}" if wanted["PASSWORD"] else ""
        host = quote(wanted["HOST"], safe="") + (f":{wanted['PORT']}" if wanted["PORT"] else "")
        url = f"postgres://{wanted['USER']}{password}@{host}/{wanted['NAME']}"
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "syncportal.settings",
        "DATABASE_URL": url,
        "SECRET_KEY": settings.SECRET_KEY,
        "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "REMOTE_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
    }


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield a PostgreSQL's DATABASE_URL, for tests that start processes on it whatever the suite runs on."""
    given = given_url()
    if given:
        yield given
    else:
        with running_server() as url:
            yield url
