"""Reads one object again and applies what it says, if nothing moved here meanwhile.

The status stays; a change on both sides becomes a conflict; what was in doubt is settled. Bulk
wishes are marked on the jobs and worked off by the background task in slices.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial

import structlog
from django.conf import settings

from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote import versions
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Misconfiguration, Missing, RemoteError
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.models import Resource
from syncportal.remote.payloads import ReadResult, RemoteObject
from syncportal.remote.spec import RemoteSpec, ResourceSpec
from syncportal.sync import bypassed, call_reports, events, open_conflicts, records, transitions
from syncportal.sync.call_reports import Called
from syncportal.sync.claims import Json, Logged, Send
from syncportal.sync.conflicts import Merge, own_traces
from syncportal.sync.decisions import still_open
from syncportal.sync.disputes import Dispute, because, dispute
from syncportal.sync.events import WORKER, Actor, AttemptLog, Fact, Kind
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.slots import NoSlot, slots
from syncportal.sync.states import Intent, Status
from syncportal.sync.tasks import DRAIN
from syncportal.sync.validation import check_answer

log = structlog.get_logger(__name__)

SLICE_S = 5.0


class Refreshed(StrEnum):
    """What a refresh came to."""

    UPDATED = "updated"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"
    BUSY = "busy"
    MOVED = "moved"
    INVALID = "invalid"
    FAILED = "failed"
    NOT_SENT_YET = "not_sent_yet"


@dataclass(frozen=True, slots=True)
class Before:
    """What the row was before the request went out; a read is applied only if it still is."""

    record_id: int
    external_id: str | None
    revision: int
    version: str | None
    claim_no: int
    status: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What the remote said. shown None: the object is gone, confirmed by a second read."""

    before: Before
    shown: ReadResult | None = None
    error: RemoteError | None = None
    invalid: str = ""
    exchanges: tuple[Logged, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one refresh, with a sentence for people."""

    record_id: int
    outcome: Refreshed
    detail: str = ""


def refresh(record_id: int, *, resource: Resource, actor: Actor) -> Result:
    """Read one object now and apply it; raises Misconfiguration when the remote cannot be called."""
    assert_outside_transaction()
    before = _before([record_id])
    if not before:
        return Result(record_id, Refreshed.BUSY, "The record is being sent or held right now; try again in a moment.")
    if before[0].external_id is None:
        return Result(record_id, Refreshed.NOT_SENT_YET, "The record was never sent, so there is nothing to read.")
    try:
        client = call_reports.signed_in(resource)
        with slots(client.spec.remote, client, want=1):
            reading = _read(client, before[0])
    except NoSlot as refused:
        return Result(record_id, Refreshed.FAILED, str(refused))
    except RemoteError as error:
        return Result(record_id, Refreshed.FAILED, f"Signing in at the remote failed: {error.detail}")
    _report(client.spec.remote, [reading])
    return atomic_retry(partial(_apply_now, reading, client.spec, actor=actor))


def refresh_requested(*, limit: int = 100, threads: int = 8, seconds: float = SLICE_S) -> int:
    """Work off marked wishes for about `seconds` a resource and return how many; those of a blocked remote wait."""
    assert_outside_transaction()
    wanted = SyncJob.objects.filter(refresh_requested_at__isnull=False).order_by("refresh_requested_at")
    rows = list(wanted.values_list("pk", "record__resource_id")[:limit])
    resources = Resource.objects.select_related("remote").in_bulk({resource_id for _, resource_id in rows})
    done = 0
    for resource_id, resource in resources.items():
        ids = [pk for pk, of in rows if of == resource_id]
        try:
            done += _refresh_slice(resource, ids, threads=threads, until=time.monotonic() + seconds)
        except (Misconfiguration, RemoteError) as error:
            log.warning("refresh.impossible", resource=resource.slug, detail=error.detail)
            if not (isinstance(error, RemoteError) and error.transient):
                transitions.refresh_done(ids)
    return done


def _refresh_slice(resource: Resource, record_ids: Sequence[int], *, threads: int, until: float) -> int:
    """Read as many at once as slots and rate allow, again and again until all are done or the time is up."""
    ready = [before for before in _before(record_ids) if before.external_id is not None]
    unfit = set(record_ids) - {before.record_id for before in ready}
    client = call_reports.signed_in(resource)
    transitions.refresh_done(unfit)
    done = len(unfit)
    while ready and time.monotonic() < until:
        want = min(threads, len(ready))
        try:
            with slots(client.spec.remote, client, want=want) as granted, ThreadPoolExecutor(granted) as pool:
                readings = list(pool.map(lambda before: _read(client, before), ready[:granted]))
        except NoSlot:
            break
        _report(client.spec.remote, readings)
        for reading in readings:
            atomic_retry(partial(_apply_now, reading, client.spec, actor=WORKER))
        transitions.refresh_done(reading.before.record_id for reading in readings)
        ready, done = ready[granted:], done + len(readings)
    return done


def _report(remote: RemoteSpec, readings: Sequence[Reading]) -> None:
    """Tell the breaker how reads went: an outage that only reads meet must be seen as well."""
    errors = [(one.before.record_id, one.error) for one in readings]
    call_reports.report(
        [Called(remote, pk, error.kind.value, error.detail) if error else Called(remote, pk) for pk, error in errors],
        now=db_now(),
    )


def _before(record_ids: Sequence[int]) -> list[Before]:
    rows = SyncJob.objects.filter(pk__in=record_ids, held_by="").exclude(status=Status.PROCESSING)
    fields = ("pk", "record__external_id", "record__revision", "record__version", "claim_no", "status")
    return [Before(*row) for row in rows.values_list(*fields)]


def _read(client: ResourceClient, before: Before) -> Reading:
    """Read and validate; HTTP only. A missing object and an older version are looked at twice."""
    deadline = Deadline(settings.CALL_TOTAL_S)
    exchanges: list[Logged] = []
    target = before.external_id or ""
    missing = False
    for again in (False, True):
        try:
            shown = client.read(target, purpose="reread" if again else "refresh", deadline=deadline)
        except Missing as error:
            if error.exchange:
                exchanges.append(Logged(error.exchange))
            if missing:
                return Reading(before, exchanges=tuple(exchanges))
            missing = True
            continue
        except RemoteError as error:
            if error.exchange:
                exchanges.append(Logged(error.exchange))
            return Reading(before, error=error, exchanges=tuple(exchanges))
        report = check_answer(
            shown.answer, shown.object, spec=client.spec, expected_id=target, known_version=before.version
        )
        exchanges.append(Logged(shown.answer.exchange, report.verdicts))
        failed = report.failed
        if failed is None or (failed.code == "older" and again):
            return Reading(before, shown=shown, exchanges=tuple(exchanges))
        if failed.code not in {"older", "checksum"} or again:
            return Reading(before, invalid=failed.detail, exchanges=tuple(exchanges))
    detail = "The remote shows the object only now and then."
    return Reading(before, invalid=detail, exchanges=tuple(exchanges))


def _apply_now(reading: Reading, spec: ResourceSpec, *, actor: Actor) -> Result:
    return _apply(reading, spec, actor=actor, now=db_now())


def _apply(reading: Reading, spec: ResourceSpec, *, actor: Actor, now: datetime) -> Result:
    before = reading.before
    records.lock([before.record_id])
    if bypassed.take_in([before.record_id], now=now):
        doorbell.ring(DRAIN)
    state = records.states_of([before.record_id]).get(before.record_id)
    job = SyncJob.objects.select_for_update().filter(pk=before.record_id).first()
    if state is None or job is None:
        return Result(before.record_id, Refreshed.MOVED, "The record does not exist any more.")
    result = _judge(reading, state, job, spec, now=now)
    _keep_log(reading, state, job, result)
    if result.outcome in {Refreshed.UPDATED, Refreshed.CONFLICT}:
        data = {"outcome": result.outcome.value, "detail": result.detail}
        fact = Fact(Kind.RECORD_REFRESHED, state.id, state.resource_id, job.remote_id, actor=actor, data=data)
        events.write([fact], now=now)
    return result


def _judge(reading: Reading, state: RecordState, job: SyncJob, spec: ResourceSpec, *, now: datetime) -> Result:
    before = reading.before
    if (state.revision, state.version, job.claim_no) != (before.revision, before.version, before.claim_no):
        return Result(state.id, Refreshed.MOVED, "The record changed while the remote was asked; nothing was applied.")
    if job.held_by or job.status == Status.PROCESSING:
        return Result(state.id, Refreshed.BUSY, "The record is being sent or held right now.")
    if reading.error is not None:
        return Result(state.id, Refreshed.FAILED, reading.error.detail)
    if reading.invalid:
        return Result(state.id, Refreshed.INVALID, reading.invalid)
    if reading.shown is None and (state.base is None or state.intent == Intent.DELETE):
        return Result(state.id, Refreshed.UNCHANGED, "The remote has no such object, and none is expected there.")
    if reading.shown is None:
        return _conflict(state, None, because(Conflict.Reason.DELETED_REMOTE), base=state.base, now=now)
    return _take(state, job, reading.shown.object, spec, now=now)


def _take(state: RecordState, job: SyncJob, shown: RemoteObject, spec: ResourceSpec, *, now: datetime) -> Result:
    """Apply an object read: by version first, then field by field."""
    sends = [Send.from_json(stored) for stored in job.sends]
    base = own_traces(state.base, (send.content for send in sends), shown.data, comparator=spec.comparator)
    moved, merge = records.advance(state, base=base, remote=shown, spec=spec)
    found = _dispute(state, job, moved, merge, shown, spec)
    if found is not None:
        return _conflict(state, shown, found, base=base, now=now)
    if job.in_doubt and not still_open(sends, shown.version, spec=spec, now=now):
        transitions.settle_doubt(state.id, now=now)
    if (moved.data, moved.base, moved.version) == (state.data, state.base, state.version):
        return Result(state.id, Refreshed.UNCHANGED, "Both sides agree on what was read.")
    records.write([moved], now=now)
    return Result(
        state.id, Refreshed.UPDATED, f"Taken from the remote: {', '.join(merge.remote_changes) or 'version'}."
    )


def _dispute(
    state: RecordState, job: SyncJob, moved: RecordState, merge: Merge, shown: RemoteObject, spec: ResourceSpec
) -> Dispute | None:
    """Return why a person must look; an open conflict is only renewed, whatever the read says."""
    relation = versions.compare(state.version, shown.version) if state.version and shown.version else ""
    if job.status == Status.VERSION_CONFLICT:
        reason = Conflict.objects.open().filter(record_id=state.id).values_list("reason", flat=True).first()
        if reason is None or reason == Conflict.Reason.DELETED_REMOTE:  # it is there again
            reason = Conflict.Reason.CONCURRENT_EDIT
        return because(reason, merge.conflicts)
    if relation == "older":
        return because(Conflict.Reason.STALE_REMOTE, merge.conflicts)
    found = dispute(state, moved, merge, shown=shown, spec=spec)
    if relation == "equal" and merge.remote_changes and state.intent != Intent.DELETE:
        return because(Conflict.Reason.VERSION_REUSE, merge.conflicts or merge.remote_changes)
    return found


def _conflict(
    state: RecordState, shown: RemoteObject | None, found: Dispute, *, base: Json | None, now: datetime
) -> Result:
    """Open the conflict, or renew the remote side of the open one."""
    open_conflicts.ask(state, shown, found.reason, base=base, fields=found.fields, detail=found.detail, now=now)
    return Result(state.id, Refreshed.CONFLICT, found.detail)


def _keep_log(reading: Reading, state: RecordState, job: SyncJob, result: Result) -> None:
    code = reading.error.code if reading.error else ""
    entry = AttemptLog(
        record_id=state.id,
        resource_id=state.resource_id,
        claim_no=job.claim_no,
        attempt=0,
        outcome=f"refresh_{result.outcome.value}"[:20],
        error_code=code,
        exchanges=reading.exchanges,
    )
    events.write_logs([entry])
