"""Runs a command so that nothing it started outlives us, however we are told to end.

Guarantees: Ctrl-C, SIGTERM and SIGHUP reach the command once, as Ctrl-C, and we wait until it has cleaned up.
Does not: survive SIGKILL.
"""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

CLEANUP_S = 90.0
Output = IO[str] | int | None


def end_in_order() -> None:
    """Turn SIGTERM and SIGHUP into an exit that runs every `finally`; call it once, in the main thread."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, capture: bool = False) -> tuple[int, str]:
    """Run a command to its end; return its exit code and, when captured, all that it printed."""
    stdout, stderr = (subprocess.PIPE, subprocess.STDOUT) if capture else (None, None)
    with running(command, env=env, stdout=stdout, stderr=stderr) as process:
        printed, _ = process.communicate()
    return process.returncode, printed or ""


@contextmanager
def running(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, stdout: Output = None, stderr: Output = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the block; when the block is left by an exception, end the command in order."""
    # A session of its own: a terminal's Ctrl-C would reach it twice, and the second cuts its cleaning up short.
    process = subprocess.Popen(command, env=env, start_new_session=True, text=True, stdout=stdout, stderr=stderr)
    try:
        yield process
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=CLEANUP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
