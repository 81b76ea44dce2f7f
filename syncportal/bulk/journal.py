"""The only writer of BulkOperation and BulkRow: freezing, starting, claiming, noting outcomes, ending.

Guarantees: each verb is one conditional UPDATE; one worker at a time is at an operation, and what a worker that lost
its lease (or whose operation was cancelled) still writes is rolled back by `advance`, called last in its transaction.
Counts and rows change together. Does not: act on anything else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Q, QuerySet

from syncportal.bulk import states
from syncportal.bulk.acts import Result
from syncportal.bulk.models import BulkOperation, BulkRow
from syncportal.bulk.states import RowState, State
from syncportal.kernel import correlation
from syncportal.kernel.bulk import insert_rows, update_rows
from syncportal.kernel.machine import Verb

LEASE = timedelta(seconds=60)
DRAFTS_KEPT = timedelta(days=1)
KEPT = timedelta(days=90)
_INSERT = 2_000
_COUNTED = {
    RowState.DONE: "done", RowState.SKIPPED: "skipped", RowState.FAILED: "failed", RowState.HANDED_OVER: "handed_over",
}  # fmt: skip


class Fenced(Exception):
    """Another worker took the operation over, or it was cancelled; what this one was about to write is rolled back."""


@dataclass(frozen=True, slots=True)
class NewOperation:
    """What an operation starts with. target_ids: frozen now, acted on in this order."""

    act: str
    target_ids: Sequence[int]
    user_id: int | None
    user_label: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ramp: bool = False
    back: str = ""
    user_kind: str = "user"


def prepare(new: NewOperation, *, now: datetime) -> BulkOperation:
    """Freeze the rows of an operation that somebody will look at before it starts."""
    ids = list(dict.fromkeys(new.target_ids))
    operation = BulkOperation.objects.create(
        act=new.act, parameters=dict(new.parameters), ramp=new.ramp, allowed=states.RAMP[0] if new.ramp else None,
        total=len(ids), user_id=new.user_id, user_label=new.user_label[:150], user_kind=new.user_kind, back=new.back,
        correlation_id=correlation.current(), created_at=now,
    )  # fmt: skip
    for start in range(0, len(ids), _INSERT):
        chunk = enumerate(ids[start : start + _INSERT], start=start)
        insert_rows(
            BulkRow,
            [
                {"operation_id": operation.pk, "position": position, "target_id": pk, "outcome": "",
                 "state": RowState.WAITING.value}
                for position, pk in chunk
            ],
        )  # fmt: skip
    return operation


def start(operation_id: int, *, parameters: Mapping[str, Any], now: datetime) -> bool:
    """Let an operation begin; False when it has begun already or was cancelled."""
    return _move(
        operation_id, states.START, State.RUNNING, parameters=dict(parameters), started_at=now, progress_at=now
    )


def go_on(operation_id: int, *, now: datetime) -> bool:
    """Let a stopped ramp go on with all that is left; False when it is not stopped."""
    return _move(operation_id, states.GO_ON, State.RUNNING, allowed=None, reason="", finished_at=None, progress_at=now)


def cancel(operation_id: int, *, reason: str, now: datetime) -> bool:
    """End an operation where it is; what was done stays done. False when it had ended."""
    return _move(operation_id, states.CANCEL, State.CANCELLED, reason=reason, lease_until=None, finished_at=now)


def _move(operation_id: int, verb: Verb, target: State, **changes: Any) -> bool:
    rows = BulkOperation.objects.filter(pk=operation_id, state__in=sorted(verb.sources))
    return bool(rows.update(state=target, **changes))


def waiting_for_a_worker(now: datetime) -> QuerySet[BulkOperation]:
    """Return the operations that a worker could go on with now."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    free |= Q(lease_until__gt=now + 2 * LEASE)  # of a clock that was put back since
    return BulkOperation.objects.filter(free, state=State.RUNNING).order_by("pk")


def claim(operation_id: int, *, now: datetime) -> BulkOperation | None:
    """Take an operation for a while; None when another worker has it or it is at its end."""
    taken = waiting_for_a_worker(now).order_by().filter(pk=operation_id)
    if not taken.update(claim_no=F("claim_no") + 1, lease_until=now + LEASE):
        return None
    return BulkOperation.objects.select_related("user").get(pk=operation_id)


