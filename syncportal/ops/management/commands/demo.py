"""`manage.py demo`: everything with sample data and a master to break; what `make demo` runs."""

import os
import signal
import sys
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from syncportal.kernel.clock import db_now
from syncportal.ops import demo_run, demo_story, overview

DEFAULT_PORT = 8000
DATABASE = "demo.sqlite3"


class Command(BaseCommand):
    """Run the demo until Ctrl-C."""

    help = (
        "Starts a demo master, the web server and the worker on a database of their own (demo.sqlite3 in DATA_DIR, "
        "made anew each time), loads sample data and shows life: edits flow, some fail and recover, conflicts wait. "
        "Prints the address and the logins. Ends on Ctrl-C."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add an example."""
        example = "Example: manage.py demo --port 8080"
        return super().create_parser(prog_name, subcommand, epilog=example, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the port and --once."""
        parser.add_argument("--port", type=int, help=f"of the web server (default {DEFAULT_PORT}, or a free one)")
        parser.add_argument("--once", action="store_true", help="end when the story has been told, with its numbers")
        parser.add_argument("--inside", action="store_true", help="internal: the settings are the demo's already")

    def handle(self, *args: Any, **options: Any) -> None:
        """Begin again with the demo's settings, then run it."""
        if not options["inside"]:
            self._begin_again(options)
        told_to_stop = threading.Event()

        def stop(number: int, frame: FrameType | None) -> None:
            told_to_stop.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        try:
            with demo_run.Demo(port=options["port"], say=self._say, stopped=told_to_stop) as demo:
                demo.run(once=options["once"])
                if options["once"] and not told_to_stop.is_set():
                    self._say("\n".join(overview.as_lines(overview.read(now=db_now()))))
        except (demo_run.DemoFailed, demo_story.NotTold) as problem:
            raise CommandError(str(problem)) from problem

    def _begin_again(self, options: dict[str, Any]) -> None:
        """Replace this process by one with the demo's settings; `env` hands the rest of the environment on."""
        port = options["port"] or demo_run.free_port(DEFAULT_PORT)
        changed = {
            "DATABASE_URL": f"sqlite:///{settings.DATA_DIR / DATABASE}",
            "REMOTE_ALLOWED_NETWORKS": "127.0.0.0/8",
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "EMAIL_URL": "consolemail://",
            "OPERATIONS_EMAIL": "operations@example.org",
            "DEBUG": "False",
        }
        command = [sys.executable, *(["-m", "django"] if sys.argv[0].endswith("__main__.py") else [sys.argv[0]])]
        command += ["demo", "--inside", "--port", str(port), *(["--once"] if options["once"] else [])]
        sys.stdout.flush()
        os.execvp("env", ["env", *(f"{name}={value}" for name, value in changed.items()), *command])  # noqa: S606, S607

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
