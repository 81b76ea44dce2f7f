"""Runs compensating tasks: first within the request that aborted, then in the worker, until done or a person is called.

The undo itself is `undo.py`; this owns claiming, backoff, and what each ending means for the task,
the record and the group. Also takes over groups whose request died.
"""

import random
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from rollback import decide, holding, journal, undo
from rollback.budget import Budget
from rollback.calls import problem
from rollback.holding import Reading
from rollback.models import CompensatingTask, Group
from rollback.plan import Json
from rollback.states import GroupStatus, StepStatus, TaskReason, TaskStatus
from rollback.turns import FREE, Turns
from rollback.undo import Client, Ending, Outstanding, Undone, Wanted
from syncportal.kernel import doorbell
from syncportal.kernel.backoff import exponential_delay_s, honour_retry_after
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote import configuration, limits
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Resource
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import call_reports, events, open_conflicts, records
from syncportal.sync.call_reports import Called
from syncportal.sync.events import AttemptLog, Fact, Kind
from syncportal.sync.models import Conflict
from syncportal.sync.slots import NoSlot, slots

log = structlog.get_logger(__name__)

COMPENSATE = "rollback.workers.compensate"
POSTPONE_S = 5.0
CANNOT_START_S = 60.0
JITTER = 0.25
FENCE_RUNS = 3  # runs in which a remote has to refuse a fence before time settles what it was for
ClientFor = Callable[[Resource], Client]


def holder_of(task: CompensatingTask) -> str:
    """Return the name under which a task holds its record."""
    return f"task:{task.task_id}"


def run_inline(
    group_pk: int,
    clients: Mapping[int, Client],
    *,
    budget: Budget,
    turns: Turns = FREE,
    clock: Callable[[], datetime] = db_now,
) -> None:
    """Give every task of an aborted group its first run while the request's time lasts; the worker has the rest.

    A remote that was paused meanwhile, or whose breaker opened, is left to the worker too.
    """
    rows = CompensatingTask.objects.filter(step__group_id=group_pk, status=TaskStatus.PENDING, claim_no=0)
    blocked = set(limits.blocked(clock()))
    for task_id, resource_id in rows.order_by("-step__position").values_list("pk", "resource_id"):
        if budget.left() <= 1.0:
            break
        client = clients[resource_id]
        if client.spec.remote.remote_id in blocked:
            continue
        if not turns.may_start(resource_id, wait_s=budget.left() - 1.0):
            break
        result = run_task(task_id, client, deadline=budget.deadline(budget.left()), clock=clock)
        if result is not None and result.error_kind:
            blocked = set(limits.blocked(clock()))
    unfinished = (GroupStatus.COMPENSATING, GroupStatus.NEEDS_ATTENTION)
    if rows.exists() or Group.objects.filter(pk=group_pk, status__in=unfinished).exists():
        atomic_retry(lambda: journal.hand_over(group_pk, now=clock()))
        doorbell.ring(COMPENSATE)


def run_due(
    *, seconds: float, clock: Callable[[], datetime] = db_now, client_of: ClientFor = client_for, limit: int = 200
) -> int:
    """Run every due task, one after another, for at most `seconds`; return how many ran.

    Tasks of a remote that is paused, or whose breaker is open, wait without using up attempts; one without a free slot
    is waited for once.
    """
    assert_outside_transaction()
    end = time.monotonic() + seconds
    atomic_retry(lambda: _rescue(now=clock()))
    resources: dict[int, Resource] = {}
    full: set[int] = set()
    ran = 0
    for task_id in journal.due_tasks(now=clock(), limit=limit, blocked=limits.blocked(clock())):
        if time.monotonic() > end - settings.CALL_TOTAL_S:
            break
        resource_id = CompensatingTask.objects.values_list("resource_id", flat=True).get(pk=task_id)
        if resource_id not in resources:
            resources[resource_id] = Resource.objects.select_related("remote").get(pk=resource_id)
        resource = resources[resource_id]
        if resource.remote_id in full:
            continue
        try:
            client = client_of(resource)
            with slots(client.spec.remote, client, want=1):
                run_task(task_id, client, deadline=Deadline(settings.CALL_TOTAL_S), clock=clock)
        except NoSlot:
            full.add(resource.remote_id)
            continue
        except (Misconfiguration, RemoteError) as error:
            atomic_retry(partial(_cannot_start, task_id, error.detail, clock))
            continue
        ran += 1
    return ran


