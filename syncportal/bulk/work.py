"""Works an operation off, a batch a transaction: the act and what became of its rows are committed together.

Guarantees: a row is acted on once however often a worker dies, because its act and its outcome are one commit; a
cancelled operation stops at the next batch; rights are those of the person at the time of the batch; of two operations
that would do the same to a row, the older does. A ramp lets go of 1, 10, 100 rows and then the rest, waits after each
step until every row let go has ended, and stops at the first that fails.
"""

import time
from enum import Enum, auto
from functools import partial

import structlog
from django.db import InterfaceError, OperationalError

from syncportal.bulk import journal, states
from syncportal.bulk.acts import ELSEWHERE, NOT_YOURS, Act, Batch, Result, UnknownAct, act_of
from syncportal.bulk.journal import Fenced
from syncportal.bulk.models import BulkOperation, BulkRow
from syncportal.bulk.states import RowState
from syncportal.kernel import correlation, doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry

log = structlog.get_logger(__name__)

BULK = "syncportal.bulk.workers.bulk"
BATCH = 100
WATCHED = 500
LOOK_AGAIN_S = 1.0
CAUSES = 3


class _Step(Enum):
    """What a batch came to."""

    MOVED = auto()
    LOOK_AGAIN = auto()
    ENDED = auto()


def begin(operation_id: int, *, parameters: dict) -> bool:
    """Start an operation and wake a worker; False when it had begun or ended before."""

    def work() -> bool:
        begun = journal.start(operation_id, parameters=parameters, now=db_now())
        return begun and (doorbell.ring(BULK) or True)

    return atomic_retry(work)


def go_on(operation_id: int) -> bool:
    """Let a stopped ramp go on with the rest; False when it is not stopped."""

    def work() -> bool:
        moved = journal.go_on(operation_id, now=db_now())
        return moved and (doorbell.ring(BULK) or True)

    return atomic_retry(work)


def cancel(operation_id: int, *, by: str) -> bool:
    """End an operation where it is; False when it had ended."""
    return atomic_retry(lambda: journal.cancel(operation_id, reason=f"Cancelled by {by}.", now=db_now()))


def run(operation_id: int, *, seconds: float) -> bool:
    """Work at an operation for about `seconds`; return whether it could go on at once."""
    assert_outside_transaction()
    operation = atomic_retry(lambda: journal.claim(operation_id, now=db_now()))
    if operation is None:
        return False
    try:
        act = act_of(operation.act)
    except UnknownAct:
        reason = "This version of SyncPortal does not know this act any more."
        atomic_retry(lambda: journal.end(operation, states.STOP, reason=reason, now=db_now()))
        return False
    until = time.monotonic() + seconds
    with correlation.correlated(operation.correlation_id):
        return _work(operation, act, until=until)


def _work(operation: BulkOperation, act: Act, *, until: float) -> bool:
    step, limit = _Step.MOVED, BATCH
    try:
        while step is _Step.MOVED and time.monotonic() < until:
            try:
                step = atomic_retry(partial(_batch, operation.pk, operation.claim_no, act, limit=limit))
                limit = BATCH
            except (Fenced, OperationalError, InterfaceError):
                raise
            except Exception:
                log.exception("bulk.batch_failed", operation=operation.pk, act=act.name, rows=limit)
                if limit == 1:
                    atomic_retry(partial(_give_up_on_first, operation.pk, operation.claim_no))
                limit = 1 if limit > 1 else BATCH
    except Fenced:
        return False
    if step is not _Step.ENDED:
        atomic_retry(lambda: journal.leave(operation, now=db_now(), pause_s=LOOK_AGAIN_S * (step is _Step.LOOK_AGAIN)))
    return step is _Step.MOVED


def _current(operation_id: int, claim_no: int) -> BulkOperation:
    """Read the operation as it is in this transaction; raises Fenced when it is not ours any more."""
    rows = BulkOperation.objects.select_related("user").filter(pk=operation_id, claim_no=claim_no)
    operation = rows.filter(state=states.State.RUNNING).first()
    if operation is None:
        raise Fenced
    return operation


def _batch(operation_id: int, claim_no: int, act: Act, *, limit: int) -> _Step:
    operation, now = _current(operation_id, claim_no), db_now()
    failure = _watch(operation, act)
    if failure:
        journal.advance(operation, now=now)
        journal.end(operation, states.STOP, reason=failure, now=now)
        return _Step.ENDED
    rows = journal.next_rows(operation, limit=limit)
    if rows:
        journal.note(operation, rows, _results(operation, act, rows))
        step = _Step.MOVED
    elif operation.handed_over:
        step = _Step.LOOK_AGAIN
    elif operation.waiting and operation.allowed is not None:
        operation.allowed = states.next_limit(operation.allowed)
        step = _Step.MOVED
    else:
        step = _Step.ENDED
    journal.advance(operation, now=now)
    if step is _Step.ENDED:
        journal.end(operation, states.FINISH, now=now)
    return step


def _watch(operation: BulkOperation, act: Act) -> str:
    """Look how the rows that were let go turned out; return why a ramp has to stop, "" when nothing has to."""
    if not operation.handed_over or act.watch is None:
        return ""
    rows = journal.handed_over(operation, limit=WATCHED)
    seen = {pk: result for pk, result in act.watch([row.target_id for row in rows]).items()
            if result.state != RowState.WAITING}  # fmt: skip
    journal.note(operation, rows, seen)
    failed = [pk for pk, result in seen.items() if result.state == RowState.FAILED]
    if not failed or not operation.ramp:
        return ""
    reason = f"{len(failed)} of {operation.let_go} let go so far failed: {seen[failed[0]].outcome}"[:500]
    new = _new_causes(operation, act, failed)
    return f"{reason.rstrip('.')}. {new}" if new else reason


def _new_causes(operation: BulkOperation, act: Act, failed: list[int]) -> str:
    """Return a sentence that names causes which the operation did not set out to mend, "" when there are none."""
    found = act.causes(failed, operation.parameters) if act.causes is not None else ()
    new = [cause.title for cause in found if cause.new][:CAUSES]
    return f"A new cause appeared: {'; '.join(new)}." if new else ""


def _results(operation: BulkOperation, act: Act, rows: list[BulkRow]) -> dict[int, Result]:
    ids, user = [row.target_id for row in rows], operation.user
    allowed = user is not None and user.is_active and act.may(user)
    mine = set(act.scope(user, ids)) if allowed and user is not None else set()
    results = dict.fromkeys(ids, NOT_YOURS)
    elsewhere = journal.taken_elsewhere(operation, sorted(mine)) if mine and act.watch is not None else set()
    results |= dict.fromkeys(elsewhere, ELSEWHERE)
    mine -= elsewhere
    if mine:
        batch = Batch(
            ids=[pk for pk in ids if pk in mine], parameters=operation.parameters, user_id=operation.user_id,
            user_label=operation.user_label, user_kind=operation.user_kind,
        )  # fmt: skip
        results |= act.run(batch)
    if (operation.ramp or act.follow) and act.watch is not None:
        over = Result(RowState.HANDED_OVER)
        results = {pk: over if result.state == RowState.DONE else result for pk, result in results.items()}
    return results


def _give_up_on_first(operation_id: int, claim_no: int) -> None:
    """Note that one row cannot be acted on, so that it does not keep the others from their turn."""
    operation = _current(operation_id, claim_no)
    rows = journal.next_rows(operation, limit=1)
    failed = Result(RowState.FAILED, "an internal error; the worker's log says more")
    journal.note(operation, rows, {row.target_id: failed for row in rows})
    journal.advance(operation, now=db_now())
