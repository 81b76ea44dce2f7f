"""The correlation id that ties a web request, its events and the remote calls it causes together."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[str] = ContextVar("correlation_id", default="")
_ALLOWED = re.compile(r"[A-Za-z0-9._\-]{1,64}")


def current() -> str:
    """Return the id of the work at hand, or "" outside of any."""
    return _current.get()


def accept(value: str | None) -> str:
    """Return a caller's id when it is harmless to log and send on, else a new one."""
    return value if value and _ALLOWED.fullmatch(value) else uuid.uuid4().hex


@contextmanager
def correlated(value: str) -> Iterator[None]:
    """Make `value` the current id for the block."""
    token = _current.set(value)
    try:
        yield
    finally:
        _current.reset(token)
