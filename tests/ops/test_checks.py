"""Wrong settings are refused with an id and a hint."""

from copy import deepcopy

import pytest
from cryptography.fernet import Fernet
from django.conf import settings as project
from django.core.exceptions import ImproperlyConfigured

from syncportal.ops import checks


def ids(found: list) -> list[str]:
    assert all(message.hint for message in found), "every refusal says how to mend it"
    return [message.id for message in found]


def every_check() -> list:
    return [
        message
        for check in (
            checks.check_time_chain,
            checks.check_queue,
            checks.check_database,
            checks.check_encryption_keys,
            checks.check_allowed_networks,
            checks.check_addresses,
            checks.check_log_format,
        )
        for message in check(None)
    ]


def test_the_settings_as_shipped_are_accepted() -> None:
    assert every_check() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONNECT_TIMEOUT_S", 10),
        ("CONNECT_TIMEOUT_S", 0),
        ("CALL_TOTAL_S", 20),
        ("TASK_BUDGET_S", 90),
        ("TASK_BUDGET_S", 60),
        ("LEASE_S", 20),
        ("LEASE_S", 60),
        ("GROUP_BUDGET_S", 60),
    ],
)
def test_times_that_do_not_nest_are_refused(settings, name: str, value: int) -> None:
    setattr(settings, name, value)
    assert "syncportal.E001" in ids(checks.check_time_chain(None))


def test_a_task_timeout_as_long_as_the_retry_is_refused(settings) -> None:
    settings.Q_CLUSTER = {**project.Q_CLUSTER, "retry": 60}
    assert ids(checks.check_time_chain(None)) == ["syncportal.E001"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("orm", "other"), ("max_attempts", 0), ("ack_failures", False), ("save_limit", 250), ("catch_up", True)],
)
def test_queue_options_that_lose_or_double_work_are_refused(settings, key: str, value: object) -> None:
    settings.Q_CLUSTER = {**project.Q_CLUSTER, key: value}
    assert ids(checks.check_queue(None)) == ["syncportal.E002"]


def test_a_single_worker_is_refused(settings) -> None:
    settings.Q_CLUSTER = {**project.Q_CLUSTER, "workers": 1}
    assert ids(checks.check_queue(None)) == ["syncportal.E003"]


SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    },
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transaction_mode", "DEFERRED"),
        ("timeout", 5),
        ("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"),
        ("init_command", "PRAGMA synchronous=FULL;"),
    ],
)
def test_sqlite_without_all_its_modes_is_refused(monkeypatch, key: str, value: object) -> None:
    database = deepcopy(SQLITE)
    monkeypatch.setitem(project.DATABASES, "default", database)
    assert checks.check_database(None) == []
    database["OPTIONS"][key] = value
    assert ids(checks.check_database(None)) == ["syncportal.E004"]


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ({"ENGINE": "django.db.backends.mysql"}, "syncportal.E005"),
        ({"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": True}}, "syncportal.E006"),
        ({"ENGINE": "django.db.backends.postgresql", "ATOMIC_REQUESTS": True}, "syncportal.E007"),
    ],
)
def test_databases_and_options_that_do_not_hold_are_refused(monkeypatch, database: dict, expected: str) -> None:
    monkeypatch.setitem(project.DATABASES, "default", database)
    assert ids(checks.check_database(None)) == [expected]


def test_an_unusable_encryption_key_is_refused_by_its_number_and_never_shown(settings) -> None:
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), "not-a-key"]
    found = checks.check_encryption_keys(None)
    assert ids(found) == ["syncportal.E008"]
    assert "number 2" in found[0].msg
    assert "not-a-key" not in str(found[0])


def test_no_encryption_key_at_all_is_refused(settings) -> None:
    settings.ENCRYPTION_KEYS = []
    assert ids(checks.check_encryption_keys(None)) == ["syncportal.E008"]


@pytest.mark.parametrize("network", ["10.0.0.1/8", "example.org", "10.0.0.0/40", "garbage"])
def test_a_network_that_cannot_be_read_is_refused(settings, network: str) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = ["10.0.0.0/8", network]
    assert ids(checks.check_allowed_networks(None)) == ["syncportal.E009"]


@pytest.mark.parametrize(
    "network", ["169.254.0.0/16", "169.254.169.254/32", "0.0.0.0/0", "fe80::/64", "::/0", "160.0.0.0/4", "fd00::/8"]
)
def test_a_network_that_covers_metadata_addresses_is_refused(settings, network: str) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = [network]
    assert ids(checks.check_allowed_networks(None)) == ["syncportal.E010"]


@pytest.mark.parametrize("url", ["", "sync.example.org", "ftp://sync.example.org", "https://sync.example.org/path"])
def test_an_unusable_public_url_is_refused(settings, url: str) -> None:
    settings.PUBLIC_URL = url
    assert ids(checks.check_addresses(None)) == ["syncportal.E011"]


def test_debug_for_other_people_is_refused(settings) -> None:
    settings.DEBUG = True
    settings.ALLOWED_HOSTS = ["localhost", "sync.example.org"]
    assert ids(checks.check_addresses(None)) == ["syncportal.E012"]


def test_answering_to_every_host_name_is_warned_about(settings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert ids(checks.check_addresses(None)) == ["syncportal.W013"]


def test_an_unknown_log_format_is_refused(settings) -> None:
    settings.LOG_FORMAT = "xml"
    assert ids(checks.check_log_format(None)) == ["syncportal.E014"]


def test_a_server_refuses_to_start_with_a_wrong_setting(settings) -> None:
    checks.refuse_misconfiguration()
    settings.LEASE_S = 1
    with pytest.raises(ImproperlyConfigured, match=r"syncportal\.E001"):
        checks.refuse_misconfiguration()
