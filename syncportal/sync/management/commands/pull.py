"""`manage.py pull RESOURCE`: stream all objects of a resource into records."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.models import Resource
from syncportal.sync import pull
from syncportal.sync.models import Pull

COUNTS = ("seen", "created", "updated", "unchanged", "busy", "invalid")
REFUSED = 2
TELL_EVERY_S = 1.0
AGAIN = "Run the command again to go on where it stopped."


class Command(BaseCommand):
    """Pull one resource to its end."""

    help = (
        "Streams all objects of a resource into records. A pull that was broken off goes on where it stopped. "
        "Exit code 0 when the end was reached, 2 when it could not run or was broken off."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add an example."""
        return super().create_parser(prog_name, subcommand, epilog="Example: manage.py pull accounts --json", **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the resource, --full and --json."""
        parser.add_argument("resource", help="the resource's slug")
        parser.add_argument(
            "--full", action="store_true", help="everything, also where the remote can list only what changed"
        )
        parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Pull until the list's end; progress goes to standard error."""
        resource = _resource(options["resource"])
        running = pull.start(resource, full=options["full"])
        if running.seen:
            self.stderr.write(f"{resource.slug}: going on after {running.seen} objects")
        told = [time.monotonic()]

        def progress(now: Pull) -> None:
            if time.monotonic() - told[0] >= TELL_EVERY_S:
                told[0] = time.monotonic()
                self.stderr.write(f"{resource.slug}: {now.seen} seen, {now.created} new, {now.updated} updated")

        try:
            done = pull.run(running.pk, progress=progress)
        except (pull.PullRefused, Misconfiguration) as problem:
            raise CommandError(str(problem), returncode=REFUSED) from problem
        except RemoteError as error:
            given_up = Pull.objects.filter(pk=running.pk, state="failed").exists()
            again = "It was given up; running the command again begins anew." if given_up else AGAIN
            text = f"The remote broke it off: {error.detail} {again}"
            raise CommandError(text, returncode=REFUSED) from error
        except KeyboardInterrupt:
            raise CommandError(f"Broken off. {AGAIN}", returncode=REFUSED) from None
        counts = {name: getattr(done, name) for name in COUNTS}
        if done.problem:
            self.stderr.write(f"{resource.slug}: {done.problem}")
        if options["json"]:
            self.stdout.write(json.dumps(counts))
        else:
            self.stdout.write(f"{resource.slug}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


def _resource(slug: str) -> Resource:
    found = Resource.objects.select_related("remote").filter(slug=slug).first()
    if found is None:
        known = ", ".join(Resource.objects.values_list("slug", flat=True)) or "none; run manage.py configure FILE"
        raise CommandError(f"There is no resource {slug!r}. Known: {known}.", returncode=REFUSED)
    return found
