"""What moves by itself on a conflict's page: the outcome of the push, or that somebody was faster.

Guarantees: a page that is open in front of somebody is never changed under their hands; it is told that it is stale.
"""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.sync.models import Conflict
from syncportal.sync.screens.outlook import Outlook, outlook
from syncportal.sync.screens.page import list_query
from syncportal.sync.states import Intent

NONE_VERSION = "-"
OPEN_POLL_S = 15


def version_of(conflict: Conflict) -> str:
    """Return the remote version as the form carries it: "-" for none, else "=" and the version."""
    return NONE_VERSION if conflict.remote_version is None else f"={conflict.remote_version}"


def token_of(conflict: Conflict, ahead: Outlook) -> str:
    """Return what says whether the page is still up to date."""
    if conflict.state == Conflict.State.OPEN:
        return f"open.{conflict.record.revision}.{conflict.updated_at.timestamp():.3f}"
    return ahead.token


def conflict_state(request: HttpRequest, conflict: Conflict, *, seen: str = "") -> dict[str, Any]:
    """Return the state of a conflict and of its record's job; `seen` is the token of the page that asks."""
    now, record = db_now(), conflict.record
    blocked = limits.blocked(now).get(conflict.resource.remote_id)
    ahead = outlook(record.job, now=now, blocked=blocked)
    is_open = conflict.state == Conflict.State.OPEN
    token = token_of(conflict, ahead)
    again = Conflict.objects.open().filter(record_id=record.pk).exclude(pk=conflict.pk)
    return {
        "conflict": conflict,
        "record": record,
        "job": record.job,
        "now": now,
        "outlook": ahead,
        "is_open": is_open,
        "moved": bool(seen) and seen != token,
        "token": token,
        "poll_s": OPEN_POLL_S if is_open else ahead.poll_s,
        "conflict_url": reverse("admin:sync_conflict_change", args=[conflict.pk]),
        "state_url": f"{reverse('admin:sync_conflict_state', args=[conflict.pk])}?seen={token}",
        "again": None if is_open else again.values_list("pk", flat=True).first(),
        "deleting": record.intent == Intent.DELETE,
        "back": list_query(request),
    }
