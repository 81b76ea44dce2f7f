"""What a group that succeeds asks of the database: statements and commits, counted, so that none creeps in unseen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from rollback import answers, service
from syncportal.demo import DemoMaster
from syncportal.sync.events import Actor
from tests.rollback.scene import Scene

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
NOT_COUNTED = ("BEGIN", "PRAGMA", "SET LOCAL")
CLOCK = "SELECT CLOCK_TIMESTAMP"


@contextmanager
def counted() -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Yield the statements, the commits and the looks at the clock of the block, on this thread's connection."""
    connection.ensure_connection()
    statements: list[str] = []
    commits: list[str] = []
    clocks: list[str] = []
    commit = connection._commit

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.upper().startswith(CLOCK):
            clocks.append(sql)
        elif not sql.upper().startswith(NOT_COUNTED):
            statements.append(sql)
        return execute(sql, *rest)

    def note_commit() -> None:
        commits.append(statements[-1])
        commit()

    connection._commit = note_commit  # type: ignore[method-assign]
    try:
        with connection.execute_wrapper(note):
            yield statements, commits, clocks
    finally:
        del connection._commit


@pytest.mark.parametrize(
    ("steps", "parallel", "statements", "commits"),
    [
        (2, 1, 29, 6),  # slots; accepted, held; snapshots, 1 sent, a slot back; 1 applied, 2 sent; decided; slots back
        (10, 1, 37, 14),  # one statement and one commit more for every further step
        (10, 4, 28, 6),  # a wave of 4 is written ahead while 4 are under way
        (10, 16, 27, 5),  # all are written ahead with the snapshots
    ],
)
def test_a_group_that_succeeds_makes_so_many_statements_and_commits(
    master: DemoMaster, steps: int, parallel: int, statements: int, commits: int
) -> None:
    scene = Scene(master, {"policy": {"parallel": parallel}})
    ids = [f"ACC-{number:04d}" for number in range(1, steps + 1)]
    scene.records(*ids)
    user = scene.people["owner"]
    with counted() as (made, committed, clocks):
        performed = service.perform(scene.body(*ids), actor=Actor("user", user.pk, user.username), sees_all=True)
        assert performed.request is not None
        shown = answers.render(performed.request)
    assert shown["status"] == "applied"
    assert (len(made), len(committed)) == (statements, commits), "\n".join(made)
    assert len(clocks) == (1 if connection.vendor == "postgresql" else 0)
