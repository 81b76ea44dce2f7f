"""Reading our side: rows in the byte order of their external ids, in pages, without model instances. Never writes.

Guarantees: ids are ordered by their UTF-8 bytes on both databases; a row in flight, in doubt, held, in conflict or
younger than the lag says that it is busy, and is not judged.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.db.models.functions import Collate

from reconciliation.models import SpooledRow
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.states import IN_FLIGHT, Status

MOST_CREATES = 500
_NOT_JUDGED = sorted(IN_FLIGHT | {Status.VERSION_CONFLICT})


class LocalRow(NamedTuple):
    """One record as comparing needs it."""

    external_id: str
    record_id: int
    version: str | None
    data: dict[str, Any]
    busy: bool


class Spooled(NamedTuple):
    """One row of a list that came out of order."""

    external_id: str
    digest: str
    version: str | None
    page: str


class Snapshot(NamedTuple):
    """A record before its object is read; a difference counts only if nothing of this moved meanwhile."""

    external_id: str
    record_id: int
    revision: int
    version: str | None
    claim_no: int
    status: str
    busy: bool


def bytewise(field: str) -> Any:
    """Return an expression that orders and compares a text column by its bytes."""
    return Collate(field, "C") if connection.vendor == "postgresql" else F(field)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Since when nothing may have happened to a record for it to be judged.

    asked_at: when the remote was asked; a record that changed since is not what was compared. sent_before: what we
    wrote to the remote later than that may not be visible everywhere yet (the resource's lag).
    """

    asked_at: datetime
    sent_before: datetime

    @classmethod
    def at(cls, asked_at: datetime, *, lag_s: float) -> "Quiet":
        """Return the limits for an answer that was asked for at a time."""
        return cls(asked_at, asked_at - timedelta(seconds=lag_s))


def _busy(quiet: Quiet) -> ExpressionWrapper:
    """Return whether a record is not to be judged. A job that was only inserted has sent nothing yet."""
    used = Q(job__claim_no__gt=0) | Q(job__updated_at__gt=F("created_at"))
    moving = (
        Q(job__status__in=_NOT_JUDGED)
        | Q(job__in_doubt=True)
        | ~Q(job__held_by="")
        | Q(updated_at__gte=quiet.asked_at)
        | Q(job__updated_at__gte=quiet.asked_at)
        | (Q(job__updated_at__gte=quiet.sent_before) & used)
    )
    return ExpressionWrapper(moving, output_field=BooleanField())


def between(resource_id: int, *, after: str, upto: str | None, limit: int, quiet: Quiet) -> list[LocalRow]:
    """Return records whose ids lie in (after, upto], in order; upto None: to the end."""
    rows = Record.objects.filter(resource_id=resource_id, external_id__isnull=False, deleted_at__isnull=True)
    rows = rows.annotate(key=bytewise("external_id")).filter(key__gt=after)
    if upto is not None:
        rows = rows.filter(key__lte=upto)
    return _rows(rows.order_by("key"), quiet=quiet, limit=limit)


def named(resource_id: int, external_ids: Iterable[str], *, quiet: Quiet) -> dict[str, LocalRow]:
    """Return the records with these ids, by id."""
    rows = Record.objects.filter(resource_id=resource_id, external_id__in=list(external_ids), deleted_at__isnull=True)
    return {row.external_id: row for row in _rows(rows, quiet=quiet)}


def behind(
    resource_id: int, *, after_id: int, limit: int, quiet: Quiet, record_ids: Iterable[int] | None = None
) -> list[LocalRow]:
    """Return records with own ids behind `after_id`, for reading each at the remote; record_ids: only among these."""
    rows = Record.objects.filter(
        resource_id=resource_id, external_id__isnull=False, deleted_at__isnull=True, pk__gt=after_id
    )
    if record_ids is not None:
        rows = rows.filter(pk__in=list(record_ids))
    return _rows(rows.order_by("pk"), quiet=quiet, limit=limit)


def _rows(rows: QuerySet[Record], *, quiet: Quiet, limit: int | None = None) -> list[LocalRow]:
    moving = rows.annotate(moving=_busy(quiet))
    return [LocalRow._make(row) for row in moving.values_list("external_id", "pk", "version", "data", "moving")[:limit]]


def snapshots(resource_id: int, external_ids: Iterable[str], *, quiet: Quiet) -> dict[str, Snapshot]:
    """Return the records with these ids as they stand now, deleted ones too, by id."""
    rows = Record.objects.filter(resource_id=resource_id, external_id__in=list(external_ids))
    fields = ("external_id", "pk", "revision", "version", "job__claim_no", "job__status", "moving")
    found = rows.annotate(moving=_busy(quiet)).values_list(*fields)
    return {row[0]: Snapshot._make(row) for row in found if row[0] is not None}


def unborn(resource_id: int) -> list[dict[str, Any]] | None:
    """Return the contents of creates whose ids are not known yet and that may have arrived; None: too many to tell."""
    jobs = SyncJob.objects.filter(record__resource_id=resource_id, record__external_id__isnull=True)
    sent = jobs.filter(Q(status=Status.PROCESSING) | Q(in_doubt=True)).values_list("sends", flat=True)
    found = list(sent[: MOST_CREATES + 1])
    if len(found) > MOST_CREATES:
        return None
    return [send["content"] for sends in found for send in sends if send.get("content") is not None]


def spooled(run_id: int, *, after: str, limit: int) -> list[Spooled]:
    """Return rows that came out of order, now in order, behind `after`; never only some of the rows of one id.

    One id has few rows: each differs in content.
    """
    rows = SpooledRow.objects.filter(run_id=run_id).annotate(key=bytewise("external_id")).filter(key__gt=after)
    fields = ("external_id", "digest", "version", "page")
    found = [Spooled._make(row) for row in rows.order_by("key", "pk").values_list(*fields)[:limit]]
    if len(found) == limit and found[0].external_id != found[-1].external_id:
        last = found[-1].external_id
        found = [row for row in found if row.external_id != last]
    return found