def leave(operation: BulkOperation, *, now: datetime, pause_s: float = 0.0) -> None:
    """Give an operation back; the next worker goes on after `pause_s`."""
    _mine(operation).update(lease_until=now + timedelta(seconds=pause_s) if pause_s else None)


def next_rows(operation: BulkOperation, *, limit: int) -> list[BulkRow]:
    """Return the next rows that may be acted on."""
    room = limit if operation.allowed is None else min(limit, operation.allowed - operation.let_go)
    return list(operation.rows.filter(state=RowState.WAITING)[: max(0, room)])


def handed_over(operation: BulkOperation, *, limit: int) -> list[BulkRow]:
    """Return rows that were let go and whose end is not known yet."""
    return list(operation.rows.filter(state=RowState.HANDED_OVER)[:limit])


def note(operation: BulkOperation, rows: Sequence[BulkRow], results: Mapping[int, Result]) -> None:
    """Write down what became of rows, by target, and count them; `operation` is brought up to date."""
    changes, moved = [], Counter[str]()
    for row in rows:
        result = results.get(row.target_id)
        if result is None or result.state == row.state:
            continue
        changes.append({"pk": row.pk, "state": str(result.state), "outcome": result.outcome[:300]})
        moved[_COUNTED[result.state]] += 1
        if row.state in _COUNTED:
            moved[_COUNTED[RowState(row.state)]] -= 1
    update_rows(BulkRow, changes)
    for name, number in moved.items():
        setattr(operation, name, getattr(operation, name) + number)


def advance(operation: BulkOperation, *, now: datetime) -> None:
    """Store the counts and prolong the lease; raises Fenced. Call last in the transaction."""
    counts = {name: getattr(operation, name) for name in _COUNTED.values()}
    changes = {"allowed": operation.allowed, "lease_until": now + LEASE, "progress_at": now}
    if not _mine(operation).update(**counts, **changes):
        raise Fenced


def end(operation: BulkOperation, verb: Verb, *, reason: str = "", now: datetime) -> None:
    """Finish or stop an operation; raises Fenced."""
    state = verb.targets[0]
    moved = _mine(operation).update(state=state, reason=reason, lease_until=None, finished_at=now, progress_at=now)
    if not moved:
        raise Fenced
    operation.state, operation.reason = state, reason


def taken_elsewhere(operation: BulkOperation, target_ids: Sequence[int]) -> set[int]:
    """Return those targets that an older running operation of the same act still has before it or under way."""
    older = BulkOperation.objects.filter(act=operation.act, state=State.RUNNING, pk__lt=operation.pk)
    rows = BulkRow.objects.filter(
        operation__in=older, target_id__in=list(target_ids), state__in=[RowState.WAITING, RowState.HANDED_OVER]
    )
    return set(rows.values_list("target_id", flat=True))


def failed_targets(operation: BulkOperation, *, limit: int = 1_000) -> list[int]:
    """Return targets of rows that failed."""
    return list(operation.rows.filter(state=RowState.FAILED).values_list("target_id", flat=True)[:limit])


def outcomes(operation: BulkOperation, *, states: Sequence[RowState], most: int = 10) -> list[tuple[str, int]]:
    """Return what was noted of rows in some states, with their numbers, the most frequent first."""
    rows = operation.rows.filter(state__in=list(states)).order_by().values_list("outcome")
    return list(rows.annotate(number=Count("pk")).order_by("-number", "outcome")[:most])


def prune(now: datetime, *, limit: int = 200) -> int:
    """Forget previews that nobody confirmed and operations that ended long ago; return how many went."""
    draft = Q(state=State.DRAFT, created_at__lt=now - DRAFTS_KEPT)
    ended = Q(state__in=[State.DONE, State.CANCELLED], finished_at__lt=now - KEPT)
    old = list(BulkOperation.objects.filter(draft | ended).values_list("pk", flat=True)[:limit])
    BulkOperation.objects.filter(pk__in=old).delete()
    return len(old)


def _mine(operation: BulkOperation) -> QuerySet[BulkOperation]:
    return BulkOperation.objects.filter(pk=operation.pk, state=State.RUNNING, claim_no=operation.claim_no)
