"""`manage.py create_api_key USER [--scope read,write,operate] [--days N]`: makes a key and prints it, once."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from syncportal.access.keys import ALL_SCOPES, Scope, create_key
from syncportal.kernel.clock import db_now

_EXAMPLE = """example:
  KEY=$(python manage.py create_api_key alice --scope read,write --days 90)
  curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/api/v1/records/

The key is the only line of standard output and cannot be shown again; only its hash is stored."""


class Command(BaseCommand):
    """Make an API key for a person."""

    help = "Make an API key for a user and print it, once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = _EXAMPLE
        parser.add_argument("user", help="the user's name; the key acts with this user's permissions")
        parser.add_argument(
            "--scope", default=",".join(ALL_SCOPES), help="comma-separated, of read, write, operate (default: all)"
        )
        parser.add_argument("--days", type=int, default=365, help="how long it works; 0: no end (default: 365)")
        parser.add_argument("--name", default="", help="what people see in lists")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the key; standard output holds nothing else."""
        user = get_user_model().objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}.", returncode=2)
        if not user.is_active:
            raise CommandError(f"The user {options['user']!r} is not active.", returncode=2)
        names = [part.strip() for part in options["scope"].split(",") if part.strip()]
        unknown = sorted(set(names) - {scope.value for scope in Scope})
        if unknown or not names:
            raise CommandError(
                f"Unknown scope {', '.join(unknown) or '(none)'}: use read, write, operate.", returncode=2
            )
        if not 0 <= options["days"] <= 3650:
            raise CommandError("--days must be between 0 (no end) and 3650.", returncode=2)
        now = db_now()
        expires_at = now + timedelta(days=options["days"]) if options["days"] else None
        name = (options["name"].strip() or "made on the command line")[:100]
        key = create_key(user, name=name, scopes=[Scope(name) for name in names], expires_at=expires_at, now=now)
        self.stderr.write(
            f"Key for {user.get_username()}: {', '.join(names)}, "
            + (f"until {expires_at:%Y-%m-%d}." if expires_at else "without end.")
        )
        self.stdout.write(key)
