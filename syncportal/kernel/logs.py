"""How log lines look: one JSON object or one readable line per event, secrets masked.

Owns: the logging configuration and its processors. Guarantees: values under secret-sounding keys, bearer tokens and
passwords inside URLs never reach the output; a line break in a value cannot forge a second line. Does not: decide what
is logged, or where to (standard error, so that commands can print their result on standard output).
"""

from collections.abc import MutableMapping
from typing import Any

import structlog

from syncportal.kernel import correlation
from syncportal.kernel.redaction import MASK, Redactor, looks_secret

_REDACTOR = Redactor()
_MANY_LINES = frozenset({"exception", "stack"})  # ours, not a caller's: a traceback stays readable


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask secrets in one event, however deep they sit (structlog processor)."""
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: object, value: object) -> object:
    if isinstance(key, str) and key != "event" and value and looks_secret(key):
        return MASK
    if isinstance(value, str):
        if key in _MANY_LINES:
            return "\n".join(_REDACTOR.line(line) for line in value.splitlines())
        return _REDACTOR.line(value)
    if isinstance(value, dict):
        return {inner: _masked(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(None, item) for item in value]
    return value


def add_correlation(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the work at hand, where neither the request nor the caller has named it (structlog processor)."""
    here = correlation.current()
    if here and "request_id" not in event:
        event.setdefault("correlation_id", here)
    return event


def logging_config(*, style: str, level: str = "INFO") -> dict[str, Any]:
    """Return Django's LOGGING for `style` "json" or "console" and set structlog up to feed it."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_correlation,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info]
    if style == "json":
        last += [mask_secrets, structlog.processors.JSONRenderer()]
    else:
        last += [mask_secrets, structlog.dev.ConsoleRenderer(colors=False)]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": last,
                # Of what other libraries attach to a line only this is kept: the rest holds whole requests and sockets.
                "foreign_pre_chain": [*shared, structlog.stdlib.ExtraAdder({"status_code"})],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
            "django-q": {"handlers": [], "level": "WARNING", "propagate": True},
            "urllib3": {"level": "ERROR"},
            "axes": {"level": "WARNING"},
        },
    }
