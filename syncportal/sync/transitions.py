"""The only writer of SyncJob: each verb of the state machine is one conditional UPDATE.

`WHERE status IN sources AND claim_no = mine`; no row moved means that somebody else won, which is a
normal outcome. Callers hold the record's row lock where content changes with the status (record
before job, everywhere) and pass `now`, the database's time read once per transaction.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import Case, DateTimeField, DurationField, ExpressionWrapper, F, Q, QuerySet, Value, When

from syncportal.kernel.bulk import update_rows
from syncportal.kernel.machine import Verb
from syncportal.sync import states
from syncportal.sync.causes import DEADLY, deadly
from syncportal.sync.claims import Claim, Send
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.states import Intent, Status

MAX_WORKER_DEATHS = 3
AHEAD, LONGEST_LEASE = timedelta(minutes=1), timedelta(minutes=10)
CREATE_UNKNOWN = "create_unknown"
WORKER_DIED = "worker_died"
SAME_ERROR = 0
"""For `Leaving.error_group`: nothing was learnt about why the record failed before, so that stays."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """The machine row for a record just inserted; `pending` False means both sides agree already."""

    record_id: int
    remote_id: int
    pending: bool
    max_attempts: int
    correlation_id: str = ""


def insert(jobs: Iterable[NewJob], *, now: datetime) -> None:
    """Give new records their machine rows."""
    jobs = list(jobs)
    resources = dict(Record.objects.filter(pk__in=[job.record_id for job in jobs]).values_list("pk", "resource_id"))
    SyncJob.objects.bulk_create(
        [
            SyncJob(
                record_id=job.record_id,
                remote_id=job.remote_id,
                resource_id=resources[job.record_id],
                status=Status.PENDING if job.pending else Status.SYNCED,
                due_at=now if job.pending else None,
                max_attempts=job.max_attempts,
                correlation_id=job.correlation_id,
                status_since=now,
                updated_at=now,
            )
            for job in jobs
        ],
        batch_size=500,
    )


def _moving(record_ids: Iterable[int], verb: Verb) -> QuerySet[SyncJob]:
    return SyncJob.objects.filter(pk__in=list(record_ids), status__in=sorted(verb.sources))


def _fresh_start(now: datetime) -> dict[str, Any]:
    """Return the columns of a job that starts over: newest content, all attempts left."""
    return {
        "status": Status.PENDING, "reason": "", "detail": "", "attempts": 0, "rebases": 0, "worker_deaths": 0,
        "due_at": now, "updated_at": now,
        "status_since": Case(When(status=Status.PENDING, then=F("status_since")), default=Value(now)),
    }  # fmt: skip


def arm(record_ids: Iterable[int], *, now: datetime, correlation_id: str = "", max_attempts: int | None = None) -> int:
    """Make the jobs PENDING for the newest revision; a running or conflicting one stays as it is."""
    changes = _fresh_start(now) | {"correlation_id": correlation_id}
    if max_attempts is not None:
        changes["max_attempts"] = max_attempts
    return _moving(record_ids, states.ARM).update(**changes)


class _Due(NamedTuple):
    """What claiming reads of a due job."""

    record_id: int
    remote_id: int
    attempts: int
    max_attempts: int
    claim_no: int
    in_doubt: bool
    sends: list[dict[str, Any]]
    idempotency_key: str
    key_for: str
    rebases: int
    correlation_id: str


def claim_many(
    remote_id: int, *, limit: int, holder: str, now: datetime, lease_s: float, record_ids: Sequence[int] | None = None
) -> list[Claim]:
    """Take up to `limit` due jobs of a remote for this holder, oldest first, and return what to send.

    A job is claimed exactly once however many claim: PostgreSQL locks the rows it selects and skips
    locked ones, SQLite's transaction is immediate, and the UPDATE names explicit ids with the claim
    number they had. record_ids: claim only among these.
    """
    with transaction.atomic():
        due = SyncJob.objects.due(now).filter(remote_id=remote_id)
        if record_ids is not None:
            due = due.filter(pk__in=record_ids)
        due = due.order_by("due_at")
        if connection.features.has_select_for_update_skip_locked:
            due = due.select_for_update(skip_locked=True)
        found = [_Due(*row) for row in due.values_list(*_Due._fields)[:limit]]
        contents = {
            row["id"]: row
            for row in Record.objects.filter(pk__in=[job.record_id for job in found]).values(
                "id", "resource_id", "external_id", "intent", "data", "base", "version", "revision"
            )
        }
        until = now + timedelta(seconds=lease_s)
        claims = [_claim(job, contents[job.record_id], now=now, until=until) for job in found]
        moved = update_rows(
            SyncJob,
            [
                {
                    "pk": claim.record_id, "status": Status.PROCESSING.value, "attempts": claim.attempt,
                    "claim_no": claim.claim_no, "claimed_by": holder, "claimed_revision": claim.revision,
                    "lease_until": until, "due_at": None, "in_doubt": bool(claim.sends),
                    "sends": [send.as_json() for send in (*claim.sends, claim.current)],
                    "idempotency_key": claim.current.key,
                    "key_for": _key_for(contents[claim.record_id], claim.current.operation),
                    "status_since": now, "updated_at": now,
                }
                for claim in claims
            ],
            where="t.claim_no = v.claim_no - 1 AND t.held_by = '' AND t.status IN (%s, %s)",
            params=sorted(states.CLAIM.sources),
        )  # fmt: skip
        return [claim for claim in claims if claim.record_id in moved]


def _operation(content: Mapping[str, Any]) -> str:
    if content["intent"] == Intent.DELETE:
        return Intent.DELETE.value
    return Intent.CREATE.value if content["base"] is None else Intent.UPDATE.value


def _key_for(content: Mapping[str, Any], operation: str) -> str:
    """Return what an idempotency key stands for: an edit sent again unchanged keeps its key."""
    return f"{operation}:{content['revision']}:{content['version'] or ''}"


def _claim(job: _Due, content: Mapping[str, Any], *, now: datetime, until: datetime) -> Claim:
    operation = _operation(content)
    same_edit = bool(job.idempotency_key) and job.key_for == _key_for(content, operation)
    send = Send(
        operation=operation,
        content=None if operation == Intent.DELETE else content["data"],
        version=content["version"],
        key=job.idempotency_key if same_edit else str(uuid.uuid4()),
        sent_at=now,
    )
    return Claim(
        record_id=job.record_id,
        remote_id=job.remote_id,
        resource_id=content["resource_id"],
        external_id=content["external_id"],
        intent=content["intent"],
        data=content["data"],
        base=content["base"],
        version=content["version"],
        revision=content["revision"],
        attempt=job.attempts + 1,
        max_attempts=job.max_attempts,
        claim_no=job.claim_no + 1,
        rebases=job.rebases,
        sends=tuple(Send.from_json(stored) for stored in job.sends) if job.in_doubt else (),
        current=send,
        lease_until=until,
        correlation_id=job.correlation_id,
    )


@dataclass(frozen=True, slots=True)
class Leaving:
    """One job's way out of PROCESSING. attempts: what the row counts afterwards; error_group: see SAME_ERROR."""

    record_id: int
    claim_no: int
    verb: Verb
    target: str
    attempts: int
    reason: str = ""
    detail: str = ""
    due_at: datetime | None = None
    sends: tuple[Send, ...] = ()
    rebases: int = 0
    error_group: int | None = None


