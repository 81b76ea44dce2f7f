"""`manage.py drain`: push what is due, here and now."""

import signal
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from syncportal.sync.drain import default_budget, drain


class Command(BaseCommand):
    """Push what is due and end."""

    help = (
        "Pushes what is due and ends when nothing due is left; retries that are due later are left to the worker. "
        "Safe beside running workers: a job is claimed once. With --once it ends after one task's time at the latest."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add an example."""
        return super().create_parser(prog_name, subcommand, epilog="Example: manage.py drain --once", **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --once."""
        parser.add_argument("--once", action="store_true", help=f"end after {settings.TASK_BUDGET_S} s at the latest")

    def handle(self, *args: Any, **options: Any) -> None:
        """Push until nothing is due."""
        stopped = threading.Event()

        def stop(number: int, frame: FrameType | None) -> None:
            stopped.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        budget = default_budget(task_s=settings.TASK_BUDGET_S if options["once"] else None)
        report = drain(budget=budget, keep_going=lambda: not stopped.is_set())
        outcomes = ", ".join(f"{count} {verb}" for verb, count in sorted(report.by_verb.items()))
        rest = "; more is due" if report.left_over else ""
        self.stdout.write(f"{report.settled} attempts{f': {outcomes}' if outcomes else ''}{rest}")
