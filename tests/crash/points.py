"""Where a process can die: every write statement, both sides of every commit, every edge of an HTTP call.

`Tracker` counts the points of a phase and raises Crash at the chosen one. A crash before a commit rolls back, as the
database does when its client is gone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

_WRITES = ("INSERT", "UPDATE", "DELETE")


class Crash(BaseException):
    """The process is dead; nothing of ours may catch this."""


class Tracker:
    """Counts points while active and dies at number `crash_at` (from 0)."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.active = False
        self.crash_at: int | None = None

    def start(self, *, crash_at: int | None) -> None:
        """Begin a phase: points count from 0."""
        self.labels, self.crash_at, self.active = [], crash_at, True

    def stop(self) -> None:
        """End the phase."""
        self.active = False

    def point(self, label: str) -> None:
        """Pass one point, or die here."""
        if not self.active:
            return
        self.labels.append(label)
        if self.crash_at == len(self.labels) - 1:
            self.active = False
            raise Crash(label)

    def _execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self.active and sql.lstrip()[:6].upper() in _WRITES:
            self.point(f"db {sql.split(None, 1)[0].lower()}")
        return execute(sql, params, many, context)

    @contextmanager
    def hooked(self) -> Iterator["Tracker"]:
        """Watch the default connection."""
        wrapper = connections["default"]
        commit = wrapper._commit

        def commit_with_points() -> None:
            try:
                self.point("commit before")
            except Crash:
                wrapper.connection.rollback()
                raise
            commit()
            self.point("commit after")

        wrapper._commit = commit_with_points
        try:
            with wrapper.execute_wrapper(self._execute):
                yield self
        finally:
            del wrapper._commit
