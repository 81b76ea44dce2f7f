"""Secrets that are made at the first start.

Owns: creating a secret file once, whoever comes first. Guarantees: every process reads the same value, also when
several start together; the file belongs to its owner alone (0600); no default value exists. Does not: rotate or delete
secrets.
"""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def stored_secret(path: Path, *, make: Callable[[], str]) -> str:
    """Return the secret kept in `path`; make it when the file does not exist yet.

    The value is written under a name of its own and then linked into place: a link never replaces an existing file, and
    nobody can read a half-written one. The loser of a race reads the winner's value.
    """
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first; its value counts
            os.link(draft, path)
    finally:
        draft.unlink()
    return path.read_text(encoding="ascii").strip()
