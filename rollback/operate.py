"""What operators do to compensating tasks and groups: retry now, force restore, close, send again.

Guarantees: each act names who and why in the history, in the transaction of the act; a forced restore overwrites only
the content that was looked at; closing gives the record back in agreement with the remote, or in doubt when the remote
cannot be read. Does not: check permissions (`visibility.may_operate` does), nor undo anything itself.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from rollback import holding, journal, looking, service
from rollback.compensate import COMPENSATE, holder_of, log_outcome
from rollback.holding import Reading
from rollback.looking import ClientFor, Look
from rollback.models import CompensatingTask, Group
from rollback.service import Performed
from rollback.states import GroupStatus, TaskReason, TaskStatus
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.gateway import client_for
from syncportal.remote.spec import spec_for
from syncportal.sync import conflict_store, events, records, transitions
from syncportal.sync.claims import Send
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status

LONGEST_WHY = 500
_FINAL = frozenset({TaskReason.CLOSED, TaskReason.RESOLVED})


class NotPossible(Exception):
    """The act does not fit; nothing was changed. The message says why."""


class StaleLook(Exception):
    """The object changed since you looked at it; nothing was changed. Look at the fresh values and decide again."""

    def __init__(self, look: Look) -> None:
        super().__init__(str(self.__doc__))
        self.look = look


def why_no_act(task: CompensatingTask) -> str:
    """Return why nothing can be done to a task now, "" when something can."""
    if task.status == TaskStatus.SUCCEEDED:
        return "The undo has succeeded; there is nothing left to do."
    if task.status == TaskStatus.PROCESSING:
        return "A worker is at it right now; look again in a moment."
    if task.reason in _FINAL:
        return "It is closed, and the record was given back. Change the record itself if something is still wrong."
    return ""


def why_no_retry(task: CompensatingTask) -> str:
    """Return why a task cannot be tried again, "" when it can."""
    if task.status == TaskStatus.FAILED_PERMANENT and task.reason == TaskReason.UNDO_CONFLICT:
        return "Somebody else changed the object: decide the conflict, force the restore, or close the task."
    return why_no_act(task)


def why_not_again(group: Group) -> str:
    """Return why a group cannot be sent again, "" when it can."""
    if group.status == GroupStatus.APPLIED:
        return "Everything is applied."
    if group.status in {GroupStatus.RUNNING, GroupStatus.COMPENSATING}:
        return "It is not at its end yet; wait until its tasks are done."
    if group.status == GroupStatus.NEEDS_ATTENTION and any(
        task.reason not in _FINAL for task in _tasks(group) if task.status == TaskStatus.FAILED_PERMANENT
    ):
        return "A failed task still holds one of its records: retry, force or close that one first."
    return ""


def _tasks(group: Group) -> list[CompensatingTask]:
    return list(CompensatingTask.objects.filter(step__group_id=group.pk).defer("snapshot", "applied"))


def retry_now(task_id: int, *, actor: Actor, why: str) -> None:
    """Make a waiting or failed task due now, with all its attempts; raises NotPossible."""

    def work(task: CompensatingTask, state: RecordState, now: datetime) -> None:
        _refuse(why_no_retry(task))
        if not journal.reopen_task(task, force=task.force, looked_at=task.looked_at, now=now):
            raise NotPossible("A worker took the task at the same moment.")
        _tell(Kind.COMPENSATION_RETRIED, task, actor=actor, why=why, now=now)

    _act(task_id, work)


def force_restore(task_id: int, *, seal: str, why: str, actor: Actor, client_of: ClientFor = client_for) -> None:
    """Restore the snapshot although somebody else changed the object; raises NotPossible or StaleLook.

    seal: of the look that the decision was made on. If the object changes once more before the restore, the task asks
    a person again.
    """
    task = _read(task_id)
    _refuse(why_no_act(task) or _why_missing(why))
    look = looking.look_at(task.resource, task.occurrence_id, client_of=client_of)
    shown = look.shown
    if shown is None:
        raise NotPossible(f"The object could not be read, so there is nothing to decide on. {look.problem}")
    if look.seal != seal:
        raise StaleLook(look)

    def work(task: CompensatingTask, state: RecordState, now: datetime) -> None:
        _refuse(why_no_act(task))
        if not journal.reopen_task(task, force=True, looked_at=shown.data, now=now):
            raise NotPossible("A worker took the task at the same moment.")
        _end_conflict(task, state, resolution="forced", actor=actor, now=now)
        _tell(Kind.COMPENSATION_FORCED, task, actor=actor, why=why, now=now,
              before=shown.data, after=task.snapshot)  # fmt: skip

    _act(task_id, work)


def close(task_id: int, *, why: str, actor: Actor, client_of: ClientFor = client_for) -> Look:
    """Give up an undo and give the record back as the remote shows it; return what was seen. Raises NotPossible.

    If the object cannot be read, the record's own job finds out what the remote holds before it sends anything.
    """
    task = _read(task_id)
    _refuse(why_no_act(task) or _why_missing(why))
    look = looking.look_at(task.resource, task.occurrence_id, client_of=client_of)

    def work(task: CompensatingTask, state: RecordState, now: datetime) -> None:
        _refuse(why_no_act(task))
        if not journal.close_task(task, TaskReason.CLOSED, now=now):
            raise NotPossible("A worker took the task at the same moment.")
        _end_conflict(task, state, resolution="closed", actor=actor, now=now)
        if look.shown is None:
            transitions.leave_in_doubt(task.record_id, send=_unsettled(task, state), now=now)
        else:
            spec = spec_for(task.resource)
            base = state.base if state.base is not None else task.snapshot
            if not holding.advance([Reading(state, look.shown, base, spec)], now=now):
                moved = records.states_of([task.record_id])[task.record_id]
                if spec.comparator.differing(moved.base or {}, moved.data):
                    transitions.arm([task.record_id], now=now)
        holding.release([task.record_id], holder=holder_of(task), now=now)
        _tell(Kind.COMPENSATION_CLOSED, task, actor=actor, why=why, now=now,
              reason=TaskReason.CLOSED.value, read=look.shown is not None)  # fmt: skip

    _act(task_id, work)
    return look


def conflict_decided(record_id: int, *, holder: str, actor: Actor, now: datetime) -> bool:
    """Close the task whose undo conflict a person just resolved; return whether that ends its hold.

    Part of the deciding transaction: `sync.holders` calls it with the record locked.
    """
    waiting = CompensatingTask.objects.filter(
        record_id=record_id, status=TaskStatus.FAILED_PERMANENT, reason=TaskReason.UNDO_CONFLICT
    )
    task = waiting.select_related("step").filter(task_id=holder.partition(":")[2]).first()
    if task is None or not journal.close_task(task, TaskReason.RESOLVED, now=now):
        return False
    _tell(Kind.COMPENSATION_CLOSED, task, actor=actor, why="", now=now, reason=TaskReason.RESOLVED.value)
    return True


def send_again(
    group_id: int,
    *,
    request_id: str,
    why: str,
    actor: Actor,
    client_of: ClientFor = client_for,
) -> Performed:
    """Send a group's changes once more as a new request, whatever versions the objects have now.

    request_id: the new request's; the same one twice has one effect. Raises NotPossible, and what `service.perform`
    raises.
    """
    group = Group.objects.select_related("request").get(pk=group_id)
    _refuse(why_not_again(group))
    steps = group.steps.select_related("resource").order_by("position")
    updates = [
        {"occurrenceId": step.occurrence_id, "resource": step.resource.slug, "changes": step.changes} for step in steps
    ]
    body = {"requestId": request_id, "groups": [{"groupId": group.group_id, "updates": updates}]}
    performed = service.perform(body, actor=actor, sees_all=True, client_of=client_of)
    if not performed.replayed:
        data = {"request": group.request.request_id, "group": group.group_id, "group_pk": group.pk,
                "new_request": request_id, "why": why[:LONGEST_WHY]}  # fmt: skip
        now = db_now()
        atomic_retry(lambda: events.write([Fact(Kind.GROUP_SENT_AGAIN, actor=actor, data=data)], now=now))
    return performed


def _read(task_id: int) -> CompensatingTask:
    return CompensatingTask.objects.select_related("step__group", "resource__remote").get(pk=task_id)


def _refuse(why_not: str) -> None:
    if why_not:
        raise NotPossible(why_not)


def _why_missing(why: str) -> str:
    return "" if why.strip() else "Say why: the reason is kept in the history."


def _act(task_id: int, work: Callable[[CompensatingTask, RecordState, datetime], None]) -> None:
    """Run an act on a task whose record is locked, settle its group, and wake a worker."""

    def transaction() -> None:
        now = db_now()
        record_id = CompensatingTask.objects.values_list("record_id", flat=True).get(pk=task_id)
        state = records.lock([record_id])[record_id]
        task = _read(task_id)
        work(task, state, now)
        journal.settle_group(task.step.group_id, now=now)

    atomic_retry(transaction)
    doorbell.ring(COMPENSATE)


def _end_conflict(task: CompensatingTask, state: RecordState, *, resolution: str, actor: Actor, now: datetime) -> None:
    """Close the conflict that the undo ran into, if it is still open: the act decides it."""
    conflict = conflict_store.open_of([task.record_id]).get(task.record_id)
    job = SyncJob.objects.select_for_update().get(pk=task.record_id)
    if conflict is None or job.status != Status.VERSION_CONFLICT or job.held_by != holder_of(task):
        return
    conflict_store.close(conflict.pk, resolution=resolution, choices={}, user_id=actor.user_id, now=now)
    spec = spec_for(task.resource)
    edited = bool(spec.comparator.differing(state.base or {}, state.data))
    target = Status.PENDING if edited else Status.SYNCED
    transitions.resolve(task.record_id, target=target.value, now=now, max_attempts=spec.policy.max_attempts)
    fact = Fact(Kind.CONFLICT_CLOSED, task.record_id, task.resource_id, actor=actor,
                data={"conflict": conflict.pk, "action": resolution})  # fmt: skip
    events.write([fact], now=now)


def _unsettled(task: CompensatingTask, state: RecordState) -> Send:
    """Return what makes the record's own job read before it sends.

    It carries the agreed content, not the step's: whatever the remote holds now counts as the remote's, so that giving
    up an undo never becomes one.
    """
    step, agreed = task.step, task.snapshot if state.base is None else state.base
    return Send(Intent.UPDATE.value, agreed, task.snapshot_version, step.key, step.sent_at or task.created_at)


def _tell(kind: Kind, task: CompensatingTask, *, actor: Actor, why: str, now: datetime, **more: Any) -> None:
    data = {"task": str(task.task_id), "request": task.request_id, "group": task.group_id,
            "group_pk": task.step.group_id, "why": why.strip()[:LONGEST_WHY], **more}  # fmt: skip
    events.write([Fact(kind, task.record_id, task.resource_id, actor=actor, data=data)], now=now)
    log_outcome(
        kind.value, task, error={"reason": more.get("reason", "")}, actor_kind=actor.kind, actor_id=actor.user_id
    )
