"""Takes in changes of records that were made past us: bulk updates, SQL.

Owns what such a find means: one revision more, the job armed, an open conflict brought up to date, an event. Guarantees
that whoever writes a record afterwards sees a change that was made here. Called inside the caller's transaction.
"""

from collections.abc import Iterable
from datetime import datetime

from syncportal.remote.spec import spec_for
from syncportal.sync import events, records, transitions
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.events import WORKER, Fact, Kind
from syncportal.sync.models import Record
from syncportal.sync.open_conflicts import follow_edits


def take_in(record_ids: Iterable[int], *, now: datetime) -> set[int]:
    """Arm those of the records whose content is not what our last writer left, and return them.

    Content that agrees with the base is only remembered; a running job is not armed, its revision moves.
    """
    found = records.dirty_among(record_ids)
    if not found:
        return set()
    locked = records.lock(found)
    rows = Record.objects.select_related("resource__remote").filter(pk__in=locked)
    changed, specs = [], {}
    for record in rows:
        specs[record.resource_id] = spec = spec_for(record.resource)
        if record.base is not None and not unsent_changes(record.base, record.data, comparator=spec.comparator):
            records.remember_content([record.pk])
        else:
            changed.append(locked[record.pk].counted())
    ids = [state.id for state in changed]
    records.bump_dirty(ids, now=now)
    transitions.arm(ids, now=now)
    follow_edits(changed, specs=specs, actor=WORKER, now=now)
    facts = [Fact(Kind.RECORD_FOUND_DIRTY, s.id, s.resource_id, data={"revision": s.revision}) for s in changed]
    events.write(facts, now=now)
    return set(ids)
