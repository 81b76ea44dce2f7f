"""Confirming what no single read can: two objects under one id, and rows that are no objects. HTTP only.

Both are confirmed by reading the pages again that showed them: a row that only moved or changed between two pages shows
one content the second time.
"""

from django.conf import settings

from reconciliation.models import Suspect
from reconciliation.reading import Reading
from reconciliation.states import Kind
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Rejected, RemoteError
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.payloads import Page


def seen_again(client: ResourceClient, suspect: Suspect) -> Reading | None:
    """Look at a suspect's pages again; None when a single read has to tell instead."""
    deadline = Deadline(settings.CALL_TOTAL_S)
    try:
        pages = [client.list_page(cursor or None, deadline=deadline) for cursor in suspect.pages]
    except Rejected:  # its cursors have expired
        return None if suspect.external_id else Reading("")
    except RemoteError as error:
        return Reading(suspect.external_id, error=error) if error.transient or not suspect.external_id else None
    if suspect.kind == Kind.DUPLICATE_KEY:
        return _duplicate(client, suspect.external_id, pages)
    problems = [problem for page in pages for problem in page.problems]
    return Reading(suspect.external_id, detail="; ".join(problems[:5]))


def _duplicate(client: ResourceClient, external_id: str, pages: list[Page]) -> Reading | None:
    shown = [row for page in pages for row in page.objects if row.external_id == external_id and not row.tombstone]
    contents = {client.spec.comparator.digest(row.data) for row in shown}
    if len(contents) < 2:
        return None
    detail = f"The list shows {len(contents)} different objects under this id."
    return Reading(external_id, shown[0], duplicate=True, detail=detail)
