"""Puts the database back to what the migrations left, after a test that commits.

Django's own way, `flush`, makes all content types, permissions and roles anew after every such test: more work than
most tests. Guarantees: afterwards every table holds exactly the rows that it held before the first test.
"""

from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class AsMigrated:
    """What every table held before the first test; most were empty."""

    tables: tuple[str, ...]
    rows: dict[str, list[Row]]

    @classmethod
    def remembered(cls) -> "AsMigrated":
        """Remember the database as it is now."""
        tables = tuple(sorted(connection.introspection.django_table_names(only_existing=True, include_views=False)))
        return cls(tables, {table: _rows(table) for table in _filled(tables)})

    def restore(self) -> None:
        """Remove what was added and bring back what was changed or removed."""
        with transaction.atomic(), connection.cursor() as cursor:
            stray = [table for table in _filled(self.tables) if table not in self.rows]
            changed = [table for table, rows in self.rows.items() if _rows(table) != rows]
            for table in (*stray, *changed):  # in any order: foreign keys are checked at the commit
                cursor.execute(f"DELETE FROM {_quoted(table)}")
            for table in changed:
                marks = ", ".join(["%s"] * len(self.rows[table][0]))
                cursor.executemany(f"INSERT INTO {_quoted(table)} VALUES ({marks})", self.rows[table])


def _quoted(table: str) -> str:
    return connection.ops.quote_name(table)


def _filled(tables: tuple[str, ...]) -> set[str]:
    """Return the tables that have rows, by one query."""
    parts = [f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {_quoted(table)})" for table in tables]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts))
        return {name for (name,) in cursor.fetchall()}


def _rows(table: str) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {_quoted(table)} ORDER BY 1")
        return [tuple(row) for row in cursor.fetchall()]
