"""Who may hold records: the kinds of holders that the rooms above register when Django starts.

Owns: the register, keyed by the word before the colon of `SyncJob.held_by`. Guarantees: what a person decides about a
held record reaches its holder within the deciding transaction. Does not: hold or release anything; transitions.py does.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.utils.module_loading import import_string

if TYPE_CHECKING:  # registering happens before the models that `events` needs are loaded
    from syncportal.sync.events import Actor


@dataclass(frozen=True, slots=True)
class HolderKind:
    """One kind of holder.

    label: what people call it. decided: dotted path of `f(record_id, *, holder, actor, now) -> bool`, told that a
    person resolved the record's conflict, returning whether that ends the hold; "" when a decision never does.
    page: dotted path of `f(holder) -> str`, the address of its page for people, "" when there is none any more.
    """

    label: str
    decided: str = ""
    page: str = ""


_kinds: dict[str, HolderKind] = {}


def register(kind: str, holder: HolderKind) -> None:
    """Make a kind of holder known; once at start."""
    _kinds[kind] = holder


def _kind_of(holder: str) -> HolderKind | None:
    return _kinds.get(holder.partition(":")[0])


def label_of(holder: str) -> str:
    """Return what people call the holder in `held_by`."""
    kind = _kind_of(holder)
    return holder if kind is None else kind.label


def page_of(holder: str) -> str:
    """Return the address of the holder's page, "" when it has none."""
    kind = _kind_of(holder)
    return "" if kind is None or not kind.page else str(import_string(kind.page)(holder))


def ended_by_decision(record_id: int, *, holder: str, actor: "Actor", now: datetime) -> bool:
    """Tell a record's holder that its conflict was resolved; return whether the record is to be given back.

    Part of the deciding transaction, with the record and its job locked.
    """
    kind = _kind_of(holder)
    if kind is None or not kind.decided:
        return False
    return bool(import_string(kind.decided)(record_id, holder=holder, actor=actor, now=now))
