"""The only writer of GroupedUpdate, Group, Step and CompensatingTask: the write-ahead journal.

Every verb is a conditional UPDATE guarded by the status it starts from and by the holder's claim
number; False or an empty result means that somebody else took over. What a step will send is
committed here before it is sent. Callers provide the transaction where several verbs belong together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from rollback import states
from rollback.models import CompensatingTask, Group, GroupedUpdate, Step
from rollback.plan import Json, Plan
from rollback.states import GroupStatus, StepStatus, TaskReason, TaskStatus
from rollback.undo import Outstanding
from syncportal.kernel.bulk import update_rows
from syncportal.kernel.machine import Verb
from syncportal.sync.events import Actor
from syncportal.sync.transitions import AHEAD, LONGEST_LEASE

_RUNNING = "EXISTS (SELECT 1 FROM rollback_group g WHERE g.id = %s AND g.claim_no = %s AND g.status = 'running'"
GROUP_LEASE_S = 45.0
RENEW_S = GROUP_LEASE_S / 3  # a lease this far spent is renewed before more is sent
TASK_LEASE_S = 60.0


def prune(*, before: datetime, limit: int = 50) -> int:
    """Forget requests that were over for good before a time, with groups, steps and tasks; return how many went.

    Nothing that a worker or a person still has to end is removed, nor any request of which one part is.
    """
    unfinished = Group.objects.filter(
        Q(status__in=[GroupStatus.RUNNING, GroupStatus.COMPENSATING]) | Q(updated_at__gte=before)
    )
    settled = [TaskReason.CLOSED, TaskReason.RESOLVED]
    task_open = Q(status__in=sorted(states.OPEN_TASKS)) | (
        Q(status=TaskStatus.FAILED_PERMANENT) & ~Q(reason__in=settled)
    )
    waiting = CompensatingTask.objects.filter(task_open | Q(updated_at__gte=before))
    over = GroupedUpdate.objects.filter(created_at__lt=before).exclude(pk__in=unfinished.values("request_id"))
    over = over.exclude(pk__in=waiting.values("step__group__request_id")).order_by("pk")
    old = list(over.values_list("pk", flat=True)[:limit])
    GroupedUpdate.objects.filter(pk__in=old).delete()
    return len(old)


# --- groups ----------------------------------------------------------------------------------------------------------


def insert_request(
    plan: Plan, *, request_id: str, actor: Actor, correlation_id: str, now: datetime
) -> tuple[GroupedUpdate, list[Group]]:
    """Insert the request and its running groups; raises IntegrityError when the requestId was used before."""
    if actor.user_id is None:
        raise ValueError("a grouped update is asked for by a user")
    request = GroupedUpdate.objects.create(
        request_id=request_id, user_id=actor.user_id, actor_kind=actor.kind, actor_label=actor.label[:150],
        body_hash=plan.body_hash, correlation_id=correlation_id, created_at=now,
    )  # fmt: skip
    until = now + timedelta(seconds=GROUP_LEASE_S)
    groups = Group.objects.bulk_create(
        [
            Group(request=request, group_id=group.group_id, position=position, lease_until=until, created_at=now,
                  updated_at=now)
            for position, group in enumerate(plan.groups)
        ]
    )  # fmt: skip
    return request, groups


def insert_steps(steps: Iterable[Step]) -> list[Step]:
    """Insert the steps of a request."""
    return Step.objects.bulk_create(list(steps))


def renew(group: Group, *, now: datetime) -> None:
    """Prolong a running group's lease where a third of it is over; whoever recovered the group keeps it."""
    if group.lease_until is not None and group.lease_until - now > timedelta(seconds=GROUP_LEASE_S - RENEW_S):
        return
    until = now + timedelta(seconds=GROUP_LEASE_S)
    row = {"pk": group.pk, "claim_no": group.claim_no, "lease_until": until, "updated_at": now}
    update_rows(Group, [row], guard=("claim_no",), where="t.status = 'running'")
    transaction.on_commit(partial(setattr, group, "lease_until", until))  # one that is rolled back is made again


def _while_ours(group: Group) -> tuple[str, list[Any]]:
    """Return the condition that nobody recovered a running group, and its parameters.

    The group's row stays locked, so that whoever recovers it waits for what is written under this condition.
    """
    locked = " FOR NO KEY UPDATE)" if connection.vendor == "postgresql" else ")"
    return _RUNNING + locked, [group.pk, group.claim_no]


