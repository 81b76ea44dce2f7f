"""Carrying a repair out: the object is read once more, and both sides must be exactly what was found.

Owns: one repair on demand, and the background work for repairs asked for in bulk or by applying a plan. Guarantees: a
record or object that moved since the finding is left alone and says so; of two who repair, save or resolve at once one
wins. Does not: choose a direction.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.contrib.auth import get_user_model
from django.db import IntegrityError

from reconciliation import diff, findings, local_side
from reconciliation.models import Discrepancy
from reconciliation.pace import Pace
from reconciliation.reading import Reading, in_threads, read
from reconciliation.repairs import directions_of
from reconciliation.states import UNSETTLED, Direction, Kind, State
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.gateway import ResourceClient, client_for
from syncportal.remote.models import Resource
from syncportal.sync import records, repair
from syncportal.sync.events import Actor
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.repair import Repair
from syncportal.sync.slots import NoSlot

log = structlog.get_logger(__name__)

BATCH = 200
THREADS = 8
PAUSE_S = 30.0
ALREADY, WRONG_WAY, BUSY, MOVED, UNREADABLE = "already_settled", "not_possible", "record_busy", "moved", "unreadable"
WITHDRAWN = "withdrawn"


class NotFixed(Exception):
    """The repair did not happen and nothing was changed. `code` is stable, the message says what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Wish:
    """One repair that somebody wants. stored: it waited in its row, where it may have been taken back since."""

    row: Discrepancy
    direction: str
    actor: Actor
    stored: bool = False


def fix(discrepancy_id: int, *, direction: str, actor: Actor) -> Discrepancy:
    """Repair one discrepancy now and return it; raises NotFixed, or NoSlot when the remote may not be called."""
    assert_outside_transaction()
    row = Discrepancy.objects.select_related("resource__remote").get(pk=discrepancy_id)
    wish = _Wish(row, direction, actor)
    _refuse_hopeless(wish)
    client = client_for(row.resource)
    with Pace(client.spec.remote, client, want=1) as pace:
        pace.calls(1)
        reading = read(client, row.external_id, version=row.local_version)
        pace.heard(reading.error, record_id=row.record_id)
    _settle(wish, reading, client)
    return Discrepancy.objects.select_related("resource", "record").get(pk=discrepancy_id)


def _refuse_hopeless(wish: _Wish) -> None:
    row = wish.row
    if row.state not in UNSETTLED:
        raise NotFixed(ALREADY, f"It is {State(row.state).label.lower()} already; nothing was changed.")
    if wish.direction not in directions_of(row):
        raise NotFixed(WRONG_WAY, f"{Kind(row.kind).label} cannot be repaired this way.")


def _settle(wish: _Wish, reading: Reading, client: ResourceClient) -> None:
    try:
        atomic_retry(partial(_carry_out, wish, reading, client))
    except IntegrityError:
        raise NotFixed(MOVED, "Somebody made the record at the same moment; look at it again.") from None


def _carry_out(wish: _Wish, reading: Reading, client: ResourceClient) -> None:
    """Repair under the locks of record, job and discrepancy, in that order."""
    now = db_now()
    known = Record.objects.filter(resource_id=wish.row.resource_id, external_id=wish.row.external_id)
    state = next(iter(records.lock(known.values_list("pk", flat=True)).values()), None)
    job = SyncJob.objects.select_for_update().filter(pk=state.id).first() if state else None
    row = Discrepancy.objects.select_for_update(of=("self",)).get(pk=wish.row.pk)
    _refuse_hopeless(replace(wish, row=row))
    if wish.stored and row.wanted != wish.direction:
        raise NotFixed(WITHDRAWN, "The repair is not wanted any more; nothing was changed.")
    _refuse_moved_here(row, state, job)
    if reading.unreadable:
        raise NotFixed(UNREADABLE, f"The remote cannot be read: {reading.unreadable}")
    _refuse_moved_there(row, reading, client)
    if state is None and reading.shown is not None:
        unborn = local_side.unborn(row.resource_id)
        if unborn is None or any(diff.could_be(sent, reading.shown.data, spec=client.spec) for sent in unborn):
            raise NotFixed(BUSY, "A create of ours is under way that may have made this object; try again later.")
    about = f"discrepancy {row.pk}"
    repair.carry_out(
        [Repair(wish.direction, state, reading.shown, about=about)],
        resource=wish.row.resource, spec=client.spec, actor=wish.actor, now=now,
    )  # fmt: skip
    outcome = f"{Direction(wish.direction).label}: done."
    findings.fix([row.pk], outcome=outcome, user_id=wish.actor.user_id, now=now)


