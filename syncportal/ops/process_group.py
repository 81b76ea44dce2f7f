"""The cluster as one group of processes: started, listened to, ended and killed as a whole.

Owns: the child process of the supervisor. Guarantees: only the group that was started here is ever signalled; after
`kill` or `end` none of its processes is left. Does not: decide when.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from django.conf import settings

COMMAND = ("-m", "django", "workerpool")


@dataclass(slots=True)
class ProcessGroup:
    """A running cluster: its main process leads a session of its own and answers canaries on a pipe."""

    process: subprocess.Popen[bytes]
    answers: int

    @classmethod
    def start(cls, *, command: Sequence[str] = COMMAND) -> Self:
        """Start the cluster."""
        answers, pipe = os.pipe()
        os.set_blocking(answers, False)
        try:
            process = subprocess.Popen(  # noqa: S603 (our own module)
                [sys.executable, *command, str(pipe)],
                stdin=subprocess.PIPE,  # its end tells the cluster that we are gone
                pass_fds=[pipe],
                start_new_session=True,
                cwd=settings.BASE_DIR,
            )
        except OSError:
            os.close(answers)
            raise
        finally:
            os.close(pipe)
        return cls(process, answers)

    @property
    def pid(self) -> int:
        """Return the process id of the main process, which is also the group's."""
        return self.process.pid

    def running(self) -> bool:
        """Tell whether the main process lives; it is not collected yet, so its id stays its own."""
        if self.process.returncode is not None:
            return False
        if not hasattr(os, "waitid"):
            return self.process.poll() is None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def heard(self) -> bool:
        """Tell whether the pool answered a canary since the last call."""
        found = False
        with contextlib.suppress(OSError):
            while os.read(self.answers, 4096):
                found = True
        return found

    def ask_to_end(self) -> None:
        """Ask the main process to finish what runs and end; signalling the whole group would hang it."""
        if self.running():
            self.process.terminate()

    def kill(self) -> None:
        """Kill every process of the group and collect the main one."""
        # The main process is collected last: until then its id, and so the group's, belongs to nobody else.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.answers)
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
