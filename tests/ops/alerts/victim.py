"""A process that evaluates and sends, and kills itself at a given point: `python -m tests.ops.alerts.victim POINT`.

Points: evaluating (alert and notice written, not committed), claimed (not sent yet), sent (taken, not written down).
"""

import os
import signal
import sys
from typing import Any

import django


def die(*args: Any, **options: Any) -> None:
    """End at once, as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(point: str) -> None:
    """Evaluate and send until the point is reached."""
    django.setup()
    from syncportal.kernel.clock import db_now
    from syncportal.ops.alerts import alert_store, evaluate, outbox, sending

    if point == "evaluating":
        written = outbox.put

        def put_and_die(*args: Any, **options: Any) -> None:
            written(*args, **options)
            die()

        alert_store.outbox.put = put_and_die  # type: ignore[assignment]
    elif point == "claimed":
        sending.ways.send = die  # type: ignore[assignment]
    elif point == "sent":
        outbox.succeed = die  # type: ignore[assignment]
    evaluate.duty(db_now())


if __name__ == "__main__":
    main(sys.argv[1])
