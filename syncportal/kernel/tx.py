"""Transactions: run one again when the database asks for it, and never around a remote call.

Owns the retry on "locked", deadlock and serialization failures. Guarantees that a retried
function runs from its start in a fresh transaction. Does not retry anything that already sits in
an outer transaction: only the outermost one can be repeated.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.db import OperationalError, connection, transaction

T = TypeVar("T")

_NORMAL = 1  # SQLite's: in WAL mode the log is written to the disk at checkpoints only
_SERIALIZATION_FAILURE, _DEADLOCK, _LOCK_TIMEOUT = "40001", "40P01", "55P03"


class OpenTransaction(RuntimeError):
    """A remote call was about to start while a database transaction was open."""


def assert_outside_transaction() -> None:
    """Raise OpenTransaction when this thread's connection is inside a transaction."""
    if connection.in_atomic_block:
        raise OpenTransaction("A remote call inside a database transaction would hold locks while it waits.")


def worth_repeating(error: OperationalError) -> bool:
    """Tell whether the database refused only because of other transactions."""
    state = getattr(error.__cause__, "sqlstate", None)
    if state in {_SERIALIZATION_FAILURE, _DEADLOCK, _LOCK_TIMEOUT}:
        return True
    return "database is locked" in str(error) or "database table is locked" in str(error)


@contextmanager
def _not_waiting_for_the_disk() -> Iterator[None]:
    """Run the block in a transaction whose commit returns before the disk has it; an outer one's commit still waits."""
    nested = connection.in_atomic_block
    with connection.cursor() as cursor:
        if nested or connection.vendor == "postgresql":
            with transaction.atomic():
                if not nested:
                    cursor.execute("SET LOCAL synchronous_commit TO off")
                yield
            return
        cursor.execute("PRAGMA synchronous")
        usual = int(cursor.fetchone()[0])
        cursor.execute(f"PRAGMA synchronous={min(usual, _NORMAL)}")
        try:
            with transaction.atomic():
                yield
        finally:
            cursor.execute(f"PRAGMA synchronous={usual}")


def atomic_retry(work: Callable[[], T], *, attempts: int = 5, durable: bool = True) -> T:
    """Run `work` in a transaction, again on lock trouble, and return its result.

    `work` must not talk to anything but the database: it may run several times. durable False: a power cut may undo
    it, other processes see it all the same; for rows that mean nothing once their writer is gone.
    """
    for attempt in range(1, attempts + 1):
        try:
            with transaction.atomic() if durable else _not_waiting_for_the_disk():
                return work()
        except OperationalError as error:
            if connection.in_atomic_block or attempt == attempts or not worth_repeating(error):
                raise
            time.sleep(random.uniform(0, 0.02 * 2**attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")
