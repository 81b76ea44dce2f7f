"""The decision about a group: made once, each in one transaction with everything that follows from it.

Locks records first. A decision that finds the group no longer running changes nothing: somebody
else made it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings

from rollback import holding, journal
from rollback.accept import holder_of
from rollback.calls import Read, Sent
from rollback.holding import Reading
from rollback.journal import StepEnd
from rollback.models import CompensatingTask, Group, Step
from rollback.plan import Json
from rollback.states import StepStatus
from rollback.undo import Outstanding
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync import events, records, transitions
from syncportal.sync.claims import Logged
from syncportal.sync.events import Actor, AttemptLog, Fact, Kind
from syncportal.sync.records import RecordState

SENT = frozenset({StepStatus.SENT, StepStatus.APPLIED, StepStatus.UNKNOWN})


def actor_of(group: Group) -> Actor:
    """Return who asked for the group."""
    request = group.request
    return Actor(request.actor_kind, request.user_id, request.actor_label)


def take_snapshots(
    steps: Sequence[Step],
    reads: Mapping[int, Read],
    specs: Mapping[int, ResourceSpec],
    *,
    locked: Mapping[int, RecordState],
    now: datetime,
) -> None:
    """Advance the locked records to what was read: a snapshot is a read like any other."""
    readings = _readings(steps, {pk: read.shown for pk, read in reads.items()}, specs, locked=locked)
    holding.advance(readings, now=now)


def _readings(
    steps: Sequence[Step],
    shown: Mapping[int, RemoteObject | None],
    specs: Mapping[int, ResourceSpec],
    *,
    locked: Mapping[int, RecordState],
) -> list[Reading]:
    """Pair each record with what its step read; the merge base is the record's own, never what the step sent."""
    found = []
    for step in steps:
        content, state = shown.get(step.pk), locked.get(step.record_id or 0)
        if content is not None and state is not None:
            found.append(Reading(state, content, state.base, specs[step.resource_id]))
    return found


def reject(group: Group, steps: Sequence[Step], *, error: Json, reads: Mapping[int, Read], now: datetime) -> bool:
    """Refuse a group before anything was written: records are given back, placeholders removed."""
    ids = [step.record_id for step in steps if step.record_id]
    locked = records.lock(ids)
    if not journal.reject(group, error=error, now=now):
        return False
    journal.set_step_status([step.pk for step in steps], StepStatus.UNTOUCHED)
    guilty = [step.pk for step in steps if step.occurrence_id == error.get("occurrenceId")]
    journal.set_step_status(guilty, StepStatus.FAILED)
    _log(steps, {pk: read.exchanges for pk, read in reads.items()}, "rejected")
    holding.release(ids, holder=holder_of(group), now=now)
    _remove_placeholders(steps, locked)
    _tell(group, [step for step in steps if not step.placeholder], Kind.GROUP_REJECTED, error=error, now=now)
    return True


def _remove_placeholders(steps: Sequence[Step], locked: Mapping[int, RecordState]) -> None:
    """Remove the records that were made for these steps, except those that somebody has edited meanwhile."""
    for step in steps:
        state = locked.get(step.record_id or 0)
        if step.placeholder and state is not None and (state.base is None or state.data == state.base):
            records.remove(state.id)


def apply(
    group: Group,
    steps: Sequence[Step],
    unwritten: Sequence[StepEnd],
    ends: Mapping[int, Sent],
    specs: Mapping[int, ResourceSpec],
    *,
    now: datetime,
) -> bool:
    """Decide that everything is applied: the records advance and are given back. steps: all, in order."""
    locked = records.lock(step.record_id for step in steps if step.record_id)
    if not journal.apply(group, now=now):
        return False
    journal.advance_steps(unwritten, now=now)
    holding.advance(_readings(steps, {pk: sent.shown for pk, sent in ends.items()}, specs, locked=locked), now=now)
    _log(steps, {pk: sent.exchanges for pk, sent in ends.items()}, "group_applied")
    holding.release(locked, holder=holder_of(group), now=now)
    _tell(group, steps, Kind.GROUP_APPLIED, error=None, now=now)
    return True


