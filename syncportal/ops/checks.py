"""System checks: settings that are wrong, or do not fit together, are refused with an id and a hint.

Owns: the checks with the tag "syncportal". Guarantees: `manage.py` refuses to run with a wrong setting, and so do the
server entry points (`refuse_misconfiguration`). Each check reads `django.conf.settings`, so a test can override it.
Does not: look into tables; a remote's configuration is checked where it is edited.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register, run_checks
from django.core.exceptions import ImproperlyConfigured

from syncportal.kernel.encryption import decrypt, encrypt

TAG = "syncportal"
Configs = Sequence[AppConfig] | None
_LINK_LOCAL = tuple(
    ipaddress.ip_network(text) for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
)
_KEY_LENGTH = 32
_SPACE_ENOUGH = 2  # one drain may linger, one worker must stay free


@register(TAG)
def check_time_chain(app_configs: Configs, **kwargs: Any) -> list[CheckMessage]:
    """Refuse times that do not nest: connect < call < task < lease, group < web timeout, task timeout < retry."""
    chain = [
        ("CONNECT_TIMEOUT_S", settings.CONNECT_TIMEOUT_S, "CALL_TOTAL_S", settings.CALL_TOTAL_S),
        ("CALL_TOTAL_S", settings.CALL_TOTAL_S, "TASK_BUDGET_S", settings.TASK_BUDGET_S),
        ("TASK_BUDGET_S", settings.TASK_BUDGET_S, "LEASE_S", settings.LEASE_S),
        ("GROUP_BUDGET_S", settings.GROUP_BUDGET_S, "WEB_TIMEOUT_S", settings.WEB_TIMEOUT_S),
        ("TASK_BUDGET_S", settings.TASK_BUDGET_S, 'Q_CLUSTER["timeout"]', settings.Q_CLUSTER["timeout"]),
        ('Q_CLUSTER["timeout"]', settings.Q_CLUSTER["timeout"], 'Q_CLUSTER["retry"]', settings.Q_CLUSTER["retry"]),
        ('Q_CLUSTER["timeout"]', settings.Q_CLUSTER["timeout"], "LEASE_S", settings.LEASE_S),
    ]
    return [
        Error(
            f"{small_name} ({small} s) must be shorter than {large_name} ({large} s).",
            hint="A worker that outlives its lease does work that another one has taken over. Keep the order "
            "connect < call < task < task timeout < lease, and task timeout < retry.",
            id="syncportal.E001",
        )
        for small_name, small, large_name, large in chain
        if not 0 < small < large
    ]


_Q_CLUSTER_RULES: tuple[tuple[str, object, str], ...] = (
    ("orm", "default", "The doorbell must ring in the transaction of the save, so the broker is the default database."),
    ("max_attempts", 1, "The record's own row counts attempts; a repeated task would only double the work."),
    ("ack_failures", True, "A failed task that is not acknowledged comes back for ever."),
    ("save_limit", -1, "Result rows are unsigned pickles; none are kept."),
    ("catch_up", False, "After a pause each schedule runs once, not once per missed minute."),
)


@register(TAG)
def check_queue(app_configs: Configs, **kwargs: Any) -> list[CheckMessage]:
    """Refuse queue options that lose or double work."""
    found: list[CheckMessage] = [
        Error(f'Q_CLUSTER["{key}"] must be {wanted!r}.', hint=why, id="syncportal.E002")
        for key, wanted, why in _Q_CLUSTER_RULES
        if settings.Q_CLUSTER.get(key) != wanted
    ]
    if settings.Q_CLUSTER.get("workers", 0) < _SPACE_ENOUGH:
        found.append(
            Error(
                f"WORKERS must be at least {_SPACE_ENOUGH}.",
                hint="One drain may linger on a slow remote; another worker must stay free for everybody else.",
                id="syncportal.E003",
            )
        )
    return found


@register(TAG)
def check_database(app_configs: Configs, **kwargs: Any) -> list[CheckMessage]:
    """Refuse database options under which writers fail or acknowledged saves are lost."""
    database = settings.DATABASES["default"]
    options = database.get("OPTIONS", {})
    found: list[CheckMessage] = []
    if database["ENGINE"].endswith("sqlite3"):
        pragmas = str(options.get("init_command", "")).replace(" ", "").upper()
        fits = (
            options.get("transaction_mode") == "IMMEDIATE"
            and "JOURNAL_MODE=WAL" in pragmas
            and "SYNCHRONOUS=FULL" in pragmas
            and options.get("timeout", 5) >= 20
        )
        if not fits:
            found.append(
                Error(
                    "SQLite needs transaction mode IMMEDIATE, WAL, synchronous FULL and timeout 20, all together.",
                    hint="Without them writers meet 'database is locked', or a power cut loses acknowledged saves.",
                    id="syncportal.E004",
                )
            )
    elif not database["ENGINE"].endswith("postgresql"):
        found.append(
            Error(
                "DATABASE_URL must name SQLite or PostgreSQL.",
                hint="Claims and locks are proven on these two only.",
                id="syncportal.E005",
            )
        )
    elif "pool" in options:
        found.append(
            Error(
                "A psycopg pool must not be used.",
                hint="It never recovered after a restart of the database. Remove pool from the options.",
                id="syncportal.E006",
            )
        )
    if database.get("ATOMIC_REQUESTS"):
        found.append(
            Error(
                "ATOMIC_REQUESTS must be off.",
                hint="A page that calls a remote would hold its transaction open for as long as the remote takes.",
                id="syncportal.E007",
            )
        )
    return found


@register(TAG)
def check_encryption_keys(app_configs: Configs, **kwargs: Any) -> list[CheckMessage]:
    """Refuse encryption keys that are too weak or cannot encrypt and decrypt; the message never shows a key."""
    hint = "Make one with: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
    if not settings.ENCRYPTION_KEYS:
        return [Error("ENCRYPTION_KEYS is empty.", hint=hint, id="syncportal.E008")]
    return [
        Error(
            f"Key number {number} of ENCRYPTION_KEYS is neither a Fernet key nor {_KEY_LENGTH} characters long.",
            hint=hint,
            id="syncportal.E008",
        )
        for number, key in enumerate(settings.ENCRYPTION_KEYS, start=1)
        if len(key) < _KEY_LENGTH or decrypt(encrypt("probe", keys=[key]), keys=[key]) != "probe"
    ]


@register(TAG)
def check_allowed_networks(app_configs: Configs, **kwargs: Any) -> list[CheckMessage]:
    """Refuse networks that cannot be read or would open link-local and metadata addresses."""
    found: list[CheckMessage] = []
    for text in settings.REMOTE_ALLOWED_NETWORKS:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as problem:
            found.append(
                Error(
                    f"REMOTE_ALLOWED_NETWORKS: {text!r} is not a network ({problem}).",
                    hint="Write CIDRs, comma-separated, for example 10.0.0.0/8,192.168.1.0/24.",
                    id="syncportal.E009",
                )
            )
            continue
        if any(network.version == closed.version and network.overlaps(closed) for closed in _LINK_LOCAL):
            found.append(
                Error(
                    f"REMOTE_ALLOWED_NETWORKS: {text!r} covers link-local or metadata addresses.",
                    hint="These addresses hand out the machine's own credentials; they are never reached. "
                    "Name the remote's network more narrowly.",
                    id="syncportal.E010",
                )
            )
    return found


@register(TAG)
def check_addresses(app_configs: Configs, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an unusable PUBLIC_URL, and the debug mode for other people."""
    found: list[CheckMessage] = []
    public = urlsplit(settings.PUBLIC_URL)
    if public.scheme not in ("http", "https") or not public.hostname or public.path or public.query:
        found.append(
            Error(
                "PUBLIC_URL must be http:// or https:// with a host name and nothing after it.",
                hint="For example https://sync.example.org",
                id="syncportal.E011",
            )
        )
    local = {"localhost", "127.0.0.1", "::1", "[::1]"}
    strangers = [host for host in settings.ALLOWED_HOSTS if host not in local]
    if settings.DEBUG and strangers:
        found.append(
            Error(
                f"DEBUG is on while {', '.join(strangers)} is served.",
                hint="Error pages with DEBUG show settings and data to everybody. Set DEBUG=False.",
                id="syncportal.E012",
            )
        )
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Warning(
                "ALLOWED_HOSTS contains *: forged host names are answered.",
                hint="List the names, or set PUBLIC_URL and remove ALLOWED_HOSTS.",
                id="syncportal.W013",
            )
        )
    return found


@register(TAG)
def check_log_format(app_configs: Configs, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an unknown log format."""
    if settings.LOG_FORMAT in ("json", "console"):
        return []
    return [Error(f"LOG_FORMAT is {settings.LOG_FORMAT!r}.", hint="Set json or console.", id="syncportal.E014")]


def refuse_misconfiguration() -> None:
    """Raise ImproperlyConfigured with every finding; for servers, which run no checks by themselves."""
    serious = [message for message in run_checks(tags=[TAG]) if message.is_serious()]
    if serious:
        raise ImproperlyConfigured("\n".join(str(message) for message in serious))