def _refuse_moved_here(row: Discrepancy, state: RecordState | None, job: SyncJob | None) -> None:
    busy = repair.untouchable(job)
    if busy:
        raise NotFixed(BUSY, f"The record cannot be repaired now: {busy}.")
    here = (state.revision, state.version, job.status) if state and job else (None, None, "")
    if here != (row.revision, row.local_version, row.status):
        raise NotFixed(MOVED, "The record changed since it was found; nothing was done. Compare it again.")


def _refuse_moved_there(row: Discrepancy, reading: Reading, client: ResourceClient) -> None:
    shown = reading.shown
    there = (shown.version, client.spec.comparator.digest(shown.data)) if shown else (None, "")
    if there != (row.remote_version, row.remote_digest):
        raise NotFixed(
            MOVED, "The object changed at the remote since this was found; nothing was done. Compare it again."
        )


# --- repairs that were asked for -------------------------------------------------------------------------------------


def work_off(*, seconds: float) -> int:
    """Try the repairs that wait, each once, and return how many were tried; those of a blocked remote wait."""
    assert_outside_transaction()
    until = time.monotonic() + seconds
    rows = list(Discrepancy.objects.wanted().filter(wanted_at__lte=db_now())[:BATCH])
    names = dict(
        get_user_model().objects.filter(pk__in={row.wanted_by_id for row in rows}).values_list("pk", "username")
    )
    resources = Resource.objects.select_related("remote").in_bulk({row.resource_id for row in rows})
    done = 0
    for resource_id, resource in resources.items():
        wishes = [_wish(row, resource, names) for row in rows if row.resource_id == resource_id]
        try:
            done += _work_off(resource, wishes, until=until)
        except NoSlot as refused:
            findings.postpone([wish.row.pk for wish in wishes], why=str(refused), until=_later(db_now()))
        except (Misconfiguration, RemoteError) as error:
            log.warning("repair.impossible", resource=resource.slug, detail=error.detail)
            for wish in wishes:
                findings.tried(wish.row.pk, outcome=f"The remote cannot be called: {error.detail}")
    return done


def _wish(row: Discrepancy, resource: Resource, names: dict[int, str]) -> _Wish:
    row.resource = resource
    label = names.get(row.wanted_by_id or 0, "")
    return _Wish(row, row.wanted, Actor(row.wanted_as or "user", row.wanted_by_id, label), stored=True)


def _work_off(resource: Resource, wishes: Sequence[_Wish], *, until: float) -> int:
    client = client_for(resource)
    by_id = {wish.row.external_id: wish for wish in wishes}
    tried = 0
    with Pace(client.spec.remote, client, want=THREADS) as pace:
        readings = in_threads(
            lambda wish: read(client, wish.row.external_id, version=wish.row.local_version), wishes, pace=pace,
            until=until,
        )  # fmt: skip
        for reading in readings:
            wish = by_id[reading.external_id]
            pace.heard(reading.error, record_id=wish.row.record_id)
            if reading.error is not None and reading.later:
                _wait_or_give_up(wish, reading.error, most=client.spec.most_reads)
                continue
            tried += 1
            try:
                _settle(wish, reading, client)
            except NotFixed as refused:
                findings.tried(wish.row.pk, outcome=str(refused))
    return tried


def _wait_or_give_up(wish: _Wish, error: RemoteError, *, most: int) -> None:
    """Try again later what the remote failed to show, but not for ever; being asked to wait is no failure."""
    tries = wish.row.tries + error.transient
    if error.transient and tries >= most:
        why = f"Not done: the remote could not be read {tries} times in a row. {error.detail} Ask for it again later."
        findings.tried(wish.row.pk, outcome=why)
    else:
        why = f"Waiting, tried {tries} of {most} times: {error.detail}" if error.transient else error.detail
        findings.postpone([wish.row.pk], why=why, failed=error.transient, until=_later(db_now()))


def _later(now: datetime) -> datetime:
    return now + timedelta(seconds=PAUSE_S)
