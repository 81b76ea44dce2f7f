"""`manage.py doctor`: is everything needed in place?"""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from syncportal.ops.diagnosis import Verdict, examine


class Command(BaseCommand):
    """Ask every question, and say how to mend what is missing."""

    help = "Checks everything SyncPortal needs and says how to mend what is missing. Exit code 0 when nothing is."
    requires_system_checks: list[str] = []  # they are among the questions

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add an example."""
        example = "Example: manage.py doctor && manage.py runworker"
        return super().create_parser(prog_name, subcommand, epilog=example, **kwargs)

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings; exit with 1 when something is broken."""
        broken = 0
        for finding in examine():
            self.stdout.write(f"{finding.verdict.value:<8} {finding.subject}: {finding.says}")
            if finding.mend:
                self.stdout.write(f"{'':<8}   -> {finding.mend}")
            broken += finding.verdict == Verdict.BROKEN
        self.stdout.write(f"{broken} broken." if broken else "Everything needed is in place.")
        sys.exit(1 if broken else 0)
