"""`manage.py reconcile RESOURCE`: compare both sides now, to the end, and say what differs; or cancel the run."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from reconciliation import engine, reports, runs, summary
from reconciliation.journal import AlreadyRunning
from reconciliation.models import Discrepancy, Run
from reconciliation.runs import NotPossible
from reconciliation.states import Origin, RunState, Scope
from syncportal.remote.models import Resource
from syncportal.sync.events import Actor

AGREEMENT, DIFFERENCES, REFUSED = 0, 1, 2
SLICE_S = 5.0
ACTOR = Actor("worker", label="manage.py reconcile")


class Command(BaseCommand):
    """Reconcile one resource to its end."""

    help = (
        "Compares all objects of a resource with its records, repairs what the policy allows and lists the rest. "
        "Exit code 0 when both sides agree, 1 when discrepancies are open, 2 when it could not run. "
        "With --cancel: 0 when the running run was ended, 2 when none runs."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add an example."""
        epilog = "Example: manage.py reconcile accounts --dry-run --json"
        return super().create_parser(prog_name, subcommand, epilog=epilog, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the resource, --dry-run or --cancel, and --json."""
        parser.add_argument("resource", help="the resource's slug")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--dry-run", action="store_true", help="find and plan, repair nothing")
        what.add_argument("--cancel", action="store_true", help="end the run that is running; what it did stays")
        parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare until the end, or end what is running; progress goes to standard error."""
        resource = _resource(options["resource"])
        if options["cancel"]:
            self._cancel(resource, as_json=options["json"])
            return
        run = self._to_the_end(self._start(resource, dry_run=options["dry_run"]))
        left = Discrepancy.objects.open().filter(resource=resource).count()
        self._tell(run, left=left, as_json=options["json"])
        if left or run.state == RunState.BRAKED:
            raise SystemExit(DIFFERENCES)

    def _cancel(self, resource: Resource, *, as_json: bool) -> None:
        run = Run.objects.running().filter(resource=resource).first()
        try:
            if run is None:
                raise NotPossible("not_running", "It is not being compared right now; nothing was cancelled.")
            runs.cancel(run.pk, actor=ACTOR)
        except NotPossible as refused:
            raise CommandError(f"{resource.slug}: {refused}", returncode=REFUSED) from None
        run.refresh_from_db()
        self._tell(run, left=Discrepancy.objects.open().filter(resource=resource).count(), as_json=as_json)

    def _start(self, resource: Resource, *, dry_run: bool) -> Run:
        """Begin a run, or go on with the same kind of run that was broken off or that a worker has."""
        try:
            return runs.start(resource, actor=ACTOR, dry_run=dry_run, origin=Origin.COMMAND)
        except AlreadyRunning as refused:
            run = Run.objects.running().filter(resource=resource, scope=Scope.ALL, dry_run=dry_run).first()
            if run is None:
                raise CommandError(f"{refused} It is run {refused.run_id}.", returncode=REFUSED) from None
            self.stderr.write(f"{resource.slug}: going on with run {run.pk} after {run.checked} rows")
            return run

    def _to_the_end(self, run: Run) -> Run:
        try:
            while True:
                sliced = engine.run_slice(run.pk, seconds=SLICE_S)
                if sliced.run.state == RunState.FAILED:
                    raise CommandError(f"It could not run: {sliced.run.problem}", returncode=REFUSED)
                if sliced.run.state == RunState.CANCELLED:
                    raise CommandError("The run was cancelled before its end.", returncode=REFUSED)
                if sliced.run.state != RunState.RUNNING:
                    return sliced.run
                if not sliced.worked and sliced.run.problem:
                    text = f"Broken off: {sliced.run.problem} A worker goes on where it stopped."
                    raise CommandError(text, returncode=REFUSED)
                if not sliced.worked:  # a worker was faster with this slice
                    time.sleep(0.2)
                done = reports.percent_done(sliced.run)
                at = "" if done is None else f", {done} %"
                self.stderr.write(f"{run.resource.slug}: {sliced.run.checked} checked{at}")
        except KeyboardInterrupt:
            raise CommandError("Broken off. A worker goes on where it stopped.", returncode=REFUSED) from None

    def _tell(self, run: Run, *, left: int, as_json: bool) -> None:
        data = summary.as_data(run)
        if run.problem:
            self.stderr.write(f"{run.resource.slug}: {run.problem}")
        if as_json:
            told = {"run": run.pk, "dry_run": run.dry_run, "open": left, "match": run.matched, **data}
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write(f"{run.resource.slug}: {summary.sentence(data)}; {left} open")


def _resource(slug: str) -> Resource:
    found = Resource.objects.select_related("remote").filter(slug=slug).first()
    if found is None:
        known = ", ".join(Resource.objects.values_list("slug", flat=True)) or "none; run manage.py configure FILE"
        raise CommandError(f"There is no resource {slug!r}. Known: {known}.", returncode=REFUSED)
    return found
