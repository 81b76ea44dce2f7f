"""The only writer of Record.

Owns how a record's row is inserted and changed: the revision that grows with every change of
`data`, the content hash that tells our writes from others', and how `base` advances. The flows
(saving, settling, reading, resolving) compute new states and hand them over here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

from django.db import connection
from django.db.models import F, Func, JSONField, Q, QuerySet, TextField, Value
from django.db.models.functions import MD5, Cast

from syncportal.kernel import pointer
from syncportal.kernel.bulk import read_rows, update_rows
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.claims import Json
from syncportal.sync.conflicts import Merge, rules_of, three_way
from syncportal.sync.models import Record
from syncportal.sync.states import Intent

_TITLE_FIELDS = ("name", "title", "label", "display_name", "displayName", "subject", "code", "email")
_COLUMNS = (
    "id", "resource_id", "external_id", "data", "base", "version", "revision", "intent", "owner_id", "deleted_at",
)  # fmt: skip


class _ContentHash(Func):
    """MD5 of a document's stored text, so that the database can compare it without us."""

    output_field = TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return super().as_sql(compiler, connection, template="MD5((%(expressions)s)::text)", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return super().as_sql(compiler, connection, template="MD5(%(expressions)s)", **context)


@dataclass(frozen=True, slots=True)
class RecordState:
    """A record's content at one moment; flows derive the next one with `dataclasses.replace`."""

    id: int
    resource_id: int
    external_id: str | None
    data: Json
    base: Json | None
    version: str | None
    revision: int
    intent: str
    owner_id: int | None
    deleted_at: datetime | None
    synced_at: datetime | None = None

    def with_data(self, data: Json) -> "RecordState":
        """Return the state with other content: one revision more when it really differs."""
        return self if data == self.data else replace(self, data=data, revision=self.revision + 1)

    def counted(self) -> "RecordState":
        """Return the state one revision on."""
        return replace(self, revision=self.revision + 1)


def title_of(data: Json, external_id: str | None) -> str:
    """Return what lists call the record: its first telling field, else its id."""
    for name in _TITLE_FIELDS:
        value = data.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()[:200]
    return (external_id or "")[:200]


def lock(record_ids: Iterable[int]) -> dict[int, RecordState]:
    """Lock the rows in ascending id (record before job, everywhere) and return their states."""
    return {row[0]: RecordState(*row) for row in read_rows(Record, record_ids, _COLUMNS, lock=True)}


def lock_objects(external_ids: Mapping[int, Iterable[str]]) -> dict[int, RecordState]:
    """Lock the rows of remote objects in ascending id and return the states of those that are known.

    external_ids: by resource id.
    """
    wanted = [Q(resource_id=resource_id, external_id__in=list(ids)) for resource_id, ids in external_ids.items()]
    rows = Record.objects.filter(reduce(or_, wanted)).order_by("pk").select_for_update(no_key=True)
    return {row[0]: RecordState(*row) for row in rows.values_list(*_COLUMNS)}


def lock_revisions(record_ids: Iterable[int]) -> tuple[dict[int, int], list[int]]:
    """Lock the rows in ascending id; return their revisions, and those whose data was changed past us.

    The cheap look before settling: one statement, and no content is read.
    """
    rows = Record.objects.filter(pk__in=list(record_ids)).order_by("pk").select_for_update(no_key=True)
    hashed = rows.annotate(now_hash=MD5(Cast("data", TextField())))
    found = list(hashed.values_list("pk", "revision", "content_hash", "now_hash", "deleted_at"))
    dirty = [pk for pk, _, known, now, deleted_at in found if known != now and deleted_at is None]
    return {pk: revision for pk, revision, *_ in found}, dirty


def states_of(record_ids: Iterable[int]) -> dict[int, RecordState]:
    """Return the states of rows that are locked already."""
    return {row[0]: RecordState(*row) for row in read_rows(Record, record_ids, _COLUMNS)}


def versions_of(record_ids: Iterable[int]) -> dict[int, str | None]:
    """Return the known versions of some records."""
    return dict(Record.objects.filter(pk__in=list(record_ids)).values_list("pk", "version"))


def write(states: Sequence[RecordState], *, now: datetime) -> None:
    """Store new states of locked rows in one statement."""
    hashed = "MD5((v.data::jsonb)::text)" if connection.vendor == "postgresql" else "MD5(v.data)"
    update_rows(
        Record,
        [
            {
                "pk": state.id,
                "external_id": state.external_id,
                "title": title_of(state.data, state.external_id),
                "data": state.data,
                "base": state.base,
                "version": state.version,
                "revision": state.revision,
                "intent": state.intent,
                "deleted_at": state.deleted_at,
                "synced_at": state.synced_at,
                "updated_at": now,
            }
            for state in states
        ],
        computed={"content_hash": hashed, "synced_at": "COALESCE(v.synced_at, t.synced_at)"},
    )


def insert(states: Sequence[RecordState], *, now: datetime) -> list[int]:
    """Insert rows for states (their `id` is ignored) and return the new ids in order."""
    made = Record.objects.bulk_create(
        [
            Record(
                resource_id=state.resource_id,
                external_id=state.external_id,
                title=title_of(state.data, state.external_id),
                data=state.data,
                base=state.base,
                version=state.version,
                revision=state.revision,
                intent=state.intent,
                owner_id=state.owner_id,
                content_hash=_ContentHash(Value(state.data, output_field=JSONField())),
                synced_at=state.synced_at,
                deleted_at=state.deleted_at,
                created_at=now,
                updated_at=now,
            )
            for state in states
        ],
        batch_size=500,
    )
    return [record.pk for record in made]


def remove(record_id: int) -> None:
    """Delete a row that turned out to be a second copy of another record's object."""
    Record.objects.filter(pk=record_id).delete()


def assign(record_ids: Iterable[int], *, owner_id: int | None, now: datetime) -> int:
    """Give records to another owner (None: nobody) and return how many changed hands."""
    rows = Record.objects.filter(pk__in=list(record_ids)).exclude(owner_id=owner_id)
    if owner_id is None:
        rows = Record.objects.filter(pk__in=list(record_ids), owner_id__isnull=False)
    return rows.update(owner_id=owner_id, updated_at=now)


def note_history_removed(record_ids: Iterable[int], *, now: datetime) -> None:
    """Note that older entries of these records' histories are gone."""
    known = lock_revisions(record_ids)[0]
    Record.objects.filter(pk__in=known).update(history_removed_at=now)


def dirty_ids(*, after: int, limit: int) -> tuple[list[int], int | None]:
    """Return records whose data was changed past us among the next `limit` ids, and where to go on (None: at the end).

    The database compares hashes; nothing is read into memory.
    """
    window = list(Record.objects.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:limit])
    if not window:
        return [], None
    changed = _dirty(Record.objects.filter(pk__gte=window[0], pk__lte=window[-1]))
    return changed, window[-1] if len(window) == limit else None


