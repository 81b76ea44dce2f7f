"""`manage.py configure FILE [--dry-run]`: bring remotes and resources to what a file says."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from syncportal.remote.configuration import Change, ConfigurationInvalid, apply, parse, plan
from syncportal.remote.rules import Problem

SHOWN_CHARS = 100


class Command(BaseCommand):
    """Validate a file whole, show what it changes, apply it in one transaction."""

    help = """Configure remotes and resources from a YAML or JSON file.

Example:
  manage.py configure remotes.yaml --dry-run
  manage.py configure remotes.yaml

Applying a file twice changes nothing the second time; what is not in the file stays as it is.
Exit codes: 0 applied or nothing to do, 2 invalid (every problem is listed with its path in the file)."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Keep the line breaks of the help."""
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the file and the dry run."""
        parser.add_argument("file", metavar="FILE", help="YAML or JSON file")
        parser.add_argument("--dry-run", action="store_true", help="show what would change and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        name = options["file"]
        try:
            planned = plan(parse(_read(name), filename=name))
        except ConfigurationInvalid as refused:
            self._refuse(name, refused.problems)
        if options["dry_run"]:
            self._print(planned.changes, "would be ")
            return
        try:
            self._print(apply(planned), "")
        except ConfigurationInvalid as refused:
            self._refuse(name, refused.problems)

    def _refuse(self, name: str, problems: list[Problem]) -> None:
        for problem in problems:
            self.stderr.write(f"{Path(name).name}: {problem}")
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        self.stderr.write(f"{count}, nothing was changed.")
        raise SystemExit(2)

    def _print(self, changes: tuple[Change, ...], tense: str) -> None:
        for change in changes:
            self.stdout.write(f"{change.kind} {change.slug} {tense}{change.action}d")
            for difference in change.differences:
                was, becomes = _shown(difference.before), _shown(difference.after)
                self.stdout.write(f"  {difference.pointer}: {was} -> {becomes}")
        if not changes:
            self.stdout.write("Nothing to do: everything is as the file says.")


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as problem:
        raise ConfigurationInvalid([Problem("", f"the file cannot be read: {problem.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigurationInvalid([Problem("", "the file is not UTF-8")]) from None


def _shown(value: Any) -> str:
    if value is None:
        return "(nothing)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"
