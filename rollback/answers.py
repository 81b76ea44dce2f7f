"""How a grouped update is told to its client: one shape for the answer and for the live resource.

Everything is derived from the rows at the moment of asking, so `rolledBack` is never a memory.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from rollback.models import CompensatingTask, Group, GroupedUpdate, Step
from rollback.states import OPEN_TASKS, GroupStatus, StepStatus, TaskStatus
from syncportal.kernel.bulk import among, read_rows

Json = dict[str, Any]
T = TypeVar("T")

ORDER = (
    GroupStatus.RUNNING, GroupStatus.NEEDS_ATTENTION, GroupStatus.COMPENSATING, GroupStatus.COMPENSATED,
    GroupStatus.ROLLED_BACK, GroupStatus.REJECTED,
)  # fmt: skip
_UNDONE = frozenset({GroupStatus.REJECTED, GroupStatus.ROLLED_BACK, GroupStatus.COMPENSATED})
_WITHOUT_TASKS = frozenset({GroupStatus.RUNNING, GroupStatus.APPLIED, GroupStatus.REJECTED})
_UNDECIDED = frozenset({GroupStatus.APPLIED, GroupStatus.RUNNING})
_SHOWN_WHILE_RUNNING = {StepStatus.PLANNED: StepStatus.UNTOUCHED, StepStatus.SENT: StepStatus.UNKNOWN}


def rolled_back(status: str) -> bool | None:
    """Return what a group's status says about undoing: null while open or applied, else whether all is undone."""
    if status in _UNDECIDED:
        return None
    return status in _UNDONE


def rolled_back_of_all(statuses: Iterable[str]) -> bool | None:
    """Return the same for a whole request: null if any runs or all are applied, else AND over those not applied."""
    found = list(statuses)
    rest = [status for status in found if status != GroupStatus.APPLIED]
    if not rest or GroupStatus.RUNNING in found:
        return None
    return all(status in _UNDONE for status in rest)


def top_status(statuses: Iterable[str]) -> str:
    """Return `applied` if all groups are, else the first that occurs in the contract's order."""
    found = set(statuses)
    return next((status.value for status in ORDER if status in found), GroupStatus.APPLIED.value)


def http_status(statuses: Iterable[str]) -> int:
    """Return 200 when every group is applied, 207 when any is not."""
    return 200 if all(status == GroupStatus.APPLIED for status in statuses) else 207


class _Group(NamedTuple):
    id: int
    request_id: int
    group_id: str
    status: str
    error: Json | None


class _Step(NamedTuple):
    id: int
    group_id: int
    occurrence_id: str
    status: str
    applied_version: str | None
    error: Json | None


class _Task(NamedTuple):
    """A task, and where its step and its group stand at the same moment."""

    step_id: int
    task_id: UUID
    status: str
    reason: str
    next_attempt_at: datetime | None
    step__status: str
    step__group_id: int
    step__group__status: str


def render(request: GroupedUpdate) -> Json:
    """Return the request with its groups, results in the request's order and open tasks, as it stands now."""
    return render_all([request])[0]


def render_all(requests: Sequence[GroupedUpdate]) -> list[Json]:
    """Return each request with its groups, as they stand now; a constant number of queries."""
    groups = [_Group(*row) for row in read_rows(Group, [one.pk for one in requests], _Group._fields, by="request")]
    steps = [_Step(*row) for row in read_rows(Step, [group.id for group in groups], _Step._fields, by="group")]
    aborted = {group.id for group in groups if group.status not in _WITHOUT_TASKS}
    tasks = _tasks(aborted)
    # An undo may have ended since the groups were read: an open group without open tasks would be no answer.
    now = {task.step__group_id: task.step__group__status for task in tasks.values()}
    groups = [group._replace(status=now.get(group.id, group.status)) for group in groups]
    steps = [step._replace(status=tasks[step.id].step__status) if step.id in tasks else step for step in steps]
    of_group = _gathered(steps, lambda step: step.group_id)
    shown = _gathered(groups, lambda group: group.request_id)
    return [_request(one, [_group(group, of_group[group.id], tasks) for group in shown[one.pk]]) for one in requests]


def _tasks(group_ids: Collection[int]) -> dict[int, _Task]:
    """Return the tasks of groups by their step's id, all as of one moment."""
    if not group_ids:
        return {}
    rows = CompensatingTask.objects.filter(step__group__in=among(group_ids)).order_by().values_list(*_Task._fields)
    return {row[0]: _Task(*row) for row in rows}


def _gathered(rows: Iterable[T], key: Callable[[T], int]) -> defaultdict[int, list[T]]:
    """Return rows by a key; each list in the order of the rows, which is that of the request."""
    found: defaultdict[int, list[T]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _request(request: GroupedUpdate, groups: list[Json]) -> Json:
    statuses = [group["status"] for group in groups]
    count = sum(group["reconciliationTaskCount"] for group in groups)
    return {
        "requestId": request.request_id,
        "status": top_status(statuses),
        "isolation": "none",
        "rolledBack": rolled_back_of_all(statuses),
        "reconciliationQueued": count > 0,
        "reconciliationTaskCount": count,
        "createdAt": request.created_at,
        "groups": groups,
    }


def _group(group: _Group, steps: Sequence[_Step], tasks: Mapping[int, _Task]) -> Json:
    its_tasks = [tasks[step.id] for step in steps if step.id in tasks]
    count = sum(task.status in OPEN_TASKS for task in its_tasks)
    return {
        "groupId": group.group_id,
        "status": group.status,
        "rolledBack": rolled_back(group.status),
        "reconciliationQueued": count > 0,
        "reconciliationTaskCount": count,
        "error": group.error,
        "results": [_result(step, group.status, tasks.get(step.id)) for step in steps],
        "reconciliationTasks": [
            _open_task(step, tasks[step.id])
            for step in steps
            if step.id in tasks and tasks[step.id].status != TaskStatus.SUCCEEDED
        ],
    }


def _result(step: _Step, group_status: str, task: _Task | None) -> Json:
    status = StepStatus(step.status)
    if group_status == GroupStatus.RUNNING:
        status = _SHOWN_WHILE_RUNNING.get(status, status)
    result: Json = {"occurrenceId": step.occurrence_id, "status": status.value}
    if step.applied_version is not None:
        result["version"] = step.applied_version
    if task is not None:
        result["taskId"] = str(task.task_id)
    if step.error:
        result["error"] = step.error
    return result


def _open_task(step: _Step, task: _Task) -> Json:
    return {
        "taskId": str(task.task_id),
        "occurrenceId": step.occurrence_id,
        "status": task.status,
        "reason": task.reason,
        "nextAttemptAt": task.next_attempt_at,
    }


def task_object(task: CompensatingTask, *, slugs: dict[int, str]) -> Json:
    """Return a compensating task as the contract names its fields. slugs: resources by id."""
    return {
        "taskId": str(task.task_id),
        "requestId": task.request_id,
        "groupId": task.group_id,
        "occurrenceId": task.occurrence_id,
        "resource": slugs[task.resource_id],
        "status": task.status,
        "reason": task.reason,
        "snapshot": task.snapshot,
        "applied": task.applied,
        "attempts": task.attempts,
        "maxAttempts": task.max_attempts,
        "nextAttemptAt": task.next_attempt_at,
        "lastError": task.last_error,
        "weakerPromise": task.weaker_promise,
        "createdAt": task.created_at,
        "updatedAt": task.updated_at,
        "succeededAt": task.succeeded_at,
    }