def dirty_among(record_ids: Iterable[int]) -> list[int]:
    """Return those of the records whose data was changed past us."""
    return _dirty(Record.objects.filter(pk__in=list(record_ids)))


def _dirty(rows: QuerySet[Record]) -> list[int]:
    hashed = rows.filter(deleted_at__isnull=True).annotate(now_hash=MD5(Cast("data", TextField())))
    return list(hashed.exclude(content_hash=F("now_hash")).values_list("pk", flat=True))


def bump_dirty(record_ids: Sequence[int], *, now: datetime) -> None:
    """Count a change that bypassed us as a revision of its own, and remember its content."""
    Record.objects.filter(pk__in=record_ids).update(
        revision=F("revision") + 1, content_hash=MD5(Cast("data", TextField())), updated_at=now
    )


def remember_content(record_ids: Sequence[int]) -> None:
    """Take the rows' present content as known, without counting it as a change."""
    Record.objects.filter(pk__in=record_ids).update(content_hash=MD5(Cast("data", TextField())))


def reborn(state: RecordState, *, spec: ResourceSpec) -> RecordState:
    """Return the state of a record whose object is gone and shall be made anew (new id if the remote chooses it)."""
    unborn = replace(state, base=None, version=None, intent=Intent.CREATE)
    if spec.create_id == "client":
        return unborn
    data = state.data
    for at in spec.id_pointers:
        data = pointer.remove(data, at)
    return replace(unborn.with_data(data), external_id=None)


def advance(
    state: RecordState, *, base: Json | None, remote: RemoteObject, spec: ResourceSpec
) -> tuple[RecordState, Merge]:
    """Move a record's base to content read from the remote, keeping what is only local.

    base: the merge base (the content sent if the remote confirmed it, else the old base or what
    counts as such). Returns the new state and the merge; the caller decides about its conflicts.
    """
    merge = three_way(base, state.data, remote.data, comparator=spec.comparator, policy=rules_of(spec.policy))
    moved = replace(
        state.with_data(merge.data),
        base=remote.data,
        version=remote.version,
        external_id=state.external_id or remote.external_id,
        intent=Intent.UPDATE if state.intent == Intent.CREATE else state.intent,
    )
    return moved, merge