def _cannot_start(task_id: int, detail: str, clock: Callable[[], datetime]) -> None:
    """Put a task off whose remote cannot be called at all: the task says why, and no attempt is used up."""
    now = clock()
    task = journal.claim_task(task_id, now=now)
    if task is not None:
        outstanding = [Outstanding.from_json(stored) for stored in task.outstanding]
        error, due_at = problem("cannot_start", detail), now + timedelta(seconds=CANNOT_START_S)
        journal.retry_task(task, due_at=due_at, counted=False, error=error, outstanding=outstanding, now=now)
        log_outcome("compensation.postponed", task, error=error, next_attempt_at=due_at.isoformat())


def _rescue(*, now: datetime) -> None:
    """Take tasks back from dead workers; one whose last attempt killed its worker asks a person."""
    _, exhausted = journal.rescue_tasks(now=now)
    error = problem("worker_died", "Every worker that tried this undo died.")
    for task in exhausted:
        records.lock([task.record_id])
        outstanding = [*(Outstanding.from_json(stored) for stored in task.outstanding), Outstanding(None, now)]
        reason = TaskReason.MAX_ATTEMPTS
        if journal.fail_task(task, reason, error=error, outstanding=outstanding, now=now):
            _finish(task, Kind.COMPENSATION_FAILED, error=error | {"reason": reason.value}, now=now)


def run_task(
    task_id: int, client: Client, *, deadline: Deadline, clock: Callable[[], datetime] = db_now
) -> Undone | None:
    """Claim a task, undo its step, and store what came of it; None when somebody else has the task."""
    task = atomic_retry(lambda: journal.claim_task(task_id, now=clock()))
    if task is None:
        return None
    result = undo.undo(wanted_of(task), client, deadline=deadline, now=clock, key=lambda: str(uuid.uuid4()))
    if result.weaker_promise:
        configuration.note_late_writes(task.resource, promise=result.weaker_promise, now=clock())
    atomic_retry(lambda: _store(task, result, client, now=clock()))
    called = Called(client.spec.remote, task.record_id, result.error_kind, result.detail)
    call_reports.report([called], now=clock())
    return result


def wanted_of(task: CompensatingTask) -> Wanted:
    """Return what a task is to undo."""
    return Wanted(
        external_id=task.occurrence_id,
        snapshot=task.snapshot,
        snapshot_version=task.snapshot_version,
        sent=task.applied if task.step.intended is None else task.step.intended,
        answered=task.applied,
        outstanding=tuple(Outstanding.from_json(stored) for stored in task.outstanding),
        answered_version=task.step.applied_version,
        force=task.force,
        looked_at=task.looked_at,
        fence_again=task.attempts < min(FENCE_RUNS, task.max_attempts),
    )


def _store(task: CompensatingTask, result: Undone, client: Client, *, now: datetime) -> None:
    """Turn the ending of one run into rows; a task taken over meanwhile changes nothing."""
    locked = records.lock([task.record_id])
    events.write_logs(
        [AttemptLog(task.record_id, task.resource_id, 0, task.attempts, f"undo_{result.ending.value}", result.code,
                    result.exchanges)]
    )  # fmt: skip
    state, policy = locked[task.record_id], client.spec.policy.compensation
    error = problem(result.code or result.ending.value, result.detail)
    match result.ending:
        case Ending.DONE if result.remote is not None:
            if journal.succeed_task(task, weaker_promise=result.weaker_promise, now=now):
                reading = Reading(state, result.remote, _base(state.base, task), client.spec)
                holding.advance([reading], now=now)
                _finish(task, Kind.COMPENSATION_SUCCEEDED, error=None, now=now, release=True)
        case Ending.FOREIGN if result.remote is not None:
            names = ", ".join(field.removeprefix("/") for field in result.foreign)
            error = problem("undo_conflict", f"Somebody else changed {names} after the step; a person must decide.")
            error |= {"reason": TaskReason.UNDO_CONFLICT.value}
            if journal.fail_task(task, TaskReason.UNDO_CONFLICT, error=error, outstanding=result.outstanding, now=now):
                open_conflicts.ask(
                    state,
                    result.remote,
                    Conflict.Reason.UNDO_CONFLICT,
                    base=task.applied,
                    fields=result.foreign,
                    now=now,
                )
                _finish(task, Kind.COMPENSATION_FAILED, error=error, now=now)
        case Ending.GONE:
            _fail(task, TaskReason.GONE, error, result, now=now)
        case Ending.REFUSED:
            _fail(task, TaskReason.REFUSED, error, result, now=now)
        case Ending.POSTPONED:
            wait_s = honour_retry_after(
                POSTPONE_S, retry_after_s=result.retry_after_s, cap_s=client.spec.policy.max_retry_after_s
            )
            due_at = result.not_before or now + timedelta(seconds=wait_s)
            _again(task, result, error, due_at=due_at, counted=False, now=now)
        case _:
            counted = task.resource.remote_id not in limits.blocked(now)  # else it says nothing about this undo
            if counted and task.attempts >= task.max_attempts:
                _fail(task, TaskReason.MAX_ATTEMPTS, error, result, now=now)
                return
            delay = exponential_delay_s(
                task.attempts, base_s=policy.base_s, cap_s=policy.cap_s, jitter=JITTER, chance=random.random()
            )
            wait_s = honour_retry_after(
                delay, retry_after_s=result.retry_after_s, cap_s=client.spec.policy.max_retry_after_s
            )
            _again(task, result, error, due_at=now + timedelta(seconds=wait_s), counted=counted, now=now)


