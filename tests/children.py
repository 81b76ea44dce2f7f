"""Runs a command so that nothing it started outlives us, however we are told to end.

Guarantees: Ctrl-C, SIGTERM and SIGHUP reach the command once, as Ctrl-C, and we wait until it has cleaned up.
Does not: survive SIGKILL.
"""

import contextlib
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import FrameType

CLEANUP_S = 90.0


def end_in_order() -> None:
    """Turn SIGTERM and SIGHUP into an exit that runs every `finally`; call it once, in the main thread."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, capture: bool = False) -> tuple[int, str]:
    """Run a command to its end; return its exit code and, when captured, all that it printed."""
    # A session of its own: a terminal's Ctrl-C would reach it twice, and the second cuts its cleaning up short.
    process = subprocess.Popen(
        command, env=env, start_new_session=True, text=True,
        stdout=subprocess.PIPE if capture else None, stderr=subprocess.STDOUT if capture else None,
    )  # fmt: skip
    try:
        printed, _ = process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=CLEANUP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return process.returncode, printed or ""
