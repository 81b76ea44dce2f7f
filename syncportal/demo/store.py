"""The demo master's data: collections, versions and the write log; the truth that tests compare with.

Owns: every object and every applied write. Guarantees: one lock over all of it, the check and the write are one step,
stored documents are never changed in place, each applied write is logged once and in order.
Does not: know HTTP, paging or faults.
"""

import bisect
import copy
import datetime as dt
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncportal.demo.journal import Journal, Write, read_journal
from syncportal.demo.schema import problems
from syncportal.demo.spec import Collection, Document
from syncportal.demo.versions import Held, content_of, etag_of, join_id, merged, rendered

__all__ = ["Origin", "Refused", "Store", "Write"]


class Refused(Exception):
    """The master refuses a request: HTTP status, a code for machines, a sentence, and errors per field."""

    def __init__(self, status: int, code: str, detail: str, *, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.errors = status, code, detail, tuple(errors)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes, for the log."""

    method: str = "EDIT"
    actor: str = "outside"
    idempotency_key: str = ""
    if_match: str = ""
    request_id: str = ""


Check = Callable[[Held | None], None]
OUTSIDE = Origin()
OUTSIDE_DELETE = Origin(method="DELETE")


class _Shelf:
    """The objects of one collection; ids are kept in the order in which lists show them."""

    def __init__(self, spec: Collection) -> None:
        self.spec = spec
        self.objects: dict[str, Held] = {}
        self.before: dict[str, Held] = {}
        self.gone: set[str] = set()
        self.order: list[str] = []
        self.taken: dict[tuple[str, str], str] = {}
        self.buried = 0
        self.made = 0

    def new_id(self) -> str:
        self.made += 1
        while f"{self.spec.id_prefix}{self.made:04d}" in self.objects:
            self.made += 1
        return f"{self.spec.id_prefix}{self.made:04d}"

    def rank(self, object_id: str) -> Any:
        if self.spec.order == "hashed":
            return hashlib.sha256(object_id.encode()).digest()
        return object_id.encode()

    def put(self, object_id: str, held: Held) -> None:
        old = self.objects.get(object_id)
        if old is None:
            bisect.insort(self.order, object_id, key=self.rank)
            self.gone.discard(object_id)
        else:
            self.before[object_id] = old
            self._forget(old)
        self.buried += held.buried
        self.objects[object_id] = held
        if not held.buried:
            for name in self.spec.unique:
                self.taken[(name, str(held.document.get(name)))] = object_id

    def drop(self, object_id: str) -> None:
        self._forget(self.objects.pop(object_id))
        self.order.remove(object_id)
        self.gone.add(object_id)

    def _forget(self, held: Held) -> None:
        self.buried -= held.buried
        for name in self.spec.unique:
            self.taken.pop((name, str(held.document.get(name))), None)


class Store:
    """All collections of one master. Every method may be called from any thread."""

    def __init__(
        self,
        collections: Iterable[Collection],
        *,
        write_log: Path | None = None,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.lock = threading.RLock()
        self._clock = clock
        self._shelves: dict[str, _Shelf] = {}
        self._writes: list[Write] = []
        self._journal = Journal(write_log)
        self._fill(collections)
        if write_log is not None:
            for write in read_journal(write_log):
                self._redo(write)

    def _fill(self, collections: Iterable[Collection]) -> None:
        self._shelves = {spec.name: _Shelf(spec) for spec in collections}
        for shelf in self._shelves.values():
            for row in shelf.spec.rows:
                object_id = join_id([row[name] for name in shelf.spec.id_fields])
                at = dt.datetime.fromisoformat(row["updated_at"]) if "updated_at" in row else self._clock()
                shelf.put(object_id, rendered(shelf.spec, row, number=1, at=at))
            shelf.made = len(shelf.objects)

    def _redo(self, write: Write) -> None:
        """Take a logged write over after a restart, without logging it again."""
        shelf = self._shelves.get(write.collection)
        self._writes.append(write)
        if shelf is None:
            return
        shelf.made += write.before is None
        if write.after is None:
            if write.object_id in shelf.objects:
                shelf.drop(write.object_id)
            return
        old = shelf.objects.get(write.object_id)
        number = (old.number if old else 0) + (write.version_before != write.version_after)
        buried = shelf.spec.tombstone is not None and write.method == "DELETE"
        at = dt.datetime.fromisoformat(write.wall)
        etag = etag_of(shelf.spec, write.after, write.version_after)
        shelf.put(write.object_id, Held(write.after, number, write.version_after, etag, at, buried))

    def reset(self, collections: Iterable[Collection]) -> None:
        """Begin again with other collections; the write log is emptied, its numbers start at 1."""
        with self.lock:
            self._writes.clear()
            self._journal.clear()
            self._fill(collections)

    def close(self) -> None:
        """Close the log file."""
        with self.lock:
            self._journal.close()

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────
    def names(self) -> tuple[str, ...]:
        """Name the collections."""
        return tuple(self._shelves)

    def spec(self, collection: str) -> Collection | None:
        """Return a collection's description, None when there is none of that name."""
        shelf = self._shelves.get(collection)
        return shelf.spec if shelf else None

    def held(self, collection: str, object_id: str) -> Held | None:
        """Return an object as stored, tombstones included."""
        return self._shelves[collection].objects.get(object_id)

    def held_before(self, collection: str, object_id: str) -> Held | None:
        """Return an object as it was before its last write, what a stale cache would serve."""
        return self._shelves[collection].before.get(object_id)

    def was_deleted(self, collection: str, object_id: str) -> bool:
        """Tell whether this id existed once and is gone."""
        shelf = self._shelves[collection]
        held = shelf.objects.get(object_id)
        return object_id in shelf.gone or (held is not None and held.buried)

    def get(self, collection: str, object_id: str) -> Document | None:
        """Return a copy of an object's document, None when missing."""
        held = self.held(collection, object_id)
        return copy.deepcopy(held.document) if held else None

    def all(self, collection: str) -> list[Document]:
        """Return copies of all documents in list order, tombstones included."""
        with self.lock:
            shelf = self._shelves[collection]
            return [copy.deepcopy(shelf.objects[object_id].document) for object_id in shelf.order]

    def listed(self, collection: str) -> list[str]:
        """Return the ids that a list shows, in its order. The list must not be changed."""
        with self.lock:
            shelf = self._shelves[collection]
            if not shelf.buried or shelf.spec.list_tombstones:
                return list(shelf.order)
            return [object_id for object_id in shelf.order if not shelf.objects[object_id].buried]

    def rank(self, collection: str, object_id: str) -> Any:
        """Return the sort key by which lists order an id."""
        return self._shelves[collection].rank(object_id)

    def writes(self, *, after: int = 0, collection: str = "", object_id: str = "", actor: str = "") -> list[Write]:
        """Return the applied writes in order, those with a number above `after`, optionally of one object or actor."""
        with self.lock:
            begin = bisect.bisect_right(self._writes, after, key=lambda write: write.seq)
            chosen = self._writes[begin:]
        return [
            write
            for write in chosen
            if (not collection or write.collection == collection)
            and (not object_id or write.object_id == object_id)
            and (not actor or write.actor == actor)
        ]

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────
    def create(
        self, collection: str, document: Mapping[str, Any], *, by: Origin = OUTSIDE, check: Check | None = None
    ) -> Write:
        """Add an object; without id fields in the document the server makes the id. Raises Refused (409, 422)."""
        with self.lock:
            shelf = self._shelves[collection]
            given = dict(document)
            if any(given.get(name) is None for name in shelf.spec.id_fields):
                given[shelf.spec.id_fields[-1]] = shelf.new_id()
            object_id = join_id([given[name] for name in shelf.spec.id_fields])
            current = shelf.objects.get(object_id)
            if check is not None:
                check(current)
            if current is not None and not current.buried:
                raise Refused(409, "duplicate", f"{object_id} exists already.")
            return self._put(shelf, object_id, given, by=by)

    def update(
        self,
        collection: str,
        object_id: str,
        changes: Mapping[str, Any],
        *,
        semantics: str = "merge",
        by: Origin = OUTSIDE,
        check: Check | None = None,
    ) -> Write:
        """Replace or merge an object after `check` saw the current one. Raises Refused (404, 410, 409, 412, 422)."""
        with self.lock:
            shelf = self._shelves[collection]
            current = shelf.objects.get(object_id)
            if check is not None:
                check(current)
            if current is None or current.buried:
                raise self.missing(collection, object_id)
            sent = {name: value for name, value in changes.items() if name not in shelf.spec.read_only}
            for name in shelf.spec.id_fields:
                if name in sent and str(sent[name]) != str(current.document[name]):
                    raise Refused(422, "id_mismatch", "The id cannot be changed.", errors=[(name, "cannot be changed")])
                sent[name] = current.document[name]
            if semantics == "merge":
                sent = merged(current.document, sent, null_removes=shelf.spec.null_removes)
            return self._put(shelf, object_id, sent, by=by)

    def delete(
        self,
        collection: str,
        object_id: str,
        *,
        by: Origin = OUTSIDE_DELETE,
        check: Check | None = None,
    ) -> Write:
        """Remove or bury an object. Raises Refused (404, 410, 412)."""
        with self.lock:
            shelf = self._shelves[collection]
            current = shelf.objects.get(object_id)
            if check is not None:
                check(current)
            if current is None or current.buried:
                raise self.missing(collection, object_id)
            if shelf.spec.tombstone is not None:
                name, value = shelf.spec.tombstone
                at = self._clock()
                after = {**current.document, name: value}
                held = rendered(shelf.spec, after, number=current.number + 1, at=at, buried=True)
                shelf.put(object_id, held)
                return self._log(shelf.spec.name, object_id, current, held, by=by, at=at)
            shelf.drop(object_id)
            return self._log(shelf.spec.name, object_id, current, None, by=by, at=self._clock())

    def edit(self, collection: str, object_id: str, changes: Mapping[str, Any]) -> Write:
        """Change an object as somebody else would: merged, without a precondition, checked like any write."""
        return self.update(collection, object_id, copy.deepcopy(dict(changes)), semantics="merge")

    def missing(self, collection: str, object_id: str) -> Refused:
        """Make the refusal for an id that is not there: 404, or the configured status once it was deleted."""
        spec = self._shelves[collection].spec
        status = spec.gone_status if self.was_deleted(collection, object_id) else 404
        return Refused(status, "gone" if status == 410 else "not_found", f"{object_id} is not in {collection}.")

    def _put(self, shelf: _Shelf, object_id: str, document: Document, *, by: Origin) -> Write:
        spec = shelf.spec
        wrong = problems(document, schema=spec.schema)
        if wrong:
            raise Refused(422, "invalid", "The object is not acceptable.", errors=wrong)
        current = shelf.objects.get(object_id)
        for name in spec.unique:
            holder = shelf.taken.get((name, str(document.get(name))), object_id)
            if holder != object_id:
                raise Refused(409, "duplicate", f"{name} is used by {holder}.", errors=[(name, "is taken")])
        at = self._clock()
        number = current.number + 1 if current else 1
        if current and not spec.no_change_bumps and content_of(spec, current.document) == content_of(spec, document):
            return self._log(spec.name, object_id, current, current, by=by, at=at)
        held = rendered(spec, document, number=number, at=at)
        shelf.put(object_id, held)
        return self._log(spec.name, object_id, current, held, by=by, at=at)

    def _log(
        self, collection: str, object_id: str, old: Held | None, new: Held | None, *, by: Origin, at: dt.datetime
    ) -> Write:
        write = Write(
            seq=self._writes[-1].seq + 1 if self._writes else 1,
            at=time.monotonic(),
            wall=at.isoformat(),
            collection=collection,
            object_id=object_id,
            method=by.method,
            before=old.document if old else None,
            after=new.document if new else None,
            version_before=old.version if old else None,
            version_after=new.version if new else None,
            idempotency_key=by.idempotency_key,
            if_match=by.if_match,
            request_id=by.request_id,
            actor=by.actor,
        )
        self._journal.append(write)
        self._writes.append(write)
        return write
