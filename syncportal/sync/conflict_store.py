"""The only writer of Conflict: opening, renewing and closing the row a person decides on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from syncportal.kernel.bulk import read_rows, update_rows
from syncportal.sync.claims import Json
from syncportal.sync.models import Conflict


@dataclass(frozen=True, slots=True)
class Opening:
    """What a conflict row starts with. remote None: the object is gone there."""

    record_id: int
    resource_id: int
    reason: str
    base: Json | None
    local: Json
    remote: Json | None
    fields: tuple[str, ...]
    revision: int
    remote_version: str | None


def open_or_renew(openings: Sequence[Opening], *, now: datetime) -> dict[int, int]:
    """Open conflicts, or renew the records' open ones with newer values; return their ids, by record.

    The records are locked by the caller, which is what keeps others out; each is named once.
    """
    open_now = Conflict.objects.open().filter(record_id__in=[opening.record_id for opening in openings])
    known = dict(open_now.values_list("record_id", "pk"))
    renewed = [opening for opening in openings if opening.record_id in known]
    update_rows(Conflict, [{"pk": known[one.record_id], **_values(one, now=now)} for one in renewed])
    fresh = [opening for opening in openings if opening.record_id not in known]
    made = Conflict.objects.bulk_create(
        Conflict(record_id=one.record_id, resource_id=one.resource_id, created_at=now, **_values(one, now=now))
        for one in fresh
    )
    return known | {row.record_id: row.pk for row in made}


def _values(opening: Opening, *, now: datetime) -> dict[str, Any]:
    return {
        "reason": opening.reason,
        "base": opening.base,
        "local": opening.local,
        "remote": opening.remote,
        "fields": list(opening.fields),
        "revision": opening.revision,
        "remote_version": opening.remote_version,
        "remote_seen_at": now,
        "updated_at": now,
    }


def open_of(record_ids: Sequence[int]) -> dict[int, Conflict]:
    """Return the open conflicts of some records, by record."""
    found = [pk for (pk,) in read_rows(Conflict, record_ids, ("pk",), by="record", where="t.state = 'open'")]
    return {row.record_id: row for row in Conflict.objects.filter(pk__in=found)} if found else {}


def refresh_local(
    record_id: int, *, local: Json, revision: int, fields: Sequence[str], reason: str, now: datetime
) -> None:
    """Take the local side of an open conflict from the record that was just edited."""
    Conflict.objects.open().filter(record_id=record_id).update(
        local=local, revision=revision, fields=list(fields), reason=reason, updated_at=now
    )


def close(
    conflict_id: int,
    *,
    resolution: str,
    choices: dict[str, Any],
    user_id: int | None,
    now: datetime,
    local: Json | None = None,
) -> bool:
    """Resolve an open conflict; False when somebody else already did. The rejected values stay on the row.

    local: the content that was decided about, when the row may hold an older one.
    """
    changes: dict[str, Any] = {} if local is None else {"local": local}
    return bool(
        Conflict.objects.open()
        .filter(pk=conflict_id)
        .update(
            state=Conflict.State.RESOLVED,
            resolution=resolution,
            choices=choices,
            resolved_by_id=user_id,
            resolved_at=now,
            updated_at=now,
            **changes,
        )
    )


def mark_notified(conflict_ids: Sequence[int], *, now: datetime) -> None:
    """Note that the owners of these conflicts were told."""
    Conflict.objects.filter(pk__in=conflict_ids, notified_at__isnull=True).update(notified_at=now)


def mark_escalated(conflict_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Hand open conflicts to operations; return those that were not with them already."""
    rows = Conflict.objects.open().filter(pk__in=conflict_ids, escalated_at__isnull=True)
    ids = list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
    Conflict.objects.filter(pk__in=ids).update(escalated_at=now)
    return ids


def owner_changed(record_ids: Sequence[int]) -> None:
    """Forget that an owner was told about the open conflicts of these records: there is a new one."""
    Conflict.objects.open().filter(record_id__in=record_ids).update(notified_at=None)
