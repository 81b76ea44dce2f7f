"""How runs and discrepancies look: one label, icon and colour for each state and kind, and what a cause means."""

from django.utils.safestring import SafeString

from reconciliation.models import Discrepancy, Run
from reconciliation.states import Cause, Direction, Kind, RunState, State
from syncportal.sync.screens.values import badge

_RUNS: dict[str, tuple[str, str]] = {
    RunState.RUNNING: ("info", "sync"), RunState.FINISHED: ("success", "check"), RunState.BRAKED: ("warning", "alert"),
    RunState.FAILED: ("error", "cross"), RunState.CANCELLED: ("info", "pause"),
}  # fmt: skip
_STATES: dict[str, tuple[str, str]] = {
    State.OPEN: ("warning", "alert"), State.FIXED: ("success", "check"), State.IGNORED: ("info", "pause"),
    State.CLOSED: ("success", "check"),
}  # fmt: skip
KIND_SENTENCES: dict[str, str] = {
    Kind.VERSION_DRIFT: "Both sides hold the same values under different versions.",
    Kind.DATA_MISMATCH: "The two sides hold different values.",
    Kind.MISSING_REMOTE: "We have this record; the remote does not show the object.",
    Kind.MISSING_LOCAL: "The remote has this object; we have no record of it.",
    Kind.DUPLICATE_KEY: "The remote shows more than one object under this id.",
    Kind.INVALID_REMOTE: "The remote's object does not fit the resource's schema.",
}
CAUSE_SENTENCES: dict[str, str] = {
    Cause.NEVER_PUSHED: "Our history shows a change here that the remote never confirmed.",
    Cause.CHANGED_REMOTELY: (
        "Our history shows no write of ours that explains it, so it was most likely changed at the remote."
    ),
    Cause.OUR_WRITE_LOST: "Our history shows a confirmed write that the remote no longer holds.",
    Cause.NORMALISED_BY_REMOTE: (
        "The remote shows other values under the very version that our last write got, so it most likely stores them "
        "in another form than it confirmed."
    ),
    Cause.FORBIDDEN: "The remote answers our credential, but refuses to show this object: hidden, or deleted there.",
    Cause.UNKNOWN: "What the remote shows cannot be compared with ours, so our history does not explain it.",
}
WHAT_A_FIX_DOES: dict[tuple[str, str], str] = {
    (Kind.MISSING_REMOTE, Direction.TAKE_REMOTE): "The deletion is accepted: our record is marked deleted.",
    (Kind.MISSING_REMOTE, Direction.PUSH_LOCAL): "The object is created again at the remote; its id may change.",
    (Kind.MISSING_LOCAL, Direction.TAKE_REMOTE): "A record is made from the remote's object.",
    (Kind.MISSING_LOCAL, Direction.PUSH_LOCAL): "Our deletion is sent to the remote again.",
}
_PLAIN = {
    Direction.TAKE_REMOTE: "Our record takes the remote's values; nothing is sent.",
    Direction.PUSH_LOCAL: "Our values are sent to the remote like any edit.",
}


def run_badge(run: Run) -> SafeString:
    """Return where a run stands."""
    return badge(*_RUNS[run.state], str(RunState(run.state).label))


def state_badge(row: Discrepancy) -> SafeString:
    """Return where a discrepancy stands; one whose repair was asked for says so."""
    if row.wanted_at is not None:
        return badge("info", "sync", "Repair asked for")
    return badge(*_STATES[row.state], str(State(row.state).label))


def what_a_fix_does(kind: str, direction: str) -> str:
    """Say what a repair in a direction comes to."""
    return WHAT_A_FIX_DOES.get((kind, direction), _PLAIN[Direction(direction)])
