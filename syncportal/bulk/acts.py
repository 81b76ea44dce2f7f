"""What can be done in bulk: each act says who may, what it leaves out and why, and does it for some rows at a time.

Owns: the registry. The modules that own the rows register their acts when Django starts; this room knows none of them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.module_loading import import_string

from syncportal.bulk.states import RowState

if TYPE_CHECKING:  # acts are registered before models can be loaded
    from django.contrib.auth.models import AnonymousUser
    from django.contrib.auth.models import User as DjangoUser

    Person = DjangoUser | AnonymousUser
else:
    Person = object

Parameters = Mapping[str, Any]
MOST = 20_000
"""How many rows one operation takes."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one row, with a few words for the person who asked."""

    state: RowState
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the preview says of one row: its kind, and `why` it would be left out ("" when it is taken)."""

    label: str
    icon: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """How one row is shown in the list of outcomes."""

    title: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why some rows failed, how many, and where more stands. new: not what the operation set out to mend."""

    title: str
    url: str
    count: int
    new: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """What rows that were let go wait for before they can end, and where one can help."""

    why: str
    url: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows to act on, for whom, and with which parameters."""

    ids: Sequence[int]
    parameters: Parameters
    user_id: int | None
    user_label: str
    user_kind: str = "user"


@dataclass(frozen=True, slots=True)
class Act:
    """One bulk act.

    nouns: one and many. home: URL name of the list it starts from. may: whether the person may do it at all; scope:
    those rows among some that the person may act on. run: acts in the caller's transaction and tells what became of
    every row. watch: how rows done earlier turned out (WAITING: not known yet), for ramps, and for acts that `follow`
    every row to its end because they only ask for something. form: asks for parameters; has a property `parameters`.
    details: what else the preview counts over the rows, such as fields. causes: why rows that failed did, the most
    frequent first. waits: what keeps rows that are let go from ending.
    """

    name: str
    label: str
    done: str
    nouns: tuple[str, str]
    promise: str
    home: str
    may: Callable[[Person], bool]
    scope: Callable[[Person, Sequence[int]], Collection[int]]
    preview: Callable[[Sequence[int], Parameters], Mapping[int, Verdict]]
    run: Callable[[Batch], Mapping[int, Result]]
    targets: Callable[[Sequence[int]], Mapping[int, Target]]
    watch: Callable[[Sequence[int]], Mapping[int, Result]] | None = None
    follow: bool = False
    form: type[forms.Form] | None = None
    details: "Callable[[Sequence[int], Parameters], Sequence[Part]] | None" = None
    causes: Callable[[Sequence[int], Parameters], Sequence[Cause]] | None = None
    waits: Callable[[Sequence[int]], Sequence[Wait]] | None = None


_paths: dict[str, str] = {}


class UnknownAct(LookupError):
    """This version does not know the act; the operation stays as it is."""


def register(paths: Mapping[str, str]) -> None:
    """Make acts known by name and dotted path; called when Django starts, so nothing is imported yet."""
    _paths.update(paths)


def act_of(name: str) -> Act:
    """Return an act; raises UnknownAct."""
    if name not in _paths:
        raise UnknownAct(name)
    act: Act = import_string(_paths[name])
    return act


def known() -> list[str]:
    """Return the names of all acts."""
    return sorted(_paths)


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the chosen rows that share a verdict."""

    label: str
    icon: str
    why: str
    count: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What an act would do now to the frozen rows."""

    taken: int
    parts: tuple[Part, ...]
    left_out: tuple[Part, ...]
    details: tuple[Part, ...] = ()

    @property
    def left_out_count(self) -> int:
        """Return how many rows are left out."""
        return sum(part.count for part in self.left_out)


GONE = Verdict("Gone or not yours", "stop", "it does not exist any more, or is not yours")
NOT_YOURS = Result(RowState.SKIPPED, "gone, or no longer yours")
ELSEWHERE = Result(RowState.SKIPPED, "another operation that runs now has it")


def preview_of(act: Act, ids: Sequence[int], *, user: Person, parameters: Parameters) -> Preview:
    """Count what the act takes and what it leaves out, and why; changes nothing."""
    scope = set(act.scope(user, ids)) if act.may(user) else set()
    mine = [pk for pk in ids if pk in scope]
    verdicts = act.preview(mine, parameters) if mine else {}
    counted = Counter(verdicts.get(pk, GONE) for pk in ids)
    parts = [Part(verdict.label, verdict.icon, verdict.why, count) for verdict, count in counted.most_common()]
    return Preview(
        taken=sum(part.count for part in parts if not part.why),
        parts=tuple(part for part in parts if not part.why),
        left_out=tuple(part for part in parts if part.why),
        details=tuple(act.details(mine, parameters)) if act.details is not None else (),
    )
