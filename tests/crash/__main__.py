"""`python -m tests.crash`: see `command.py`. Django is set up first, on no database of anybody's."""

import os
import sys

import django


def main() -> int:
    """Set Django up and run the command."""
    os.environ["DATABASE_URL"] = "sqlite:////nowhere/unused.sqlite3"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "syncportal.settings")
    django.setup()
    from tests.crash import command

    return command.main()


if __name__ == "__main__":
    sys.exit(main())
