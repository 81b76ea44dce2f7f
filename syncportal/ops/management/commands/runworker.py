"""`manage.py runworker`: the supervisor of the worker pool."""

import os
import signal
import socket
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from syncportal.ops.process_group import ProcessGroup
from syncportal.ops.supervisor import Supervisor
from syncportal.ops.ticks import Ticker, work_off

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """Run the worker, or work off what is due and end."""

    help = (
        "Pushes, pulls and sweeps in the background: runs a pool of workers, rings for what is due, and restarts "
        "the pool when it hangs. Ends cleanly on SIGTERM and Ctrl-C. Any number may run, on any number of hosts."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add an example."""
        example = "Example: manage.py runworker --once   # push everything that is due now, then end"
        return super().create_parser(prog_name, subcommand, epilog=example, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --once."""
        parser.add_argument("--once", action="store_true", help="work off everything due, without a pool, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop."""
        told_to_stop = threading.Event()

        def stop(number: int, frame: FrameType | None) -> None:
            told_to_stop.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        if options["once"]:
            done = work_off(keep_going=lambda: not told_to_stop.is_set())
            self.stdout.write(
                f"{done.pushed} attempts, {done.refreshed} refreshed, {done.pull_slices} pull slices, "
                f"{done.compensated} compensations, {done.reconciled_slices} reconciliation slices, "
                f"{done.repaired} repairs" + (f"; failed, see the log: {', '.join(done.failed)}" if done.failed else "")
            )
            return
        ticker = Ticker(socket.gethostname(), os.getpid(), info={"workers": settings.Q_CLUSTER["workers"]})
        log.info("worker.started", pid=os.getpid(), workers=settings.Q_CLUSTER["workers"])
        Supervisor(start_group=ProcessGroup.start, tick=ticker.tick, wait=told_to_stop.wait).run()
        log.info("worker.stopped")
