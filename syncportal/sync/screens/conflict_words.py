"""What a conflict is called in sentences: what happened, what each way out does, how it ended. Pure.

Owns: the wording for every reason, so that a record owner without technical knowledge can decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from syncportal.remote.normalizers import parse_time
from syncportal.sync.conflicts import Json
from syncportal.sync.models import Conflict
from syncportal.sync.resolve import Action
from syncportal.sync.screens.conflict_rows import Row
from syncportal.sync.states import Intent

_CHANGED_AT = ("updated_at", "updatedAt", "modified_at", "modifiedAt", "last_modified", "lastModified", "updated")
_CHANGED_BY = ("updated_by", "updatedBy", "modified_by", "modifiedBy", "last_modified_by", "lastModifiedBy")


@dataclass(frozen=True, slots=True)
class Way:
    """One way out for the whole record: its button, what it does, and what is lost by it."""

    label: str
    does: str
    gives_up: str = ""


@dataclass(frozen=True, slots=True)
class Sides:
    """What the three columns are called."""

    base: str
    local: str
    remote: str


def sides_of(conflict: Conflict) -> Sides:
    """Return the names of the three sides."""
    if conflict.reason == Conflict.Reason.UNDO_CONFLICT:
        return Sides("Written by the group", "Before the group", "At the remote now")
    return Sides("Last agreed", "Here", "At the remote")


def what_happened(conflict: Conflict, rows: Sequence[Row]) -> str:
    """Say in one sentence how the conflict came about."""
    names = listed([row.label for row in rows if row.must_choose])
    match conflict.reason:
        case Conflict.Reason.DELETED_REMOTE:
            return "The object was deleted at the remote, but it was changed or is still wanted here."
        case Conflict.Reason.DELETED_LOCAL:
            return "It was deleted here, but it was changed at the remote since both sides last agreed."
        case Conflict.Reason.STALE_REMOTE:
            return "The remote shows an older version than it did before. It may have been restored from a backup."
        case Conflict.Reason.VERSION_REUSE:
            return "The remote shows other content under the same version, so its versions cannot be trusted here."
        case Conflict.Reason.UNDO_CONFLICT:
            what = names or "a value"
            return f"A grouped update was being undone, but somebody else changed {what} before it could be put back."
    if names:
        was = "was" if sum(row.must_choose for row in rows) == 1 else "were"
        return f"{names} {was} changed both here and at the remote, to different values."
    if rows:
        return "Different fields were changed here and at the remote, and a person must say that they fit together."
    return "Both sides were changed, and by now they say the same. Either way out settles it."


def listed(names: Sequence[str], *, most: int = 3) -> str:
    """Return names as people list them: "city, credit and 4 more"."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def use_remote(conflict: Conflict, intent: str, rows: Sequence[Row]) -> Way:
    """Return the way that takes the remote's side."""
    if conflict.remote is None:
        return Way("Accept the deletion", "The record is deleted here, too. Nothing is sent.")
    if intent == Intent.DELETE:
        return Way("Keep the object", "The deletion is taken back, and the remote's values are used here.")
    lost = _changed(rows, local=True)
    if conflict.reason == Conflict.Reason.UNDO_CONFLICT:
        return Way("Leave it as the remote has it", "What somebody else wrote stays. Nothing is sent.")
    return Way("Use remote", "The remote's values are used here. Nothing is sent.",
               f"Given up here: {listed(lost, most=5)}." if lost else "")  # fmt: skip


def push_local(conflict: Conflict, intent: str, rows: Sequence[Row]) -> Way:
    """Return the way that sends the local side."""
    if conflict.remote is None:
        return Way("Create it again", "Your values are sent as a new object; its id may change.")
    if intent == Intent.DELETE:
        return Way("Delete it anyway", "The object is deleted at the remote, if it is still as shown here.")
    lost = _changed(rows, local=False)
    gives_up = f"Overwritten at the remote: {listed(lost, most=5)}." if lost else ""
    if conflict.reason == Conflict.Reason.UNDO_CONFLICT:
        return Way("Put the old values back", "The values from before the group are sent to the remote.", gives_up)
    return Way("Push local", "Your values are sent to the remote, if it is still as shown here.", gives_up)


def _changed(rows: Sequence[Row], *, local: bool) -> list[str]:
    """Return the fields that one side changed and the other way would give up."""
    names = []
    for row in rows:
        side = row.view.local if local else row.view.remote
        if side != row.view.base and row.view.local != row.view.remote:
            names.append(row.label)
    return names


def changed_there(remote: Json | None) -> tuple[datetime | None, str]:
    """Return when and by whom the object was last changed at the remote, as far as it says so under a usual name."""
    if remote is None:
        return None, ""
    found = next((parse_time(remote[name]) for name in _CHANGED_AT if name in remote), None)
    who: Any = next((remote[name] for name in _CHANGED_BY if isinstance(remote.get(name), str)), "")
    return (found if isinstance(found, datetime) else None), who


def done(conflict: Conflict, intent: str, action: str) -> str:
    """Return what a decision does, said when it was made."""
    taken = action == Action.USE_REMOTE
    if conflict.remote is None:
        return "the deletion is accepted." if taken else "the object is created again."
    if intent == Intent.DELETE and action != Action.MERGE:
        return "the object is kept." if taken else "the object is deleted at the remote."
    if taken:
        return "the remote's values are used here."
    return "the merged values are sent." if action == Action.MERGE else "your values are sent to the remote."


def resolution_words(conflict: Conflict) -> str:
    """Return how a conflict was resolved, "" while it is open."""
    if conflict.remote is None and conflict.resolution in _GONE:
        return _GONE[conflict.resolution]
    return {
        "use_remote": "The remote's values were used.",
        "push_local": "The local values were pushed.",
        "merge": "It was merged field by field.",
        "forced": "An operator restored the values from before the grouped update.",
        "closed": "An operator closed the undo and left the object as the remote has it.",
    }.get(conflict.resolution, conflict.resolution)


_GONE = {"use_remote": "The deletion was accepted.", "push_local": "The object was created again."}
