"""Bulk operations as data: states, the states of their rows, legal moves, and the steps of a ramp. Pure."""

from django.db import models

from syncportal.kernel.machine import Verb, verb


class State(models.TextChoices):
    """Where an operation stands."""

    DRAFT = "draft", "Preview"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    STOPPED = "stopped", "Stopped"
    CANCELLED = "cancelled", "Cancelled"


class RowState(models.TextChoices):
    """What became of one row. HANDED_OVER: asked for or sent, and its end is waited for."""

    WAITING = "waiting", "Not yet"
    HANDED_OVER = "handed_over", "Under way"
    DONE = "done", "Done"
    SKIPPED = "skipped", "Left out"
    FAILED = "failed", "Failed"


START = verb("start", [State.DRAFT], [State.RUNNING], "the person confirms the preview")
FINISH = verb("finish", [State.RUNNING], [State.DONE], "no row is left")
STOP = verb("stop", [State.RUNNING], [State.STOPPED], "a ramp met a failure")
GO_ON = verb("go_on", [State.STOPPED], [State.RUNNING], "the person goes on all the same")
CANCEL = verb("cancel", [State.DRAFT, State.RUNNING, State.STOPPED], [State.CANCELLED], "the person stops it")
VERBS: tuple[Verb, ...] = (START, FINISH, STOP, GO_ON, CANCEL)

RAMP = (1, 11, 111)
"""How many rows a ramp has let go after each step: 1, then 10, then 100, then the rest."""


def next_limit(allowed: int) -> int | None:
    """Return how many rows a ramp lets go next, None when that is all of them."""
    return next((limit for limit in RAMP if limit > allowed), None)
