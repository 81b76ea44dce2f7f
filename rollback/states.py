"""Statuses of groups, steps and compensating tasks, and their legal moves, as data."""

from django.db import models

from syncportal.kernel.machine import Verb, mermaid, verb


class GroupStatus(models.TextChoices):
    """Where a group stands, as clients see it."""

    RUNNING = "running", "Running"
    APPLIED = "applied", "Applied"
    REJECTED = "rejected", "Rejected"
    ROLLED_BACK = "rolled_back", "Rolled back"
    COMPENSATING = "compensating", "Compensating"
    COMPENSATED = "compensated", "Compensated"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"


class StepStatus(models.TextChoices):
    """Where one step stands; PLANNED to SENT are seen only while the group runs."""

    PLANNED = "planned", "Planned"
    SENT = "sent", "Sent"
    APPLIED = "applied", "Applied"
    UNDONE = "undone", "Undone"
    UNDO_PENDING = "undo_pending", "Undo pending"
    UNTOUCHED = "untouched", "Untouched"
    FAILED = "failed", "Failed"
    UNKNOWN = "unknown", "Unknown"


class TaskStatus(models.TextChoices):
    """Where a compensating task stands."""

    PENDING = "pending", "Pending"
    PROCESSING = "processing", "Processing"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED_PERMANENT = "failed_permanent", "Failed permanently"


class TaskReason(models.TextChoices):
    """Why a task ended, or ended the way it did."""

    MAX_ATTEMPTS = "max_attempts", "All attempts failed"
    UNDO_CONFLICT = "undo_conflict", "Somebody else changed the object"
    GONE = "gone", "The object no longer exists"
    REFUSED = "refused", "The remote refuses the undo"
    FORCED = "forced", "Restored by force"
    CLOSED = "closed", "Closed by a person"
    RESOLVED = "resolved", "A person resolved the conflict"


OPEN_TASKS = frozenset({TaskStatus.PENDING, TaskStatus.PROCESSING})
_UNDECIDED = [GroupStatus.COMPENSATING, GroupStatus.NEEDS_ATTENTION]

APPLY = verb("apply", [GroupStatus.RUNNING], [GroupStatus.APPLIED], "every step is applied")
REJECT = verb("reject", [GroupStatus.RUNNING], [GroupStatus.REJECTED], "refused before anything was written")
ABORT = verb("abort", [GroupStatus.RUNNING], [GroupStatus.COMPENSATING, GroupStatus.ROLLED_BACK],
             "a step failed, the deadline passed, or the request died")  # fmt: skip
SETTLE = verb("settle", _UNDECIDED,
              [GroupStatus.ROLLED_BACK, GroupStatus.COMPENSATED, GroupStatus.NEEDS_ATTENTION, GroupStatus.COMPENSATING],
              "a task ended or was opened again")  # fmt: skip
GROUP_VERBS: tuple[Verb, ...] = (APPLY, REJECT, ABORT, SETTLE)

TASK_CLAIM = verb("claim", [TaskStatus.PENDING], [TaskStatus.PROCESSING], "due, or the request's first run")
TASK_SUCCEED = verb("succeed", [TaskStatus.PROCESSING], [TaskStatus.SUCCEEDED], "the undo is proven")
TASK_RETRY = verb("retry_later", [TaskStatus.PROCESSING], [TaskStatus.PENDING], "transient failure, attempts left")
TASK_FAIL = verb("fail", [TaskStatus.PROCESSING], [TaskStatus.FAILED_PERMANENT], "only a person can go on")
TASK_RESCUE = verb("rescue", [TaskStatus.PROCESSING], [TaskStatus.PENDING], "the lease is over")
TASK_REOPEN = verb("retry_now", [TaskStatus.FAILED_PERMANENT, TaskStatus.PENDING], [TaskStatus.PENDING],
                   "an operator asks for another try, or forces the restore")  # fmt: skip
TASK_CLOSE = verb("close", [TaskStatus.FAILED_PERMANENT, TaskStatus.PENDING], [TaskStatus.FAILED_PERMANENT],
                  "an operator closes it with a reason")  # fmt: skip
TASK_VERBS: tuple[Verb, ...] = (
    TASK_CLAIM, TASK_SUCCEED, TASK_RETRY, TASK_FAIL, TASK_RESCUE, TASK_REOPEN, TASK_CLOSE,
)  # fmt: skip


def diagrams() -> str:
    """Print both state machines as Mermaid."""
    groups = mermaid(GROUP_VERBS, start=GroupStatus.RUNNING)
    return groups + "\n" + mermaid(TASK_VERBS, start=TaskStatus.PENDING)
