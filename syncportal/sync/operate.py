"""What operators do to records' jobs: requeue, ask for a fresh read, assign, settle an ambiguous create.

Each act works on explicit ids (a moving filter never widens it), reports exact counts with the
reasons for what was left out, and is written into the history with who did it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote import limits
from syncportal.remote.models import Remote
from syncportal.sync import conflict_store, events, records, transitions
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import Conflict, Record, SyncJob
from syncportal.sync.states import Status
from syncportal.sync.tasks import DRAIN, REFRESH


@dataclass(frozen=True, slots=True)
class Done:
    """Which records an act moved, and which it left out for which reason (a status or a few words)."""

    moved: tuple[int, ...]
    left_out: Mapping[int, str] = field(default_factory=dict)


def _left_out(record_ids: Sequence[int], moved: set[int]) -> dict[int, str]:
    rest = set(record_ids) - moved
    rows = SyncJob.objects.filter(pk__in=rest).values_list("pk", "status", "held_by")
    reasons = {pk: "held" if held_by else Status(status).label.lower() for pk, status, held_by in rows}
    return dict.fromkeys(rest, "not found") | reasons


def requeue(record_ids: Sequence[int], *, actor: Actor, forget_sends: bool = False) -> Done:
    """Give stopped or waiting records another try with all attempts; history is kept.

    forget_sends: a person decided that an ambiguous create never arrived, so it is sent again.
    """

    def work() -> Done:
        now = db_now()
        before = records.lock(record_ids)
        done = Done(tuple(sorted(transitions.requeue(before, now=now, forget_sends=forget_sends))))
        data = {"send_again": True} if forget_sends else {}
        _tell(Kind.JOB_REQUEUED, done.moved, before, actor=actor, data=data, now=now)
        if done.moved:
            doorbell.ring(DRAIN)
        return replace(done, left_out=_left_out(record_ids, set(done.moved)))

    return atomic_retry(work)


def request_refresh(record_ids: Sequence[int], *, actor: Actor) -> Done:
    """Have the worker read these objects again; running, conflicting and held records are left out."""

    def work() -> Done:
        now = db_now()
        rows = SyncJob.objects.filter(pk__in=record_ids, record__external_id__isnull=False)
        transitions.request_refresh(rows.values_list("pk", flat=True), now=now)
        marked = SyncJob.objects.filter(pk__in=record_ids, refresh_requested_at=now)
        moved = tuple(sorted(marked.values_list("pk", flat=True)))
        if moved:
            doorbell.ring(REFRESH)
        return Done(moved, _left_out(record_ids, set(moved)))

    return atomic_retry(work)


def assign(record_ids: Sequence[int], *, owner_id: int | None, actor: Actor) -> Done:
    """Give records to another owner."""

    def work() -> Done:
        now = db_now()
        before = records.lock(record_ids)
        moved = tuple(sorted(pk for pk, state in before.items() if state.owner_id != owner_id))
        records.assign(moved, owner_id=owner_id, now=now)
        conflict_store.owner_changed(moved)
        _tell(Kind.RECORD_ASSIGNED, moved, before, actor=actor, data={"owner": owner_id}, now=now)
        rest = set(record_ids) - set(moved)
        return Done(moved, {pk: "already theirs" if pk in before else "not found" for pk in rest})

    return atomic_retry(work)


def escalate(conflict_ids: Sequence[int], *, actor: Actor) -> list[int]:
    """Hand open conflicts to operations and return those that were not with them already."""

    def work() -> list[int]:
        now = db_now()
        moved = conflict_store.mark_escalated(conflict_ids, now=now)
        rows = Conflict.objects.filter(pk__in=moved).values_list("pk", "record_id", "resource_id")
        facts = [
            Fact(Kind.CONFLICT_ESCALATED, record_id, resource_id, actor=actor, data={"conflict": pk})
            for pk, record_id, resource_id in rows
        ]
        events.write(facts, now=now)
        return moved

    return atomic_retry(work)


class LinkRefused(Exception):
    """The record cannot be linked to that id; nothing was changed."""


def link(record_id: int, external_id: str, *, actor: Actor) -> None:
    """Tell an ambiguous create which object it made; the next attempt reads it back. Raises LinkRefused."""

    def work() -> None:
        now = db_now()
        before = records.lock([record_id])
        state = before.get(record_id)
        job = SyncJob.objects.select_for_update().filter(pk=record_id).first()
        if state is None or job is None or job.reason != "create_unknown" or state.external_id:
            raise LinkRefused("Only a record whose creation is unknown can be linked.")
        taken = Record.objects.filter(resource_id=state.resource_id, external_id=external_id)
        if not external_id.strip() or taken.exclude(pk=record_id).exists():
            raise LinkRefused("Another record already stands for this id, or the id is empty.")
        records.write([replace(state, external_id=external_id)], now=now)
        transitions.requeue([record_id], now=now)
        _tell(Kind.RECORD_LINKED, [record_id], before, actor=actor, data={"external_id": external_id}, now=now)
        doorbell.ring(DRAIN)

    atomic_retry(work)


def pause(remote: Remote, *, detail: str, actor: Actor) -> bool:
    """Stop all calls to a remote; edits are still accepted and coalesced. False when it was paused already."""
    now = db_now()
    if not limits.pause(remote.pk, reason="by_hand", detail=detail, now=now):
        return False
    events.write([Fact(Kind.REMOTE_PAUSED, remote_id=remote.pk, actor=actor, data={"detail": detail})], now=now)
    return True


def resume(remote: Remote, *, actor: Actor) -> bool:
    """Let calls to a remote through again and ring for what waited."""
    now = db_now()
    if not limits.resume(remote.pk, now=now):
        return False
    events.write([Fact(Kind.REMOTE_RESUMED, remote_id=remote.pk, actor=actor)], now=now)
    doorbell.ring(DRAIN)
    return True


def _tell(
    kind: Kind,
    record_ids: Sequence[int],
    before: dict[int, records.RecordState],
    *,
    actor: Actor,
    data: dict,
    now: datetime,
) -> None:
    events.write([Fact(kind, pk, before[pk].resource_id, actor=actor, data=data) for pk in record_ids], now=now)