def _decide(group: Group, verb: Verb, status: GroupStatus, *, error: Json | None, now: datetime) -> bool:
    if status not in verb.targets:
        raise ValueError(f"{verb.name} does not lead to {status}")
    row = {"pk": group.pk, "claim_no": group.claim_no, "status": status.value, "error": error, "lease_until": None,
           "decided_at": now, "updated_at": now}  # fmt: skip
    sources = sorted(verb.sources)
    where = f"t.status IN ({', '.join(['%s'] * len(sources))})"
    return bool(update_rows(Group, [row], guard=("claim_no",), where=where, params=sources))


def apply(group: Group, *, now: datetime) -> bool:
    """Decide that the group is applied."""
    return _decide(group, states.APPLY, GroupStatus.APPLIED, error=None, now=now)


def reject(group: Group, *, error: Json, now: datetime) -> bool:
    """Decide that the group is rejected: nothing was written."""
    return _decide(group, states.REJECT, GroupStatus.REJECTED, error=error, now=now)


def abort(group: Group, *, error: Json, tasks: bool, now: datetime) -> bool:
    """Decide that the group is undone; with no task there is nothing to undo."""
    status = GroupStatus.COMPENSATING if tasks else GroupStatus.ROLLED_BACK
    return _decide(group, states.ABORT, status, error=error, now=now)


def orphans(*, now: datetime, limit: int = 20) -> list[Group]:
    """Take over running groups whose lease is over: their claim number grows, so the old holder stops."""
    rows: QuerySet[Group] = Group.objects.filter(_over(now), status=GroupStatus.RUNNING).order_by("pk")
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    taken = []
    for group in rows[:limit]:
        moved = Group.objects.filter(pk=group.pk, status=GroupStatus.RUNNING, claim_no=group.claim_no).update(
            claim_no=group.claim_no + 1,
            lease_until=now + timedelta(seconds=GROUP_LEASE_S),
            inline=False,
            updated_at=now,
        )
        if moved:
            group.claim_no += 1
            group.inline = False
            taken.append(group)
    return taken


def settle_group(group_id: int, *, now: datetime) -> str | None:
    """Derive an aborted group's status from its tasks; return it when it changed."""
    group = Group.objects.select_for_update().get(pk=group_id)
    if group.status not in states.SETTLE.sources:
        return None
    found = set(CompensatingTask.objects.filter(step__group_id=group_id).values_list("status", flat=True))
    if TaskStatus.FAILED_PERMANENT in found:
        status = GroupStatus.NEEDS_ATTENTION
    elif found & states.OPEN_TASKS:
        status = GroupStatus.COMPENSATING
    else:
        status = GroupStatus.ROLLED_BACK if group.inline else GroupStatus.COMPENSATED
    if status == group.status:
        return None
    Group.objects.filter(pk=group_id).update(status=status, updated_at=now)
    return status.value


def hand_over(group_id: int, *, now: datetime) -> int:
    """End the request's own undoing: tasks it did not reach are due for the worker at once."""
    Group.objects.filter(pk=group_id).update(inline=False)
    rows = CompensatingTask.objects.filter(step__group_id=group_id, status=TaskStatus.PENDING, claim_no=0)
    return rows.update(next_attempt_at=now, updated_at=now)


# --- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read before a step is applied, and what the step will send. key: not empty when it is sent next."""

    step_id: int
    data: Json
    version: str | None
    intended: Json
    key: str = ""


def keep_snapshots(group: Group, snapshots: Sequence[Snapshot], *, now: datetime) -> bool:
    """Commit the snapshots and the intended contents, and write ahead the steps that have a key.

    False: somebody recovered the group, so nothing may be sent.
    """
    renew(group, now=now)
    where, params = _while_ours(group)
    kept = update_rows(
        Step,
        [
            {"pk": s.step_id, "snapshot": s.data, "snapshot_version": s.version, "intended": s.intended, "key": s.key,
             "status": (StepStatus.SENT if s.key else StepStatus.PLANNED).value, "sent_at": now if s.key else None}
            for s in snapshots
        ],
        where=where,
        params=params,
    )  # fmt: skip
    return bool(kept)


