"""A process that works at an operation and kills itself in the middle: `python -m tests.bulk.victim OPERATION POINT`.

Points: acted (rows requeued in an open transaction), counted (also their outcomes), committed (after the second batch).
"""

import os
import signal
import sys
from typing import Any

import django


def die(*args: Any, **options: Any) -> None:
    """End at once, as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(operation_id: int, point: str) -> None:
    """Work until the point is reached in the second batch."""
    django.setup()
    from syncportal.bulk import journal, work

    seen = 0

    def in_the_second(before: Any, *, after: bool = False) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == 2 and not after:
                die()
            result = before(*args, **options)
            if seen == 2:
                die()
            return result

        return wrapped

    if point == "acted":
        journal.note = in_the_second(journal.note)
    elif point == "counted":
        journal.advance = in_the_second(journal.advance, after=True)
    else:
        work.atomic_retry = _after_commits(work.atomic_retry, die_at=3)  # the claim, then two batches
    work.run(operation_id, seconds=60)


def _after_commits(before: Any, *, die_at: int) -> Any:
    done = 0

    def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal done
        result = before(*args, **options)
        done += 1
        if done == die_at:
            die()
        return result

    return wrapped


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