def leave_processing(moves: Sequence[Leaving], *, now: datetime) -> set[int]:
    """Carry out complete, skip, rebase, retry_later, give_up, fail, reject, mark_conflict and postpone for a batch.

    Each row moves only while it is PROCESSING under its own claim number. Returns the records moved.
    """
    for move in moves:
        if move.target not in move.verb.targets or Status.PROCESSING not in move.verb.sources:
            raise ValueError(f"{move.verb.name} does not lead from PROCESSING to {move.target}")
    return update_rows(
        SyncJob,
        [
            {
                "pk": move.record_id,
                "claim_no": move.claim_no,
                "status": move.target,
                "reason": move.reason[:40],
                "detail": move.detail,
                "attempts": move.attempts,
                "due_at": (move.due_at or now) if move.target in states.CLAIMABLE else None,
                "lease_until": None,
                "claimed_by": "",
                "in_doubt": bool(move.sends),
                "sends": [send.as_json() for send in move.sends],
                "rebases": move.rebases,
                "worker_deaths": 0,
                "error_group": move.error_group,
                "status_since": now,
                "updated_at": now,
            }
            for move in moves
        ],
        computed={
            "error_group": f"CASE WHEN v.error_group = {SAME_ERROR} THEN t.error_group_id ELSE v.error_group END"
        },
        guard=("claim_no",),
        where="t.status = %s",
        params=[Status.PROCESSING.value],
    )


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job taken back from a dead worker, and whether that was its last chance; then `causes.deadly` is its error."""

    record_id: int
    remote_id: int
    dead: bool


def rescue(*, now: datetime, limit: int = 500) -> list[Rescued]:
    """Take back jobs whose lease is over, or longer than any; what was claimed counts as sent, so they are in doubt.

    The third death of a worker over the same job makes it a dead letter. Call in a transaction that counts its cause.
    """
    over = Q(lease_until__lt=now) | Q(lease_until__gt=now + LONGEST_LEASE)
    orphans = SyncJob.objects.filter(over, status=Status.PROCESSING).order_by("pk")
    if connection.features.has_select_for_update_skip_locked:
        orphans = orphans.select_for_update(skip_locked=True)
    rescued = []
    for job in orphans[:limit]:
        deaths = job.worker_deaths + 1
        dead = deaths >= MAX_WORKER_DEATHS
        moved = SyncJob.objects.filter(pk=job.pk, status=Status.PROCESSING, claim_no=job.claim_no).update(
            status=Status.DEAD_LETTER if dead else Status.RETRY_PENDING,
            reason=WORKER_DIED,
            detail=DEADLY if dead else "The worker died while sending; the remote is asked first what it holds.",
            error_group=deadly(job.remote_id).id if dead else job.error_group_id,
            due_at=None if dead else now, lease_until=None, claimed_by="", in_doubt=bool(job.sends),
            worker_deaths=deaths, status_since=now, updated_at=now,
        )  # fmt: skip
        if moved:
            rescued.append(Rescued(job.pk, job.remote_id, dead))
    return rescued


def set_back(*, now: datetime, limit: int = 5_000) -> int:
    """Let jobs written before the clock was set back wait from now on as long as they had to; in a transaction."""
    ahead = SyncJob.objects.claimable().filter(due_at__gt=now, updated_at__gt=now + AHEAD).order_by("pk")
    ids = list(ahead.select_for_update().values_list("pk", flat=True)[:limit])
    wait = ExpressionWrapper(F("due_at") - F("updated_at"), output_field=DurationField())
    from_now = ExpressionWrapper(Value(now, output_field=DateTimeField()) + wait, output_field=DateTimeField())
    return SyncJob.objects.filter(pk__in=ids).update(due_at=from_now, updated_at=now)


def requeue(record_ids: Iterable[int], *, now: datetime, forget_sends: bool = False) -> set[int]:
    """Start stopped or waiting jobs over, attempts reset, and return the records moved.

    forget_sends: a person decided that an ambiguous create never arrived. While in doubt the
    idempotency key stays; else a new one is made, so that a stored refusal is not replayed.
    """
    rows = _moving(record_ids, states.REQUEUE)
    if forget_sends:
        rows = rows.filter(reason=CREATE_UNKNOWN)
    ids = set(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
    changes = _fresh_start(now)
    if forget_sends:
        changes |= {"in_doubt": False, "sends": [], "key_for": ""}
    else:
        changes["key_for"] = Case(When(in_doubt=True, then=F("key_for")), default=Value(""))
    _moving(ids, states.REQUEUE).update(**changes)
    return ids


def mark_conflict(record_ids: Iterable[int], *, reason: str, detail: str, now: datetime) -> int:
    """Stop jobs that are not running for a person's decision: by refresh, pull, group, release or undo."""
    idle = states.MARK_CONFLICT.sources - {Status.PROCESSING}
    return SyncJob.objects.filter(pk__in=list(record_ids), status__in=sorted(idle)).update(
        status=Status.VERSION_CONFLICT, reason=reason, detail=detail, due_at=None, error_group=None, status_since=now,
        updated_at=now,
    )  # fmt: skip


