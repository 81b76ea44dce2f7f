"""Template filters for values, times and statuses; the looks themselves stand in screens/values.py."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django import template
from django.utils.safestring import SafeString

from syncportal.sync.screens import values
from syncportal.sync.screens.values import Shown

register = template.Library()


@register.filter
def status_badge(status: str) -> SafeString:
    """Show a record's status."""
    return values.status_badge(status)


@register.filter
def moment(value: datetime | None) -> SafeString:
    """Show a date and time in the viewer's zone, with the exact UTC on hover."""
    return values.time_tag(value)


@register.filter
def since(value: datetime | None, now: datetime) -> SafeString:
    """Show how far a moment is away from `now`, with date and UTC on hover."""
    return values.time_tag(value, now=now)


@register.filter
def in_words(name: str) -> str:
    """Show a name of the code without its underscores."""
    return values.in_words(name)


@register.filter
def shown(value: Any) -> Shown:
    """Turn a JSON value into what people read."""
    return values.shown(value)


@register.filter
def backed(query: str) -> str:
    """Return the query parameter that remembers the list a person came from."""
    return urlencode({"back": query}) if query else ""


@register.filter
def get(mapping: Mapping[str, Any], key: str) -> Any:
    """Return one value of a mapping, None when there is none."""
    return mapping.get(key)
