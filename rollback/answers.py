"""How a grouped update is told to its client: one shape for the answer and for the live resource.

Everything is derived from the rows at the moment of asking, so `rolledBack` is never a memory.
"""

from collections.abc import Iterable
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects

from rollback.models import CompensatingTask, Group, GroupedUpdate, Step
from rollback.states import OPEN_TASKS, GroupStatus, StepStatus, TaskStatus

Json = dict[str, Any]

ORDER = (
    GroupStatus.RUNNING, GroupStatus.NEEDS_ATTENTION, GroupStatus.COMPENSATING, GroupStatus.COMPENSATED,
    GroupStatus.ROLLED_BACK, GroupStatus.REJECTED,
)  # fmt: skip
_UNDONE = frozenset({GroupStatus.REJECTED, GroupStatus.ROLLED_BACK, GroupStatus.COMPENSATED})
_UNDECIDED = frozenset({GroupStatus.APPLIED, GroupStatus.RUNNING})
_SHOWN = ("group_id", "position", "occurrence_id", "status", "applied_version", "error", "task__task_id",
          "task__step_id", "task__status", "task__reason", "task__next_attempt_at")  # fmt: skip
_GROUPS = Prefetch("groups", Group.objects.order_by())
_STEPS = Prefetch("groups__steps", Step.objects.select_related("task").only(*_SHOWN).order_by())
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


def render(request: GroupedUpdate) -> Json:
    """Return the request with its groups, results in the request's order and open tasks, as it stands now."""
    prefetch_related_objects([request], _GROUPS, _STEPS)  # no query where a list has fetched them
    groups = [_group(group) for group in sorted(request.groups.all(), key=lambda group: group.position)]
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


def _group(group: Group) -> Json:
    steps = sorted(group.steps.all(), key=lambda step: step.position)
    tasks = [step.task for step in steps if hasattr(step, "task")]
    count = sum(task.status in OPEN_TASKS for task in tasks)
    return {
        "groupId": group.group_id,
        "status": group.status,
        "rolledBack": rolled_back(group.status),
        "reconciliationQueued": count > 0,
        "reconciliationTaskCount": count,
        "error": group.error,
        "results": [_result(step, group.status) for step in steps],
        "reconciliationTasks": [_open_task(task) for task in tasks if task.status != TaskStatus.SUCCEEDED],
    }


def _result(step: Step, group_status: str) -> Json:
    status = StepStatus(step.status)
    if group_status == GroupStatus.RUNNING:
        status = _SHOWN_WHILE_RUNNING.get(status, status)
    result: Json = {"occurrenceId": step.occurrence_id, "status": status.value}
    if step.applied_version is not None:
        result["version"] = step.applied_version
    if hasattr(step, "task"):
        result["taskId"] = str(step.task.task_id)
    if step.error:
        result["error"] = step.error
    return result


def _open_task(task: CompensatingTask) -> Json:
    return {
        "taskId": str(task.task_id),
        "occurrenceId": task.occurrence_id,
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
