"""Runs and discrepancies as data: states, kinds, causes, directions, and which moves are legal. Pure.

A kind has one label wherever it is shown; `DIRECTIONS` says which repairs make sense for it at all.
"""

from collections.abc import Mapping
from types import MappingProxyType

from django.db import models

from syncportal.kernel.machine import Verb, mermaid, verb


class RunState(models.TextChoices):
    """Where a run stands."""

    RUNNING = "running", "Running"
    FINISHED = "finished", "Finished"
    BRAKED = "braked", "Finished, brake held"
    FAILED = "failed", "Could not run"
    CANCELLED = "cancelled", "Cancelled"


class Phase(models.TextChoices):
    """What a running run does now: reads the list, sorts what came unordered, confirms, or is done."""

    LISTING = "listing", "Comparing with the remote's list"
    SPOOLING = "spooling", "Reading a list that is not in order"
    SORTED_REST = "sorted_rest", "Comparing what was read out of order"
    READING = "reading", "Reading each object"
    CONFIRMING = "confirming", "Confirming differences"
    DONE = "done", "Done"


class Scope(models.TextChoices):
    """Which records a run looks at."""

    ALL = "all", "Everything"
    SELECTION = "selection", "A selection"
    SAMPLE = "sample", "A sample"


class Origin(models.TextChoices):
    """What started a run."""

    SCHEDULE = "schedule", "Timetable"
    PERSON = "person", "A person"
    PROGRAM = "program", "The API"
    COMMAND = "command", "A command"


class Kind(models.TextChoices):
    """How two sides differ; a match is counted and leaves no row."""

    VERSION_DRIFT = "version_drift", "Version drift"
    DATA_MISMATCH = "data_mismatch", "Data mismatch"
    MISSING_REMOTE = "missing_remote", "Missing at the remote"
    MISSING_LOCAL = "missing_local", "Missing here"
    DUPLICATE_KEY = "duplicate_key", "Duplicate key at the remote"
    INVALID_REMOTE = "invalid_remote", "Invalid at the remote"


class Cause(models.TextChoices):
    """Why two sides differ, as far as our own journal tells."""

    NEVER_PUSHED = "never_pushed", "Changed here and never pushed"
    CHANGED_REMOTELY = "changed_remotely", "Changed at the remote"
    OUR_WRITE_LOST = "our_write_lost", "Our write was lost"
    NORMALISED_BY_REMOTE = "normalised_by_remote", "The remote stored it differently"
    FORBIDDEN = "forbidden", "The remote does not show it to us"
    UNKNOWN = "unknown", "Our history cannot tell"


class State(models.TextChoices):
    """Where a discrepancy stands."""

    OPEN = "open", "Open"
    FIXED = "fixed", "Fixed"
    IGNORED = "ignored", "Ignored until it changes"
    CLOSED = "closed", "Closed by itself"


class Direction(models.TextChoices):
    """Which side a repair makes true."""

    TAKE_REMOTE = "take_remote", "Take the remote's values"
    PUSH_LOCAL = "push_local", "Push our values"


UNSETTLED = frozenset({State.OPEN, State.IGNORED})
_BOTH = (Direction.TAKE_REMOTE, Direction.PUSH_LOCAL)
DIRECTIONS: Mapping[str, tuple[Direction, ...]] = MappingProxyType(
    {
        Kind.VERSION_DRIFT: _BOTH,
        Kind.DATA_MISMATCH: _BOTH,
        Kind.MISSING_REMOTE: _BOTH,
        Kind.MISSING_LOCAL: (Direction.TAKE_REMOTE,),
        Kind.DUPLICATE_KEY: (),
        Kind.INVALID_REMOTE: (),
    }
)
"""What a person may choose. Two objects under one key, or one that fits no schema, are mended at the remote."""

UNEXPLAINED = frozenset({Kind.DUPLICATE_KEY, Kind.INVALID_REMOTE})
"""Kinds that our journal cannot explain: what the remote shows cannot be compared with what we hold."""

BROKEN_IF_MANY = (Kind.MISSING_REMOTE, Kind.DATA_MISMATCH)
"""Kinds that point to a broken list rather than to many changes when there are many of them."""

FINISH = verb("finish", [RunState.RUNNING], [RunState.FINISHED, RunState.BRAKED], "both sides were compared")
FAIL = verb("fail", [RunState.RUNNING], [RunState.FAILED], "the remote cannot be read")
CANCEL = verb("cancel", [RunState.RUNNING], [RunState.CANCELLED], "a person ends it early")
RUN_VERBS: tuple[Verb, ...] = (FINISH, FAIL, CANCEL)

FIND = verb("find", list(State), [State.OPEN], "confirmed by a single read; an ignored one stays while it is the same")
SETTLE = verb("settle", sorted(UNSETTLED), [State.CLOSED], "a later run found both sides agreeing")
FIX = verb("fix", [State.OPEN, State.IGNORED], [State.FIXED], "repaired by policy, by a plan or by a person")
IGNORE = verb("ignore", [State.OPEN], [State.IGNORED], "a person accepts it until it changes")
DISCREPANCY_VERBS: tuple[Verb, ...] = (FIND, SETTLE, FIX, IGNORE)


def diagrams() -> str:
    """Print both state machines as Mermaid."""
    runs = mermaid(RUN_VERBS, start=RunState.RUNNING)
    return runs + "\n" + mermaid(DISCREPANCY_VERBS, start=State.OPEN)