def abort(
    group: Group,
    unwritten: Sequence[StepEnd],
    specs: Mapping[int, ResourceSpec],
    *,
    error: Json,
    now: datetime,
    inline: bool,
    ends: Mapping[int, Sent] | None = None,
) -> bool:
    """Decide that everything sent is undone: the tasks are born here, newest step first, and take over the holds.

    inline: the request itself runs them first, so the worker waits until the request's budget is over.
    """
    journal_steps = list(group.steps.order_by("position"))
    locked = records.lock(step.record_id for step in journal_steps if step.record_id)
    ended = {end.step_id: end for end in unwritten}
    sent = [step for step in journal_steps if _was_sent(step, ended.get(step.pk))]
    if not journal.abort(group, error=error, tasks=bool(sent), now=now):
        return False
    journal.advance_steps(unwritten, now=now)
    due_at = now + timedelta(seconds=settings.GROUP_BUDGET_S) if inline else now
    tasks = [
        _task(group, step, ended.get(step.pk), specs[step.resource_id], due_at=due_at, now=now)
        for step in reversed(sent)
    ]
    for task in journal.insert_tasks(tasks):
        transitions.pass_hold(task.record_id, holder=holder_of(group), to=f"task:{task.task_id}", now=now)
    journal.set_step_status([step.pk for step in sent], StepStatus.UNDO_PENDING)
    unsent = [step for step in journal_steps if step not in sent]
    untouched = [step.pk for step in unsent if step.pk not in ended and step.status != StepStatus.FAILED]
    journal.set_step_status(untouched, StepStatus.UNTOUCHED)
    if ends:
        _log(journal_steps, {pk: one.exchanges for pk, one in ends.items()}, "group_aborted")
    holding.release([step.record_id for step in unsent if step.record_id], holder=holder_of(group), now=now)
    unfilled = [step for step in unsent if step.snapshot is None]
    _remove_placeholders(unfilled, locked)
    journal_steps = [step for step in journal_steps if not (step.placeholder and step in unfilled)]
    kind = Kind.GROUP_ABORTED if sent else Kind.GROUP_ROLLED_BACK
    _tell(group, journal_steps, kind, error=error, now=now)
    return True


def _was_sent(step: Step, end: StepEnd | None) -> bool:
    """Tell whether the step's write may stand at the remote: all that was sent and not refused for certain."""
    return (end.status if end is not None else StepStatus(step.status)) in SENT


def _task(
    group: Group, step: Step, end: StepEnd | None, spec: ResourceSpec, *, due_at: datetime, now: datetime
) -> CompensatingTask:
    if step.record_id is None:
        raise ValueError("a step that was sent has its record")
    status = end.status if end is not None else StepStatus(step.status)
    unknown = status is not StepStatus.APPLIED
    applied = (end.applied if end is not None else step.applied) or step.intended
    late = Outstanding(step.snapshot_version, now)  # at the latest: `sent` was committed before its call began
    return CompensatingTask(
        step=step, record_id=step.record_id, resource_id=step.resource_id, request_id=group.request.request_id,
        group_id=group.group_id, occurrence_id=step.occurrence_id, snapshot=step.snapshot,
        snapshot_version=step.snapshot_version, applied=applied, unknown=unknown,
        outstanding=[late.as_json()] if unknown else [], max_attempts=spec.policy.compensation.attempts,
        next_attempt_at=due_at, created_at=now, updated_at=now,
    )  # fmt: skip


def _log(steps: Sequence[Step], exchanges: Mapping[int, Sequence[Logged]], outcome: str) -> None:
    events.write_logs(
        AttemptLog(step.record_id, step.resource_id, 0, 0, outcome, "", exchanges[step.pk])
        for step in steps
        if step.record_id and not (step.placeholder and outcome == "rejected") and exchanges.get(step.pk)
    )


def _tell(group: Group, steps: Sequence[Step], kind: Kind, *, error: Json | None, now: datetime) -> None:
    data = {"request": group.request.request_id, "group": group.group_id, "group_pk": group.pk}
    if error:
        data["error"] = error
    events.write(
        [
            Fact(kind, step.record_id, step.resource_id, actor=actor_of(group), data=data | {"step": step.position})
            for step in steps
        ],
        now=now,
    )