def restate_conflict(record_id: int, *, reason: str, detail: str, now: datetime) -> None:
    """Give a job that waits for a person another reason; its status stays."""
    waiting = SyncJob.objects.filter(pk=record_id, status=Status.VERSION_CONFLICT)
    waiting.update(reason=reason, detail=detail, updated_at=now)


def resolve(record_id: int, *, target: str, now: datetime, max_attempts: int) -> bool:
    """Leave VERSION_CONFLICT for SYNCED or PENDING; False when somebody else was faster."""
    if target not in states.RESOLVE.targets:
        raise ValueError(f"resolve does not lead to {target}")
    changes = _fresh_start(now) | {"status": target, "status_since": now, "max_attempts": max_attempts}
    if target == Status.SYNCED:
        changes["due_at"] = None
    return bool(_moving([record_id], states.RESOLVE).update(**changes))


def settle_doubt(record_id: int, *, now: datetime) -> None:
    """Note that a read settled what was in doubt."""
    SyncJob.objects.filter(pk=record_id).exclude(status=Status.PROCESSING).update(
        in_doubt=False, sends=[], updated_at=now
    )


def hold(record_ids: Iterable[int], *, holder: str, now: datetime) -> set[int]:
    """Keep agreed records for a group or task; return those taken (the caller wants all or none)."""
    sources = sorted(states.HOLD.sources)
    return update_rows(
        SyncJob,
        [{"pk": pk, "held_by": holder, "held_at": now, "updated_at": now} for pk in record_ids],
        where=f"t.held_by = '' AND NOT t.in_doubt AND t.status IN ({', '.join(['%s'] * len(sources))})",
        params=sources,
    )