def _again(
    task: CompensatingTask, result: Undone, error: Json, *, due_at: datetime, counted: bool, now: datetime
) -> None:
    """Leave the task for a later run; counted: whether this one was an attempt."""
    if journal.retry_task(task, due_at=due_at, counted=counted, error=error, outstanding=result.outstanding, now=now):
        kind = "compensation.retry_later" if counted else "compensation.postponed"
        log_outcome(kind, task, error=error, next_attempt_at=due_at.isoformat())


def _base(base: Json | None, task: CompensatingTask) -> Json | None:
    """Return the merge base after an undo: what the record agreed on before the step."""
    return base if base is not None else task.snapshot


def _fail(task: CompensatingTask, reason: TaskReason, error: Json, result: Undone, *, now: datetime) -> None:
    if journal.fail_task(task, reason, error=error, outstanding=result.outstanding, now=now):
        _finish(task, Kind.COMPENSATION_FAILED, error=error | {"reason": reason.value}, now=now)


def _finish(task: CompensatingTask, kind: Kind, *, error: Json | None, now: datetime, release: bool = False) -> None:
    """Write down how a task ended, and what that makes of its step, its record and its group."""
    if release:
        journal.set_step_status([task.step_id], StepStatus.UNDONE)
        holding.release([task.record_id], holder=holder_of(task), now=now)
    data = {"task": str(task.task_id), "request": task.request_id, "group": task.group_id,
            "group_pk": task.step.group_id, "attempts": task.attempts}  # fmt: skip
    told = data | ({"error": error} if error else {})
    facts = [Fact(kind, task.record_id, task.resource_id, data=told)]
    status = journal.settle_group(task.step.group_id, now=now)
    if status in {GroupStatus.ROLLED_BACK, GroupStatus.COMPENSATED}:
        facts.append(Fact(Kind.GROUP_ROLLED_BACK, task.record_id, task.resource_id, data=data | {"status": status}))
    events.write(facts, now=now)
    log_outcome(kind.value, task, error=error, group_status=status)


def log_outcome(event: str, task: CompensatingTask, *, error: Json | None, **more: Any) -> None:
    """Write one line for one outcome of a run, once it is committed; a failure for good is an error."""
    say = log.error if event == Kind.COMPENSATION_FAILED else log.info
    line = {
        "task": str(task.task_id), "request": task.request_id, "group": task.group_id,
        "occurrence": task.occurrence_id, "record_id": task.record_id, "resource_id": task.resource_id,
        "attempts": task.attempts, "max_attempts": task.max_attempts, "force": task.force,
        "code": (error or {}).get("code", ""), "reason": (error or {}).get("reason", ""),
    }  # fmt: skip
    transaction.on_commit(partial(say, event, **line, **more))


def recover(*, clock: Callable[[], datetime] = db_now) -> int:
    """Take over groups whose request died: still undecided means aborted. Returns how many."""
    assert_outside_transaction()
    taken = atomic_retry(lambda: journal.orphans(now=clock()))
    error = problem("interrupted", "The request died before it could decide; everything it sent is undone.")
    for group in taken:
        resources = Resource.objects.select_related("remote").filter(pk__in=group.steps.values("resource_id"))
        specs = {resource.pk: spec_for(resource) for resource in resources}
        atomic_retry(partial(_abort_orphan, group, specs, error, clock))
    if taken:
        doorbell.ring(COMPENSATE)
    return len(taken)


def _abort_orphan(group: Group, specs: Mapping[int, ResourceSpec], error: Json, clock: Callable[[], datetime]) -> None:
    decide.abort(group, [], specs, error=error, now=clock(), inline=False)


def anything_waits(now: datetime) -> bool:
    """Tell whether a task is due at a remote that may be called, or a dead holder's lease is over. Takes no locks."""
    if journal.leases_over(now=now):
        return True
    remotes = journal.remotes_due(now=now)
    return bool(remotes) and bool(remotes - limits.blocked(now).keys())
