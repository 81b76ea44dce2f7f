"""The three sides of a conflict as the API shows them."""

from typing import Any

from syncportal.remote.spec import spec_for
from syncportal.sync.conflicts import three_way
from syncportal.sync.models import Conflict
from syncportal.sync.resolve import field_views


def shown_revision(conflict: Conflict) -> int:
    """Return the record's revision while the conflict is open, else the one it was about."""
    return conflict.record.revision if conflict.state == Conflict.State.OPEN else conflict.revision


def shown_fields(conflict: Conflict) -> list[dict[str, Any]]:
    """Return every field with base, local, remote and whether it is in conflict."""
    spec = spec_for(conflict.resource)
    if conflict.state == Conflict.State.OPEN and conflict.record.revision != conflict.revision:
        # The record was changed past us; whoever decides must see what is there now.
        conflict.local = conflict.record.data
        if conflict.remote is not None:
            merge = three_way(conflict.base, conflict.local, conflict.remote, comparator=spec.comparator)
            conflict.fields = list(merge.conflicts)
    return [
        {
            "pointer": view.pointer,
            "base": view.base,
            "local": view.local,
            "remote": view.remote,
            "inConflict": view.in_conflict,
        }
        for view in field_views(conflict, spec)
    ]
