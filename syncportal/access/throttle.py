"""Slows down whoever tries API keys: after a few wrong ones an address is told to wait. The only writer of WrongKeys.

Guarantees: counted in the database, so for all processes together; a good key works all the while, so that nobody can
lock out a program that shares the address; one row an address (a /64 of IPv6), no write while it has to wait.
Does not: make keys safe; their 256 random bits do. Signing in by password is throttled by django-axes.
"""

from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from django.db.models import F

from syncportal.access.models import WrongKeys

ALLOWED: Final = 10
WINDOW: Final = timedelta(minutes=15)
_UNKNOWN: Final = "unknown"


def wait_s(address: str | None, *, now: datetime) -> int:
    """Count a wrong key from an address; return for how many seconds it has to wait, 0 when it need not."""
    source = _source(address)
    # A row from the future was written before the clock went back; it must not lock anybody out for long.
    present = WrongKeys.objects.filter(pk=source, since__gt=now - WINDOW, since__lte=now)
    row = present.first()
    if row is not None and row.count >= ALLOWED:
        return max(1, int((row.since + WINDOW - now).total_seconds()))
    if row is not None and present.update(count=F("count") + 1):
        return 0
    if not WrongKeys.objects.filter(pk=source).update(count=1, since=now):
        WrongKeys.objects.bulk_create([WrongKeys(source=source, count=1, since=now)], ignore_conflicts=True)
    return 0


def forget_old(*, now: datetime) -> int:
    """Remove the counts that no longer matter; return how many."""
    return WrongKeys.objects.filter(since__lte=now - WINDOW).delete()[0]


def _source(address: str | None) -> str:
    """Return what is counted together: an IPv4 address, or the network that one IPv6 subscriber has."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return _UNKNOWN
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)
