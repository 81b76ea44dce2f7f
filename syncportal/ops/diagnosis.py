"""The doctor's questions: is everything in place that SyncPortal needs?

Owns: the list of checks, each a question with an answer and, if something is missing, how to mend it. Guarantees: no
check changes anything and none stops the others. Does not: need a running worker or a browser to pass.
"""

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.checks import run_checks
from django.db import Error as DatabaseTrouble
from django.db import connection

from syncportal.kernel.clock import db_now
from syncportal.kernel.encryption import decrypt, encrypt
from syncportal.ops import heartbeat
from syncportal.ops.alerts import channels
from syncportal.ops.checks import TAG
from syncportal.ops.health import pending_migrations
from syncportal.remote.models import Remote
from syncportal.sync import audit

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 35, 0)  # RETURNING
STATIC_SAMPLE = "admin/css/base.css"


class Verdict(StrEnum):
    """How a check went; only `broken` makes the doctor fail."""

    FINE = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: a subject, a sentence, and how to mend it ("" when fine)."""

    verdict: Verdict
    subject: str
    says: str
    mend: str = ""


def _python() -> Finding:
    says = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        return Finding(Verdict.BROKEN, "Python", says, "Install Python 3.11 or newer and make the environment again.")
    return Finding(Verdict.FINE, "Python", says)


def _settings() -> Finding:
    found = [message for message in run_checks(tags=[TAG]) if message.level >= 30]
    if not found:
        return Finding(Verdict.FINE, "Settings", "fit together")
    serious = any(message.is_serious() for message in found)
    verdict = Verdict.BROKEN if serious else Verdict.WARNING
    mend = " ".join(str(message.hint or "") for message in found)
    return Finding(verdict, "Settings", " ".join(f"{message.id}: {message.msg}" for message in found), mend)


def _data_dir() -> Finding:
    folder = settings.DATA_DIR
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding(Verdict.FINE, "Data folder", "writable")
    return Finding(Verdict.BROKEN, "Data folder", f"{folder} cannot be written", "Set DATA_DIR, or change its owner.")


def _encryption() -> Finding:
    try:
        fits = decrypt(encrypt("probe", keys=settings.ENCRYPTION_KEYS), keys=settings.ENCRYPTION_KEYS) == "probe"
    except Exception as problem:
        return Finding(Verdict.BROKEN, "Encryption key", type(problem).__name__, "Set ENCRYPTION_KEYS to a Fernet key.")
    if not fits:
        return Finding(Verdict.BROKEN, "Encryption key", "does not decrypt", "Set ENCRYPTION_KEYS to a Fernet key.")
    return Finding(Verdict.FINE, "Encryption key", f"{len(settings.ENCRYPTION_KEYS)} in use")


def _database() -> Finding:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return Finding(Verdict.FINE, "Database", connection.vendor)


def _migrations() -> Finding:
    missing = pending_migrations()
    if missing:
        says = f"{len(missing)} not applied, first {missing[0]}"
        return Finding(Verdict.BROKEN, "Migrations", says, "Run: python manage.py migrate")
    return Finding(Verdict.FINE, "Migrations", "all applied")


def _sqlite_modes() -> Finding:
    if connection.vendor != "sqlite":
        return Finding(Verdict.FINE, "SQLite modes", "not used")
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        return Finding(Verdict.BROKEN, "SQLite modes", sqlite3.sqlite_version, "Install SQLite 3.35 or newer.")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        journal = cursor.fetchone()[0]
        cursor.execute("PRAGMA synchronous")
        synchronous = cursor.fetchone()[0]
    immediate = getattr(connection, "transaction_mode", "") == "IMMEDIATE"
    if journal != "wal" or synchronous != 2 or not immediate:
        says = f"journal {journal}, synchronous {synchronous}, {'IMMEDIATE' if immediate else 'not IMMEDIATE'}"
        mend = "Put the database on a local disk: network folders cannot do WAL. Remove own OPTIONS."
        return Finding(Verdict.BROKEN, "SQLite modes", says, mend)
    return Finding(Verdict.FINE, "SQLite modes", "WAL, FULL, IMMEDIATE")


def _static_files() -> Finding:
    if finders.find(STATIC_SAMPLE):
        return Finding(Verdict.FINE, "Static files", "found")
    return Finding(Verdict.BROKEN, "Static files", "not found", "Install again from requirements.txt.")


def _networks() -> Finding:
    private = [remote.slug for remote in Remote.objects.all() if _looks_private(remote.base_url)]
    if private and not settings.REMOTE_ALLOWED_NETWORKS:
        says = f"{', '.join(private[:5])} look private, but REMOTE_ALLOWED_NETWORKS is empty"
        return Finding(Verdict.WARNING, "Networks", says, "Set REMOTE_ALLOWED_NETWORKS, for example 10.0.0.0/8.")
    return Finding(Verdict.FINE, "Networks", ", ".join(settings.REMOTE_ALLOWED_NETWORKS) or "public addresses only")


def _looks_private(url: str) -> bool:
    return any(f"//{start}" in url for start in ("127.", "10.", "192.168.", "localhost", "[::1]"))


def _worker() -> Finding:
    if heartbeat.alive(db_now()):
        return Finding(Verdict.FINE, "Worker", "beats")
    return Finding(Verdict.WARNING, "Worker", "no heartbeat", "Start one: python manage.py runworker")


def _channels() -> Finding:
    ways = channels.usable()
    if ways or settings.OPERATIONS_EMAIL or settings.SLACK_WEBHOOK_URL:  # their channels are made by the first worker
        return Finding(Verdict.FINE, "Alerts", f"told over {', '.join(way.name for way in ways) or 'mail or Slack'}")
    mend = "Set OPERATIONS_EMAIL and EMAIL_URL, or SLACK_WEBHOOK_URL, or add a channel in the admin."
    return Finding(Verdict.WARNING, "Alerts", "nobody is told of them", mend)


def _audit() -> Finding:
    broken = audit.verify()
    if broken is not None:
        mend = "Somebody changed or removed history. Compare with a backup, and with the seals in the log."
        return Finding(Verdict.BROKEN, "Audit chain", f"breaks at event {broken}", mend)
    return Finding(Verdict.FINE, "Audit chain", "holds")


_ALONE: tuple[Callable[[], Finding], ...] = (_python, _settings, _data_dir, _encryption, _static_files)
_NEED_DATABASE: tuple[Callable[[], Finding], ...] = (_sqlite_modes, _migrations)
_NEED_TABLES: tuple[Callable[[], Finding], ...] = (_networks, _worker, _channels, _audit)


def examine() -> Iterator[Finding]:
    """Yield every finding; questions that cannot be asked for want of an earlier one are left out."""
    for check in _ALONE:
        yield _asked(check)
    database = _asked(_database)
    yield database
    if database.verdict == Verdict.BROKEN:
        return
    migrated = True
    for check in _NEED_DATABASE:
        finding = _asked(check)
        migrated = migrated and finding.verdict != Verdict.BROKEN
        yield finding
    if migrated:
        for check in _NEED_TABLES:
            yield _asked(check)


def _asked(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except DatabaseTrouble as trouble:
        says = str(trouble).strip().splitlines()[0][:200] if str(trouble).strip() else type(trouble).__name__
        return Finding(Verdict.BROKEN, "Database", says, "Start the database, or correct DATABASE_URL.")
    except Exception as problem:
        subject = check.__name__.strip("_").replace("_", " ").capitalize()
        return Finding(Verdict.BROKEN, subject, f"{type(problem).__name__}: {problem}", "See the message.")
