"""How the statuses of groups, steps and tasks look: one label, icon and colour each, wherever they are shown."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.utils.safestring import SafeString

from rollback.models import CompensatingTask
from rollback.states import OPEN_TASKS, GroupStatus, StepStatus, TaskReason, TaskStatus
from syncportal.sync.screens.values import badge

SOON_S = 20
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


def next_step(task: CompensatingTask) -> tuple[str, str]:
    """Say in one sentence what happens next to a task, and who must act."""
    if task.status == TaskStatus.SUCCEEDED:
        return "Done: the fields that the step wrote are back at their values before it.", "Nobody"
    if task.status == TaskStatus.PROCESSING:
        return "A worker is undoing the step right now.", "Nobody"
    if task.status == TaskStatus.PENDING:
        return "The worker goes on by itself until the undo is proven.", "Nobody"
    return _FAILED.get(task.reason, _GIVEN_UP)


def pace(tasks: Iterable[CompensatingTask], *, now: datetime) -> int:
    """Return after how many seconds a page looks again by itself; 0: nothing will change without a person."""
    waiting = [task for task in tasks if task.status in OPEN_TASKS]
    soon = now + timedelta(seconds=SOON_S)
    if any(task.next_attempt_at is None or task.next_attempt_at < soon for task in waiting):
        return 2
    return 10 if waiting else 0


_GIVEN_UP = (
    "The worker has given up. Mend the cause and retry, force the restore, or close it with a reason.", "Operations",
)  # fmt: skip
_FAILED: dict[str, tuple[str, str]] = {
    TaskReason.CLOSED: ("A person closed it; the record is no longer held.", "Nobody"),
    TaskReason.RESOLVED: ("A person decided the conflict; the record is no longer held.", "Nobody"),
    TaskReason.UNDO_CONFLICT: (
        "A person must decide the conflict, force the restore, or close the task.",
        "The record's owner, or operations",
    ),
    TaskReason.GONE: (
        "The object no longer exists at the remote, and is never made anew by an undo. Close it with a reason.",
        "Operations",
    ),
}


def group_badge(status: str) -> SafeString:
    """Return a group's status."""
    return badge(*_GROUPS[status], str(GroupStatus(status).label))


def step_badge(status: str, *, task: CompensatingTask | None = None) -> SafeString:
    """Return a step's status; an undo that waits for a person, or was given up by one, is not called pending."""
    if status == StepStatus.UNDO_PENDING and task is not None and task.status == TaskStatus.FAILED_PERMANENT:
        if task.reason in (TaskReason.CLOSED, TaskReason.RESOLVED):
            return badge("info", "check", "Not undone; a person ended it")
        return badge("error", "alert", "Not undone; waits for a person")
    return badge(*_STEPS[status], str(StepStatus(status).label))


def task_badge(task: CompensatingTask) -> SafeString:
    """Return a task's status; one that a person ended does not look like one that waits for a person."""
    if task.status == TaskStatus.FAILED_PERMANENT and task.reason in (TaskReason.CLOSED, TaskReason.RESOLVED):
        return badge("info", "check", reason_words(task))
    return badge(*_TASKS[task.status], str(TaskStatus(task.status).label))


def reason_words(task: CompensatingTask) -> str:
    """Return why a task ended as it did, "" when there is nothing to say."""
    return str(TaskReason(task.reason).label) if task.reason in TaskReason.values else task.reason
