"""Before, applied and current values of the fields that a step wrote, side by side."""

from dataclasses import dataclass, replace

from rollback.compensate import wanted_of
from rollback.looking import Look
from rollback.models import CompensatingTask, Step
from rollback.plan import Json
from rollback.states import StepStatus, TaskReason
from rollback.undo import compare
from syncportal.kernel import pointer
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.local import merge_patch
from syncportal.sync.models import Conflict
from syncportal.sync.screens.record_parts import label_of
from syncportal.sync.screens.values import Shown, shown

_UNDER_WAY = frozenset({StepStatus.SENT, StepStatus.UNKNOWN, StepStatus.UNDO_PENDING})
_GIVEN_BACK = frozenset({TaskReason.CLOSED, TaskReason.RESOLVED})


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field. state: whether the current value is that "before", the "applied" one, an "other"; "" when unknown."""

    label: str
    before: Shown
    applied: Shown
    current: Shown
    state: str
    foreign: bool = False


def of_step(step: Step, *, spec: ResourceSpec, current: Json | None) -> list[FieldRow]:
    """Return the fields that a step changes. current None: not known."""
    applied = step.applied or step.intended or merge_patch(step.snapshot or {}, step.changes)
    return _rows(spec, step.snapshot or {}, applied, current)


def last_known(step: Step, *, task: CompensatingTask | None, undo_conflict: Conflict | None) -> Json | None:
    """Return what the remote was last seen to hold for a step's object; None when nobody can tell without looking.

    While the record is held its own base is older than the step; then the answers to the step and its undo count.
    """
    if undo_conflict is not None:
        return undo_conflict.remote
    held = step.status in _UNDER_WAY and not (task is not None and (task.succeeded_at or task.reason in _GIVEN_BACK))
    if not held:
        return step.record.base if step.record is not None else None
    if task is not None and (task.outstanding or task.reason == TaskReason.GONE):
        return None
    return step.applied


def of_task(task: CompensatingTask, *, spec: ResourceSpec, look: Look | None, current: Json | None) -> list[FieldRow]:
    """Return the fields that a task restores; with a look, those that somebody else changed are marked."""
    foreign: tuple[str, ...] = ()
    if look is not None and look.shown is not None:
        foreign = compare(replace(wanted_of(task), force=False), look.shown.data, spec=spec).foreign
        current = look.shown.data
    return _rows(spec, task.snapshot, task.applied, current, foreign=foreign)


def _rows(
    spec: ResourceSpec, before: Json, applied: Json, current: Json | None, *, foreign: tuple[str, ...] = ()
) -> list[FieldRow]:
    written = unsent_changes(before, applied, comparator=spec.comparator)
    return [
        FieldRow(
            label=label_of(spec, at),
            before=_value(before, at),
            applied=_value(applied, at),
            current=_value(current, at),
            state=_state(spec, at, before, applied, current),
            foreign=at in foreign,
        )
        for at in dict.fromkeys((*written, *foreign))
    ]


def _value(content: Json | None, at: str) -> Shown:
    return shown(None if content is None else pointer.get(content, at, None))


def _state(spec: ResourceSpec, at: str, before: Json, applied: Json, current: Json | None) -> str:
    if current is None:
        return ""
    now = pointer.get(current, at)
    if spec.comparator.same(at, now, pointer.get(before, at)):
        return "before"
    return "applied" if spec.comparator.same(at, now, pointer.get(applied, at)) else "other"
