"""How log lines look: one JSON object or one readable line per event, secrets masked.

Owns: the logging configuration and its processors. Guarantees: values under secret-sounding keys, bearer tokens and
passwords inside URLs never reach the output; a line break in a value cannot forge a second line. Does not: decide what
is logged, or where to (standard error, so that commands can print their result on standard output).
"""

import re
from collections.abc import MutableMapping
from typing import Any

import structlog

MASK = "***"
_SECRET_KEY = re.compile(
    r"passw|secret|token|authorization|cookie|credential|api_?key|encryption|private_?key|webhook|dsn$|database_url",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"(?P<url>[a-z][a-z0-9+.-]*://[^/\s:@]*:)[^@\s/]+(?=@)"
    r"|(?P<scheme>\b(?:bearer|basic|token)\s+)[A-Za-z0-9._~+/=-]{6,}"
    r"|(?P<query>[?&](?:token|key|api_key|access_token|signature|sig|password)=)[^&\s]+",
    re.IGNORECASE,
)


def mask_text(text: str) -> str:
    """Mask passwords in URLs, authorization values and secret query parameters inside a text."""
    return _SECRET_VALUE.sub(lambda hit: (hit["url"] or hit["scheme"] or hit["query"]) + MASK, text)


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask secrets in one event, however deep they sit (structlog processor)."""
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: object, value: object) -> object:
    if isinstance(key, str) and key != "event" and _SECRET_KEY.search(key) and value:
        return MASK
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict):
        return {inner: _masked(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(None, item) for item in value]
    return value


def _one_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape line breaks and control characters of the event text (console lines only; JSON escapes by itself)."""
    text = str(event.get("event", ""))
    event["event"] = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return event


def logging_config(*, style: str, level: str = "INFO") -> dict[str, Any]:
    """Return Django's LOGGING for `style` "json" or "console" and set structlog up to feed it."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
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
        last += [mask_secrets, _one_line, structlog.dev.ConsoleRenderer(colors=False)]
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