@dataclass(frozen=True, slots=True)
class StepEnd:
    """What came of a step that was written ahead; untouched: it was never called after all.

    applied and version: None unless the remote confirmed it.
    """

    step_id: int
    status: StepStatus
    applied: Json | None = None
    version: str | None = None
    error: Json | None = None


def advance_steps(
    ends: Sequence[StepEnd], *, now: datetime, keys: Mapping[int, str] | None = None, group: Group | None = None
) -> bool:
    """Store what came of sent steps, and write ahead those that are sent next, each with its idempotency key.

    group: only while nobody recovered it; False says that somebody did, so nothing more may be sent.
    """
    where = "(v.status <> 'sent' OR t.status = 'planned')"
    params: list[Any] = []
    if group is not None:
        renew(group, now=now)
        ours, params = _while_ours(group)
        where += f" AND {ours}"
    rows: list[dict[str, Any]] = [
        {"pk": e.step_id, "status": e.status.value, "applied": e.applied, "applied_version": e.version,
         "error": e.error, "key": "", "sent_at": None}
        for e in ends
    ]  # fmt: skip
    rows += [
        {"pk": pk, "status": StepStatus.SENT.value, "applied": None, "applied_version": None, "error": None,
         "key": key, "sent_at": now}
        for pk, key in (keys or {}).items()
    ]  # fmt: skip
    moved = update_rows(
        Step,
        rows,
        where=where,
        params=params,
        computed={
            name: f"CASE WHEN v.status IN ('sent', 'untouched') THEN v.{name} ELSE t.{name} END"
            for name in ("key", "sent_at")
        },
    )
    return bool(moved)


def set_step_status(step_ids: Iterable[int], status: StepStatus) -> None:
    """Show where steps stand after the decision."""
    Step.objects.filter(pk__in=list(step_ids)).update(status=status)


# --- compensating tasks ----------------------------------------------------------------------------------------------


def insert_tasks(tasks: Sequence[CompensatingTask]) -> list[CompensatingTask]:
    """Insert the tasks of a decision to abort; part of the decision's transaction."""
    return CompensatingTask.objects.bulk_create(tasks)


def claim_task(task_id: int, *, now: datetime) -> CompensatingTask | None:
    """Take one pending task, due or not, and return it with its new claim number; None: somebody else has it."""
    task = CompensatingTask.objects.select_related("step", "resource").get(pk=task_id)
    moved = CompensatingTask.objects.filter(pk=task_id, status=TaskStatus.PENDING, claim_no=task.claim_no).update(
        status=TaskStatus.PROCESSING,
        claim_no=task.claim_no + 1,
        attempts=task.attempts + 1,
        lease_until=now + timedelta(seconds=TASK_LEASE_S),
        updated_at=now,
    )
    if not moved:
        return None
    task.claim_no, task.attempts, task.status = task.claim_no + 1, task.attempts + 1, TaskStatus.PROCESSING
    return task


def due_tasks(*, now: datetime, limit: int, blocked: Iterable[int] = ()) -> list[int]:
    """Return pending tasks whose time has come, oldest first. blocked: remotes that must not be called now."""
    rows = CompensatingTask.objects.filter(status=TaskStatus.PENDING, next_attempt_at__lte=now)
    rows = rows.exclude(resource__remote_id__in=list(blocked))
    return list(rows.order_by("next_attempt_at", "-pk").values_list("pk", flat=True)[:limit])


def remotes_due(*, now: datetime) -> set[int]:
    """Return the remotes that pending tasks are due at."""
    rows = CompensatingTask.objects.filter(status=TaskStatus.PENDING, next_attempt_at__lte=now).order_by()
    return set(rows.values_list("resource__remote_id", flat=True).distinct())


def leases_over(*, now: datetime) -> bool:
    """Tell whether a group's or task's holder seems to have died."""
    return _orphaned(now).exists() or Group.objects.filter(_over(now), status=GroupStatus.RUNNING).exists()


def _over(now: datetime) -> Q:
    """Match leases that have ended, and those of before the clock was set back: no lease is that long."""
    return Q(lease_until__lt=now) | Q(lease_until__gt=now + LONGEST_LEASE)