def release(record_ids: Iterable[int], *, holder: str, now: datetime) -> int:
    """Give held records back; only their holder can."""
    rows = [{"pk": pk, "held_by": "", "held_at": None, "updated_at": now} for pk in record_ids]
    return len(update_rows(SyncJob, rows, where="t.held_by = %s", params=[holder]))


def pass_hold(record_id: int, *, holder: str, to: str, now: datetime) -> bool:
    """Hand a held record from one holder to the next without letting go of it."""
    held = SyncJob.objects.filter(pk=record_id, held_by=holder)
    return bool(held.update(held_by=to, held_at=now, updated_at=now))


def leave_in_doubt(record_id: int, *, send: Send, now: datetime) -> None:
    """Make a released record's job find out by itself what the remote holds, before anything is sent."""
    SyncJob.objects.filter(pk=record_id, status__in=sorted(states.ARM.sources)).update(
        **_fresh_start(now) | {"in_doubt": True, "sends": [send.as_json()]}
    )


def complete_unsent(record_ids: Iterable[int], *, now: datetime) -> set[int]:
    """Finish the deletion of records that were never sent: no call is needed. Returns those finished."""
    idle = Q(status__in=sorted(states.ARM.sources), in_doubt=False, held_by="")
    rows = SyncJob.objects.filter(idle, pk__in=list(record_ids))
    ids = set(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
    SyncJob.objects.filter(pk__in=ids).update(
        status=Status.SYNCED, reason="never_sent", detail="", due_at=None, error_group=None, status_since=now,
        updated_at=now,
    )  # fmt: skip
    return ids


def reopen_agreed(record_ids: Iterable[int], *, now: datetime) -> int:
    """Make jobs SYNCED whose records a pull brought back to life."""
    return _moving(record_ids, states.REFRESH).update(
        status=Status.SYNCED, reason="", detail="", due_at=None, error_group=None, status_since=now, updated_at=now
    )


def request_refresh(record_ids: Iterable[int], *, now: datetime) -> int:
    """Ask the worker to read these objects again; running and conflicting ones are left out."""
    return _moving(record_ids, states.REFRESH).filter(held_by="").update(refresh_requested_at=now)


def refresh_done(record_ids: Iterable[int]) -> None:
    """Forget the wish to read these objects again."""
    SyncJob.objects.filter(pk__in=list(record_ids)).update(refresh_requested_at=None)
