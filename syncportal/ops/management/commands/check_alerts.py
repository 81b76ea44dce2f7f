"""`manage.py check_alerts [--json]`: evaluates the alert rules and sends what is due, without any worker."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from syncportal.kernel.clock import db_now
from syncportal.ops.alerts import evaluate
from syncportal.ops.alerts.models import Alert
from syncportal.ops.alerts.states import LIVE
from syncportal.ops.alerts.wording import flat


class Command(BaseCommand):
    """Do once what the worker does each minute; run it from a timer outside, and a missing worker is told, too."""

    help = "Evaluates the alert rules, sends the notices that are due, and lists the open alerts. Needs no worker."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add what the exit codes mean, and an example."""
        epilog = "Exit code 0: no alert is open, 1: at least one is. From cron: */5 * * * * manage.py check_alerts"
        return super().create_parser(prog_name, subcommand, epilog=epilog, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Evaluate, send, list."""
        done = evaluate.duty(db_now())
        alerts = list(Alert.objects.filter(state__in=sorted(LIVE)).order_by("opened_at"))
        if options["json"]:
            rows = [
                {"id": row.pk, "rule": row.kind, "severity": row.severity, "state": row.state, "scope": row.scope_name,
                 "summary": row.summary, "openedAt": row.opened_at.isoformat()}
                for row in alerts
            ]  # fmt: skip
            self.stdout.write(json.dumps({"done": done, "open": rows}, indent=2))
        else:
            for row in alerts:
                self.stdout.write(f"{row.severity:<9}{row.state:<13}{flat(str(row), 80)}: {flat(row.summary, 200)}")
            self.stdout.write(done if alerts else f"No alert is open. {done}")
        if alerts:
            raise CommandError(f"{len(alerts)} open", returncode=1)
