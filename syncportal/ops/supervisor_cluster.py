"""The child of the supervisor: django-q2's cluster, made fit to be supervised.

Run by the command `workerpool`. Guarantees: a canary goes through this very pool every
few seconds, also when many hosts share the queue; a database outage stalls nobody for long; every process of the group
ends when its parent does, the whole group when its supervisor dies. Does not: restart anything; supervisor.py does.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

from django.db import Error as DatabaseTrouble
from django.db import connections
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.cluster import Cluster
from django_q.conf import Conf
from django_q.signing import SignedPackage

from syncportal.kernel import turns
from syncportal.ops import canary

CANARY_EVERY_S = 5.0
OUTAGE_PAUSE_S = 0.5
ORPHAN_GRACE_S = 22.0
_NO_ROW = 0  # what django-q2 never acknowledges
_PR_SET_PDEATHSIG = 1


class WatchedBroker(ORM):
    """The database queue, plus a canary now and then that belongs to this group alone."""

    _canary_due = 0.0

    def dequeue(self) -> Any:
        """Return the next tasks; a canary when its time has come; nothing while the database is away."""
        if time.monotonic() >= self._canary_due:
            self._canary_due = time.monotonic() + CANARY_EVERY_S
            return [(_NO_ROW, _canary())]
        try:
            return super().dequeue()
        except DatabaseTrouble:
            # Left alone, the pusher would sleep ten seconds and die; its connection would stay broken.
            connections.close_all()
            time.sleep(OUTAGE_PAUSE_S)
            return None

    def delete(self, task_id: int) -> None:
        """Remove a finished task; if the database is away it comes again later, which is harmless."""
        try:
            super().delete(task_id)
        except DatabaseTrouble:
            connections.close_all()


def _canary() -> str:
    task = {
        "id": "canary", "name": "canary", "func": canary.TASK, "args": (), "kwargs": {},
        "started": timezone.now(), "ack_failure": True, "save": False,
    }  # fmt: skip
    return str(SignedPackage.dumps(task))


def end_with_parent() -> None:
    """Have every process forked from here on end when its parent is killed (Linux; elsewhere the supervisor does it).

    A killed main process or sentinel would leave a pool that nobody stops.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    parent = [os.getpid()]

    def before() -> None:
        parent[0] = os.getpid()

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent[0]:  # it died before the line above
            os._exit(1)

    os.register_at_fork(before=before, after_in_child=in_child)


def _follow_supervisor() -> None:
    """Wait for the supervisor's end, seen as the end of our standard input; then end cleanly, or by force."""
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main(pipe: int) -> int:
    """Run the cluster until it is told to stop, answering canaries on `pipe`; return the sentinel's exit code."""
    canary.answer_on(pipe)
    turns.open_turns(Conf.WORKERS - 1)
    end_with_parent()
    cluster = Cluster(WatchedBroker(list_key=Conf.CLUSTER_NAME))
    cluster.start()
    threading.Thread(target=_follow_supervisor, name="follow-supervisor", daemon=True).start()
    cluster.sentinel.join()
    return abs(cluster.sentinel.exitcode or 0)
