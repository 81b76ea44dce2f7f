"""The canary: a task that goes through the pool and answers past the database.

Owns: the answer's way back, a pipe that the pool inherits from its supervisor. Guarantees: answering never blocks and
never raises, so a stopped supervisor cannot wedge the pool. Does not: judge silence; supervisor.py does.
"""

import contextlib
import os

TASK = "syncportal.ops.canary.answer"
_pipe: int | None = None


def answer_on(descriptor: int) -> None:
    """Answer on this pipe from now on, also in forked processes."""
    global _pipe
    os.set_blocking(descriptor, False)
    _pipe = descriptor


def answer() -> None:
    """Tell the supervisor that a pool member took a task."""
    if _pipe is not None:
        with contextlib.suppress(OSError):
            os.write(_pipe, b".")
