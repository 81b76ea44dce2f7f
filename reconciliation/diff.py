"""Comparing two ordered sides, and what a difference between them is. Pure.

Ids are compared as UTF-8 bytes: Python compares text by code points, which is the same order. Equality is the
resource's comparator's, after its normalisers; null and absent are equal.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from reconciliation.states import Kind
from syncportal.kernel import pointer
from syncportal.kernel.pointer import MISSING
from syncportal.remote import versions
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec

Json = Mapping[str, Any]
LONGEST_VALUE = 4_000


class Keyed(Protocol):
    """Something with an id that orders it."""

    @property
    def external_id(self) -> str:
        """Return the id."""
        ...


L = TypeVar("L", bound=Keyed)
R = TypeVar("R", bound=Keyed)


@dataclass(frozen=True, slots=True)
class Pair(Generic[L, R]):
    """What both sides hold under one id: at most one of ours, any number of the remote's."""

    external_id: str
    local: L | None
    remote: tuple[R, ...]


def merge_join(local: Iterable[L], remote: Iterable[R]) -> Iterator[Pair[L, R]]:
    """Join two sides, each in ascending order of id; raises ValueError at the first row out of order.

    Reads both once and keeps no more than the rows of one id.
    """
    ours, theirs = _in_order(local, "local", once=True), _in_order(remote, "remote", once=False)
    here, there = next(ours, None), next(theirs, None)
    while here is not None or there is not None:
        key = min(row.external_id for row in (here, there) if row is not None)
        mine, found = None, []
        if here is not None and here.external_id == key:
            mine, here = here, next(ours, None)
        while there is not None and there.external_id == key:
            found.append(there)
            there = next(theirs, None)
        yield Pair(key, mine, tuple(found))


def _in_order(rows: Iterable[R], side: str, *, once: bool) -> Iterator[R]:
    last: str | None = None
    for row in rows:
        if last is not None and (row.external_id < last or (once and row.external_id == last)):
            raise ValueError(f"the {side} side is out of order: {row.external_id!r} after {last!r}")
        last = row.external_id
        yield row


def is_ascending(ids: Sequence[str], *, after: str) -> bool:
    """Tell whether ids go on in order behind `after`; the same id again is in order within a page."""
    return all(first <= second for first, second in zip(ids, ids[1:], strict=False)) and (not ids or ids[0] > after)


def compare(data: Json, version: str | None, shown: RemoteObject, *, spec: ResourceSpec) -> Kind | None:
    """Say how a record and its object differ, None when they match; a side without a version cannot drift."""
    if data != shown.data and not spec.comparator.equal(data, shown.data):
        return Kind.DATA_MISMATCH
    return Kind.VERSION_DRIFT if drifted(version, shown.version) else None


def drifted(known: str | None, shown: str | None) -> bool:
    """Tell whether both sides name a version and the two are not the same one."""
    return bool(known and shown) and versions.compare(known, shown) != "equal"


def differences(local: Json | None, remote: Json | None, *, spec: ResourceSpec) -> tuple[dict[str, Any], ...]:
    """Return the fields that differ as {pointer, local, remote}; all fields where one side is missing."""
    ours, theirs = local or {}, remote or {}
    fields = spec.comparator.fields(ours, theirs) if local is None or remote is None \
        else spec.comparator.differing(ours, theirs)  # fmt: skip
    return tuple(
        {"pointer": at, "local": _capped(pointer.get(ours, at, None)), "remote": _capped(pointer.get(theirs, at, None))}
        for at in fields
    )


def _capped(value: Any) -> Any:
    """Return a value as it may be kept in a finding: a very long text is cut with a mark."""
    if value is MISSING:
        return None
    text = value if isinstance(value, str) else str(value) if isinstance(value, list | dict) else ""
    return f"{text[:LONGEST_VALUE]}… ({len(text)} characters)" if len(text) > LONGEST_VALUE else value


def could_be(content: Json, shown: Json, *, spec: ResourceSpec) -> bool:
    """Tell whether an object may be the one that a create of ours made: everything that was sent came back."""
    sent = [at for at in spec.comparator.fields(content) if not spec.is_remote_only(at)]
    same = spec.comparator.same
    return all(same(at, pointer.get(content, at, None), pointer.get(shown, at, None)) for at in sent)
