"""The record's state machine as data: statuses, verbs, and which moves are legal.

The diagram in ARCHITECTURE.md is printed from VERBS; `transitions.py` executes them and nothing
else changes a status. A status has one label, one icon and one tone wherever it is shown.
"""

from dataclasses import dataclass

from django.db import models

from syncportal.kernel.machine import Verb, mermaid, verb


class Status(models.TextChoices):
    """Where a record stands with its master."""

    PENDING = "PENDING", "Pending"
    PROCESSING = "PROCESSING", "Processing"
    SYNCED = "SYNCED", "Synced"
    SKIPPED = "SKIPPED", "Skipped"
    RETRY_PENDING = "RETRY_PENDING", "Retry pending"
    ERROR = "ERROR", "Error"
    VALIDATION_FAILED = "VALIDATION_FAILED", "Validation failed"
    VERSION_CONFLICT = "VERSION_CONFLICT", "Version conflict"
    DEAD_LETTER = "DEAD_LETTER", "Dead letter"


class Intent(models.TextChoices):
    """What the next push will do at the master."""

    CREATE = "create", "Create"
    UPDATE = "update", "Update"
    DELETE = "delete", "Delete"


@dataclass(frozen=True, slots=True)
class Look:
    """How a status is shown: an icon's id, and one sentence on who acts next."""

    icon: str
    next_step: str


LOOKS: dict[str, Look] = {
    Status.PENDING: Look("clock", "Waits for a worker; nothing to do."),
    Status.PROCESSING: Look("sync", "Is being sent right now."),
    Status.SYNCED: Look("check", "Both sides agree."),
    Status.SKIPPED: Look("check", "The remote already held this content; nothing was sent."),
    Status.RETRY_PENDING: Look("retry", "Will be tried again by itself."),
    Status.ERROR: Look("cross", "The remote refused it. Correct the record or requeue it."),
    Status.VALIDATION_FAILED: Look("alert", "The remote's answer cannot be trusted. Check it, then requeue."),
    Status.VERSION_CONFLICT: Look("split", "Both sides changed. A person must decide."),
    Status.DEAD_LETTER: Look("stop", "All attempts failed. Requeue it when the cause is gone."),
}

IN_FLIGHT = frozenset({Status.PENDING, Status.PROCESSING, Status.RETRY_PENDING})
CLAIMABLE = frozenset({Status.PENDING, Status.RETRY_PENDING})
AGREED = frozenset({Status.SYNCED, Status.SKIPPED})
STOPPED = frozenset({Status.ERROR, Status.VALIDATION_FAILED, Status.VERSION_CONFLICT, Status.DEAD_LETTER})
_ALL = frozenset(Status)
_P = Status.PROCESSING

ARM = verb("arm", _ALL - {_P, Status.VERSION_CONFLICT}, [Status.PENDING], "a person or program saved")
CLAIM = verb("claim", CLAIMABLE, [_P], "a worker takes the due job; not while held")
COMPLETE = verb("complete", [_P], [Status.SYNCED, Status.PENDING], "our write is confirmed and its answer valid")
SKIP = verb("skip", [_P], [Status.SKIPPED, Status.PENDING], "the remote already held this content")
REBASE = verb("rebase", [_P], [Status.PENDING], "merged with the remote's changes without conflict")
RETRY_LATER = verb("retry_later", [_P], [Status.RETRY_PENDING], "transient failure, attempts left")
GIVE_UP = verb("give_up", [_P], [Status.DEAD_LETTER, Status.PENDING], "transient failure, no attempts left")
FAIL = verb("fail", [Status.PENDING, _P], [Status.ERROR, Status.PENDING], "permanent refusal, or the job cannot start")
REJECT = verb("reject", [_P], [Status.VALIDATION_FAILED, Status.PENDING], "the answer failed the validation pipeline")
MARK_CONFLICT = verb(
    "mark_conflict", _ALL - {Status.VERSION_CONFLICT}, [Status.VERSION_CONFLICT], "both sides changed the same field"
)
REFRESH = verb("refresh", _ALL - {_P, Status.VERSION_CONFLICT}, [], "a read is applied")
POSTPONE = verb("postpone", [_P], [Status.RETRY_PENDING], "throttled, paused or breaker open; attempt not counted")
RESCUE = verb("rescue", [_P], [Status.RETRY_PENDING, Status.DEAD_LETTER], "the lease is over: its worker died")
REQUEUE = verb(
    "requeue",
    [Status.ERROR, Status.DEAD_LETTER, Status.VALIDATION_FAILED, Status.RETRY_PENDING],
    [Status.PENDING],
    "an operator asks for another try",
)
RESOLVE = verb(
    "resolve", [Status.VERSION_CONFLICT], [Status.SYNCED, Status.PENDING], "a person or a policy settled the conflict"
)
HOLD = verb("hold", AGREED, [], "a group or a compensating task takes the record for itself")
RELEASE = verb("release", _ALL - {_P}, [], "the holder is done")

VERBS: tuple[Verb, ...] = (
    ARM, CLAIM, COMPLETE, SKIP, REBASE, RETRY_LATER, GIVE_UP, FAIL, REJECT, MARK_CONFLICT,
    REFRESH, POSTPONE, RESCUE, REQUEUE, RESOLVE, HOLD, RELEASE,
)  # fmt: skip

DIVERTED_WHEN_EDITED = frozenset({COMPLETE, SKIP, FAIL, REJECT, GIVE_UP})
"""Verbs that land in PENDING with attempts reset when the record was edited since the claim."""


def diagram() -> str:
    """Print the state machine as Mermaid, from the data above."""
    return mermaid(VERBS, start=Status.PENDING)
