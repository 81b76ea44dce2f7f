"""How values, times and statuses look on a page.

Owns: `Shown` (a JSON value as text, short and whole), badges and times as escaped HTML. Guarantees: remote text is
always escaped, and never longer than a line or two until somebody asks for the rest.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from syncportal.kernel.pointer import MISSING
from syncportal.sync.states import LOOKS, Status

SHORT = 120


@dataclass(frozen=True, slots=True)
class Shown:
    """A value for people. `more` holds the whole text when `text` is cut; `absent`: none; `empty`: no letters."""

    text: str
    more: str = ""
    absent: bool = False
    code: bool = False
    empty: bool = False


def shown(value: Any, *, limit: int = SHORT) -> Shown:
    """Return a JSON value as people read it."""
    if value is None or value is MISSING:
        return Shown("", absent=True)
    if isinstance(value, str) and not value.strip():
        return Shown("", empty=True)
    code = isinstance(value, (dict, list))
    if isinstance(value, bool):
        text = "Yes" if value else "No"
    elif isinstance(value, str):
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False, indent=2 if code else None, default=str)
    return Shown(text[:limit].rstrip() + " …", more=text, code=code) if len(text) > limit else Shown(text, code=code)


def cut(text: str, limit: int = SHORT) -> str:
    """Return the text's first line, at most `limit` characters."""
    first = text.strip().split("\n", 1)[0]
    return first if len(first) <= limit else first[: limit - 1].rstrip() + "…"


def icon(name: str) -> SafeString:
    """Return one of the shell's icons."""
    return format_html('<svg class="icon" aria-hidden="true" focusable="false"><use href="#i-{}"></use></svg>', name)


def status_badge(status: str) -> SafeString:
    """Return the badge of a record's status: icon, word and colour."""
    return format_html(
        '<span class="status status--{}">{}{}</span>', status.lower(), icon(LOOKS[status].icon), Status(status).label
    )


def badge(tone: str, name: str, word: str) -> SafeString:
    """Return a small label with icon and word in the colour of its meaning."""
    return format_html('<span class="badge badge--{}">{}{}</span>', tone, icon(name), word)


def ago(moment: datetime, now: datetime) -> str:
    """Return how far a moment lies back or ahead, in its largest unit: "5 min"."""
    seconds = abs((now - moment).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def utc(moment: datetime) -> str:
    """Return the exact UTC of a moment, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def local(moment: datetime) -> str:
    """Return a moment in the viewer's zone."""
    return date_format(timezone.localtime(moment), "j M Y, H:i:s")


def in_words(name: str) -> str:
    """Return a name of the code as people read it."""
    return name.replace("_", " ")


def time_tag(moment: datetime | None, *, now: datetime | None = None) -> SafeString:
    """Return a moment as an element: how long ago with `now`, else date and time; the exact UTC on hover."""
    if moment is None:
        return format_html('<span class="muted">{}</span>', "–")
    text = local(moment) if now is None else ago(moment, now)
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), _title(moment, now), text)


def _title(moment: datetime, now: datetime | None) -> str:
    return utc(moment) if now is None else f"{local(moment)} · {utc(moment)}"
