"""`manage.py workerpool PIPE`: the pool that `runworker` starts and supervises; not meant to be run by hand."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from syncportal.ops import supervisor_cluster


class Command(BaseCommand):
    """Run the pool under its supervisor."""

    help = "Internal: the pool of workers that runworker starts and supervises."
    requires_system_checks: list[str] = []  # runworker has run them

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the descriptor on which canaries are answered."""
        parser.add_argument("pipe", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop, or until the supervisor is gone."""
        sys.exit(supervisor_cluster.main(options["pipe"]))
