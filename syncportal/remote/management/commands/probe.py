"""`manage.py probe RESOURCE [--write] [--json]`: find out what a remote really does."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand

from syncportal.remote import probe
from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.models import Resource


class Command(BaseCommand):
    """Probe a resource and print its guarantee card."""

    help = """Read (and with --write also write on one scratch object) to find out what a remote guarantees.

Example:
  manage.py probe shifts
  manage.py probe shifts --write --json

With --write one object is created and deleted again; where nothing can be created, one existing object is changed and
put back. The guarantee card is stored and sets the safe defaults of the resource.
Exit codes: 0 probed and cleaned up, 1 probed but something was left behind, 2 could not be probed."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Keep the line breaks of the help."""
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the resource, the consent to write and the output."""
        parser.add_argument("resource", metavar="RESOURCE", help="slug of the resource")
        parser.add_argument("--write", action="store_true", help="also write on one scratch object")
        parser.add_argument("--json", action="store_true", help="print the card as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        slug = options["resource"]
        resource = Resource.objects.select_related("remote").filter(slug=slug).first()
        if resource is None:
            known = ", ".join(Resource.objects.values_list("slug", flat=True)) or "none is configured"
            self._stop(f"There is no resource {slug!r}; known: {known}.")
            return
        try:
            card = probe.run(resource, write=options["write"])
        except (Misconfiguration, RemoteError) as problem:
            self._stop(f"{slug} cannot be probed: {problem.detail}")
            return
        if options["json"]:
            self.stdout.write(json.dumps(card, indent=2))
        else:
            self._print(card)
        if card["leftover"]:
            raise SystemExit(1)

    def _stop(self, message: str) -> None:
        self.stderr.write(message)
        raise SystemExit(2)

    def _print(self, card: dict[str, Any]) -> None:
        self.stdout.write(card["promise"])
        for name, value in card.items():
            if name in ("promise", "problems") or value in (None, "", []):
                continue
            shown = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
            shown = ", ".join(shown) if isinstance(shown, list) else shown
            self.stdout.write(f"  {name.replace('_', ' ')}: {shown}")
        for problem in card["problems"]:
            self.stdout.write(f"  note: {problem}")
