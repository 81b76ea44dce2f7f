"""The database of crash runs: SQLite in memory, with the schema of the test database, emptied between runs.

On PostgreSQL the test database itself is used. Emptying is a handful of plain statements, not TRUNCATE.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.core.management import call_command
from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from psycopg.types.json import Jsonb

TABLES = (
    "rollback_compensatingtask", "rollback_step", "rollback_group", "rollback_groupedupdate", "sync_event",
    "sync_synclog", "sync_conflict", "sync_syncjob", "sync_record", "remote_slotlease", "remote_gate",
)  # fmt: skip


@contextmanager
def in_memory() -> Iterator[None]:
    """Replace the default connection by one to memory with the same schema; PostgreSQL stays as it is.

    Where no test database was made (nobody asked for one), the schema is made here.
    """
    before = connections["default"]
    if before.vendor != "sqlite":
        yield
        return
    settings: dict[str, Any] = {**before.settings_dict, "NAME": ":memory:"}
    settings["OPTIONS"] = {**settings.get("OPTIONS", {}), "init_command": "PRAGMA synchronous=OFF;"}
    memory = DatabaseWrapper(settings, alias="default")
    memory.connect()
    connections["default"] = memory
    try:
        if before.settings_dict["NAME"] == before.settings_dict["TEST"]["NAME"]:
            before.ensure_connection()
            before.connection.backup(memory.connection)
        else:
            call_command("migrate", verbosity=0)
        yield
    finally:
        connections["default"] = before
        memory.connection.close()


def empty() -> None:
    """Remove every row that a run made."""
    with connections["default"].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")


Kept = dict[str, tuple[str, list[tuple[Any, ...]]]]


def keep(tables: tuple[str, ...]) -> Kept:
    """Return the rows of tables, ready to be inserted again."""
    kept = {}
    with connections["default"].cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            names = ", ".join(column[0] for column in cursor.description)
            marks = ", ".join(["%s"] * len(cursor.description))
            kept[table] = (f"INSERT INTO {table} ({names}) VALUES ({marks})", _adapted(cursor.fetchall()))
    return kept


def _adapted(found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    if connections["default"].vendor == "sqlite":
        return [tuple(str(value) if isinstance(value, datetime) else value for value in row) for row in found]
    return [tuple(Jsonb(value) if isinstance(value, (dict, list)) else value for value in row) for row in found]


def restore(kept: Kept, *, limit: int) -> None:
    """Insert the first rows of each table again."""
    with connections["default"].cursor() as cursor:
        for sql, found in kept.values():
            cursor.executemany(sql, found[:limit])


def execute(sql: str, *params: Any) -> None:
    """Run one plain statement."""
    with connections["default"].cursor() as cursor:
        cursor.execute(sql, params)


def rows(sql: str, *params: Any) -> list[dict[str, Any]]:
    """Return the rows of a plain query: the checker's own way to look."""
    with connections["default"].cursor() as cursor:
        cursor.execute(sql, params)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
