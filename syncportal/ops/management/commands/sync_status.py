"""`manage.py sync_status`: where everything stands."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from syncportal.kernel.clock import db_now
from syncportal.ops import overview


class Command(BaseCommand):
    """Print counts per status, the oldest due job, workers and breakers."""

    help = "Shows counts per status, the oldest due job, workers and the breakers of the remotes."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add an example."""
        example = "Example: manage.py sync_status --json"
        return super().create_parser(prog_name, subcommand, epilog=example, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the overview."""
        found = overview.read(now=db_now())
        if options["json"]:
            self.stdout.write(json.dumps(overview.as_json(found), indent=2))
        else:
            self.stdout.write("\n".join(overview.as_lines(found)))