def set_back(*, now: datetime, limit: int = 1_000) -> int:
    """Let tasks written before the clock was set back wait from now on as long as they had to; in a transaction."""
    ahead = CompensatingTask.objects.filter(status=TaskStatus.PENDING, next_attempt_at__gt=now)
    moved = 0
    for task in ahead.filter(updated_at__gt=now + AHEAD).order_by("pk").only("next_attempt_at", "updated_at")[:limit]:
        wait = max(timedelta(0), (task.next_attempt_at or now) - task.updated_at)
        mine = ahead.filter(pk=task.pk, updated_at=task.updated_at)
        moved += mine.update(next_attempt_at=now + wait, updated_at=now)
    return moved


def _end_task(task: CompensatingTask, verb: Verb, status: TaskStatus, *, now: datetime, **changes: Any) -> bool:
    if status not in verb.targets:
        raise ValueError(f"{verb.name} does not lead to {status}")
    rows = CompensatingTask.objects.filter(pk=task.pk, status__in=sorted(verb.sources), claim_no=task.claim_no)
    return bool(rows.update(status=status, lease_until=None, updated_at=now, **changes))


def succeed_task(task: CompensatingTask, *, weaker_promise: str, now: datetime) -> bool:
    """The undo is proven."""
    reason = TaskReason.FORCED.value if task.force else ""
    return _end_task(
        task, states.TASK_SUCCEED, TaskStatus.SUCCEEDED, now=now, reason=reason, outstanding=[], next_attempt_at=None,
        succeeded_at=now, weaker_promise=weaker_promise, last_error=None,
    )  # fmt: skip


def retry_task(
    task: CompensatingTask,
    *,
    due_at: datetime,
    counted: bool,
    error: Json,
    outstanding: Sequence[Outstanding],
    now: datetime,
) -> bool:
    """Try again at `due_at`; counted: whether this run was an attempt."""
    return _end_task(
        task, states.TASK_RETRY, TaskStatus.PENDING, now=now, next_attempt_at=due_at, last_error=error,
        attempts=task.attempts if counted else task.attempts - 1, outstanding=[o.as_json() for o in outstanding],
    )  # fmt: skip


def fail_task(
    task: CompensatingTask, reason: TaskReason, *, error: Json, outstanding: Sequence[Outstanding], now: datetime
) -> bool:
    """Only a person can go on; the task keeps its hold."""
    return _end_task(
        task, states.TASK_FAIL, TaskStatus.FAILED_PERMANENT, now=now, reason=reason.value, next_attempt_at=None,
        last_error=error, outstanding=[o.as_json() for o in outstanding],
    )  # fmt: skip


def rescue_tasks(*, now: datetime, limit: int = 100) -> tuple[int, list[CompensatingTask]]:
    """Put tasks of dead workers back to pending; what the dead one may have sent, until now, counts as outstanding.

    Returns how many, and those that had their last attempt: they stay as they are, for the caller to end.
    """
    rescued, exhausted = 0, []
    lost = Outstanding(None, now)
    for task in _orphaned(now).order_by("pk")[:limit]:
        if task.attempts >= task.max_attempts:
            exhausted.append(task)
            continue
        rescued += _end_task(
            task, states.TASK_RESCUE, TaskStatus.PENDING, now=now, next_attempt_at=now,
            outstanding=[*task.outstanding, lost.as_json()],
        )  # fmt: skip
    return rescued, exhausted


def _orphaned(now: datetime) -> QuerySet[CompensatingTask]:
    return CompensatingTask.objects.filter(_over(now), status=TaskStatus.PROCESSING)


def reopen_task(
    task: CompensatingTask, *, force: bool, now: datetime, looked_at: Json | None = None, due_at: datetime | None = None
) -> bool:
    """An operator asks for another try; force: restore although somebody else changed the object to `looked_at`."""
    return _end_task(
        task, states.TASK_REOPEN, TaskStatus.PENDING, now=now, next_attempt_at=due_at or now, attempts=0, force=force,
        looked_at=looked_at, reason="",
    )  # fmt: skip


def close_task(task: CompensatingTask, reason: TaskReason, *, now: datetime) -> bool:
    """An operator closes the task for good, or the person's resolution of its conflict does."""
    return _end_task(
        task, states.TASK_CLOSE, TaskStatus.FAILED_PERMANENT, now=now, reason=reason.value, next_attempt_at=None
    )
