"""How the statuses of groups, steps and tasks look: one label, icon and colour each, wherever they are shown."""

from django.utils.safestring import SafeString

from rollback.models import CompensatingTask
from rollback.states import GroupStatus, StepStatus, TaskReason, TaskStatus
from syncportal.sync.screens.values import badge

_GROUPS: dict[str, tuple[str, str]] = {
    GroupStatus.RUNNING: ("info", "sync"),
    GroupStatus.APPLIED: ("success", "check"),
    GroupStatus.REJECTED: ("warning", "cross"),
    GroupStatus.ROLLED_BACK: ("success", "retry"),
    GroupStatus.COMPENSATING: ("warning", "clock"),
    GroupStatus.COMPENSATED: ("success", "retry"),
    GroupStatus.NEEDS_ATTENTION: ("error", "alert"),
}
_STEPS: dict[str, tuple[str, str]] = {
    StepStatus.PLANNED: ("info", "clock"),
    StepStatus.SENT: ("info", "sync"),
    StepStatus.APPLIED: ("success", "check"),
    StepStatus.UNDONE: ("success", "retry"),
    StepStatus.UNDO_PENDING: ("warning", "clock"),
    StepStatus.UNTOUCHED: ("info", "info"),
    StepStatus.FAILED: ("error", "cross"),
    StepStatus.UNKNOWN: ("warning", "alert"),
}
_TASKS: dict[str, tuple[str, str]] = {
    TaskStatus.PENDING: ("warning", "clock"),
    TaskStatus.PROCESSING: ("info", "sync"),
    TaskStatus.SUCCEEDED: ("success", "check"),
    TaskStatus.FAILED_PERMANENT: ("error", "alert"),
}
SENTENCES: dict[str, str] = {
    GroupStatus.RUNNING: "It is being carried out right now.",
    GroupStatus.APPLIED: "Every change was applied.",
    GroupStatus.REJECTED: "It was refused before anything was written.",
    GroupStatus.ROLLED_BACK: "A step failed, and everything sent was undone within the request.",
    GroupStatus.COMPENSATING: "A step failed. What was sent is being undone; the worker goes on until that is proven.",
    GroupStatus.COMPENSATED: "A step failed, and the worker has undone everything that was sent.",
    GroupStatus.NEEDS_ATTENTION: "A step failed, and not everything could be undone. A person must decide.",
}


def group_badge(status: str) -> SafeString:
    """Return a group's status."""
    return badge(*_GROUPS[status], str(GroupStatus(status).label))


def step_badge(status: str) -> SafeString:
    """Return a step's status."""
    return badge(*_STEPS[status], str(StepStatus(status).label))


def task_badge(task: CompensatingTask) -> SafeString:
    """Return a task's status; one that a person ended does not look like one that waits for a person."""
    if task.status == TaskStatus.FAILED_PERMANENT and task.reason in (TaskReason.CLOSED, TaskReason.RESOLVED):
        return badge("info", "check", reason_words(task))
    return badge(*_TASKS[task.status], str(TaskStatus(task.status).label))


def reason_words(task: CompensatingTask) -> str:
    """Return why a task ended as it did, "" when there is nothing to say."""
    return str(TaskReason(task.reason).label) if task.reason in TaskReason.values else task.reason
