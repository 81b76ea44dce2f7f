"""The one safe undo: restores what a step wrote, and nothing else. The same code inline and in the worker.

Reads before it writes, writes under the version just read, leaves alone what somebody else
changed, and ends only when no write of ours can still arrive. Running it twice changes nothing the
second time. HTTP only; the rows are `journal.py`'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from syncportal.kernel import pointer
from syncportal.remote import versions
from syncportal.remote.client import Deadline
from syncportal.remote.errors import (
    Conflict,
    Forbidden,
    InvalidResponse,
    Missing,
    Rejected,
    RemoteError,
    Throttled,
    Unauthorized,
)
from syncportal.remote.payloads import Exchange, ReadResult, RemoteObject, WriteResult
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.claims import Logged
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.validation import check_answer

Json = dict[str, Any]
READ_AGAIN = frozenset({"checksum", "older"})
MAX_REFUSALS = 3
MAX_ROUNDS = 8
FENCES = 2
UNFENCED = "The remote does not change the version on an equal write: only the settle window was waited for."
UNCONDITIONAL = "The remote has no conditional writes: only the settle window was waited for."


class Client(Protocol):
    """What an undo needs of a resource's client; `remote.gateway.ResourceClient` is one."""

    @property
    def spec(self) -> ResourceSpec: ...

    @property
    def sent(self) -> int: ...

    def read(self, external_id: str, *, purpose: str, deadline: Deadline) -> ReadResult: ...

    def update(
        self, external_id: str, *, data: Mapping[str, Any], base: Mapping[str, Any], expected_version: str | None,
        idempotency_key: str, deadline: Deadline,
    ) -> WriteResult: ...  # fmt: skip


class Ending(StrEnum):
    """How one run of an undo ended."""

    DONE = "done"
    FOREIGN = "foreign"
    GONE = "gone"
    REFUSED = "refused"
    LATER = "later"
    POSTPONED = "postponed"


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A write of ours that may still arrive: the version it expects, and when it left."""

    version: str | None
    sent_at: datetime

    def as_json(self) -> Json:
        """Return the shape stored on the task."""
        return {"version": self.version, "sent_at": self.sent_at.isoformat()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Outstanding":
        """Rebuild it from the task's column."""
        return cls(stored["version"], datetime.fromisoformat(stored["sent_at"]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be undone. sent: the content the step sent, its differences from the snapshot are what it wrote.

    answered: the content that came back, None if nothing did; it may show somebody else's fields as well.
    answered_version: the version that came back with it; a read that shows an older one proves nothing.
    force: overwrite others' changes too, but with looked_at only those that a person looked at.
    fence_again: a fence that the remote refuses is tried in another run before time settles what it was for.
    """

    external_id: str
    snapshot: Json
    snapshot_version: str | None
    sent: Json
    answered: Json | None
    outstanding: tuple[Outstanding, ...]
    answered_version: str | None = None
    force: bool = False
    looked_at: Json | None = None
    fence_again: bool = False


@dataclass(frozen=True, slots=True)
class Undone:
    """What one run came to. remote: the object as last read; foreign: fields that somebody else changed."""

    ending: Ending
    remote: RemoteObject | None = None
    foreign: tuple[str, ...] = ()
    outstanding: tuple[Outstanding, ...] = ()
    not_before: datetime | None = None
    code: str = ""
    detail: str = ""
    retry_after_s: float | None = None
    error_kind: str = ""
    weaker_promise: str = ""
    exchanges: tuple[Logged, ...] = ()


@dataclass(frozen=True, slots=True)
class Diff:
    """The fields a step wrote, by what the remote holds now."""

    restore: tuple[str, ...]
    foreign: tuple[str, ...]


def compare(wanted: Wanted, shown: Json, *, spec: ResourceSpec) -> Diff:
    """Tell for each field that the step wrote whether to restore it, leave it, or ask a person. Pure."""
    comparator = spec.comparator
    contents = (wanted.sent, wanted.sent if wanted.answered is None else wanted.answered)
    restore: list[str] = []
    foreign: list[str] = []
    for field in sorted(unsent_changes(wanted.snapshot, wanted.sent, comparator=comparator)):
        now, before = pointer.get(shown, field), pointer.get(wanted.snapshot, field)
        if comparator.same(field, now, before):
            continue
        ours = any(comparator.same(field, now, pointer.get(content, field)) for content in contents)
        agreed = wanted.force and (
            wanted.looked_at is None or comparator.same(field, now, pointer.get(wanted.looked_at, field))
        )
        (restore if ours or agreed else foreign).append(field)
    return Diff(tuple(restore), tuple(foreign))


def restored(shown: Json, wanted: Wanted, fields: tuple[str, ...]) -> Json:
    """Return the object just read with only these fields put back to the snapshot. Pure."""
    for field in fields:
        shown = pointer.put(shown, field, pointer.get(wanted.snapshot, field))
    return shown


def unfenced(
    outstanding: tuple[Outstanding, ...], version: str | None, *, spec: ResourceSpec
) -> tuple[Outstanding, ...]:
    """Return the writes that the remote would still accept, the object now standing at `version`. Pure.

    A conditional write dies with the version it expects; without conditional writes none ever does.
    One whose version is not recorded was an undo of a worker that died: under conditional writes the
    next restore or fence refuses it.
    """
    if not spec.conditional or version is None:
        return outstanding
    return tuple(
        o for o in outstanding if o.version is not None and versions.compare(o.version, version) in {"equal", "older"}
    )


def undo(
    wanted: Wanted, client: Client, *, deadline: Deadline, now: Callable[[], datetime], key: Callable[[], str]
) -> Undone:
    """Run one undo; raises nothing that a remote can cause. now: the database's time; key: fresh idempotency keys."""
    return _Run(wanted, client, deadline=deadline, now=now, key=key).run()


class _Run:
    """One run: read, restore, read again, fence."""

    def __init__(
        self,
        wanted: Wanted,
        client: Client,
        *,
        deadline: Deadline,
        now: Callable[[], datetime],
        key: Callable[[], str],
    ) -> None:
        self.wanted, self.client, self.spec = wanted, client, client.spec
        self.deadline, self.now, self.key = deadline, now, key
        self.exchanges: list[Logged] = []
        # What a clock that was set back has put into the future left by now at the latest.
        self.outstanding = tuple(replace(late, sent_at=min(late.sent_at, now())) for late in wanted.outstanding)
        self.sending: Outstanding | None = None
        self.refusals = self.rounds = 0
        self.accepted = False
        # A person who forces the restore has seen which version the remote shows, even one that went back.
        self.known_version = None if wanted.force else wanted.answered_version or wanted.snapshot_version

    def run(self) -> Undone:
        try:
            return self._rounds()
        except RemoteError as error:
            return self._failed(error)

    def _end(self, ending: Ending, **particulars: Any) -> Undone:
        particulars.setdefault("outstanding", self.outstanding)
        return Undone(ending, exchanges=tuple(self.exchanges), **particulars)

    def _rounds(self) -> Undone:
        """Read, write what is needed, and read again, until a read proves that nothing is left to do."""
        fences = refused = 0
        while self.refusals < MAX_REFUSALS and self.rounds < MAX_ROUNDS:
            self.rounds += 1
            shown = self._read()
            if shown is None:
                return self._end(Ending.GONE, detail="The remote no longer has this object.", code="gone")
            diff = compare(self.wanted, shown.data, spec=self.spec)
            if diff.restore:
                self._write(shown, restored(shown.data, self.wanted, diff.restore), base=shown.data)
                continue
            if diff.foreign:
                return self._end(Ending.FOREIGN, remote=shown, foreign=diff.foreign)
            if not self.accepted and self._seems_from_before(shown):
                self._fence(shown)  # refused as stale if the read was, and harmless else
                continue
            arriving = unfenced(self.outstanding, shown.version, spec=self.spec)
            if arriving and self.spec.conditional and shown.version is not None and fences == refused < FENCES:
                fences, refused = fences + 1, refused + (not self._fence(shown))
                continue
            if arriving and refused == FENCES and self.wanted.fence_again:
                detail = "The remote refuses the write that would keep a late one of ours out."
                return self._end(Ending.LATER, code="fence_refused", detail=detail)
            settled_at = self._settled_at(arriving)
            if settled_at is not None and self.now() < settled_at:
                detail = "A write of ours may still arrive; only time settles that."
                return self._end(Ending.POSTPONED, not_before=settled_at, code="settling", detail=detail)
            return self._done(shown, by_time=bool(arriving))
        detail = "The object changes faster than it can be restored."
        return self._end(Ending.LATER, code="keeps_changing", detail=detail)

    def _seems_from_before(self, shown: RemoteObject) -> bool:
        """Tell whether a read may be older than the step's confirmed write: it shows the version of the snapshot."""
        wanted = self.wanted
        confirmed = self.spec.conditional and wanted.answered_version not in (None, wanted.snapshot_version)
        return confirmed and not wanted.force and shown.version == wanted.snapshot_version

    def _settled_at(self, arriving: tuple[Outstanding, ...]) -> datetime | None:
        settle = timedelta(seconds=self.spec.policy.settle_s)
        return max((o.sent_at + settle for o in arriving), default=None)

    def _done(self, shown: RemoteObject, *, by_time: bool) -> Undone:
        """The undo is proven; say so when only time made it so."""
        weaker = "" if not by_time else UNFENCED if self.spec.conditional else UNCONDITIONAL
        return self._end(Ending.DONE, remote=shown, outstanding=(), weaker_promise=weaker)

    def _without_ours(self, data: Json) -> Json:
        """Return a base that makes a merge-style write send the fields of the step although they are equal."""
        for field in unsent_changes(self.wanted.snapshot, self.wanted.sent, comparator=self.spec.comparator):
            data = pointer.remove(data, field)
        return data

    def _read(self) -> RemoteObject | None:
        """Read and validate the object; None when two reads say that it is gone."""
        for last in (False, True):
            try:
                shown = self.client.read(self.wanted.external_id, purpose="undo_read", deadline=self.deadline)
            except Missing as error:
                self._log(error.exchange)
                if last:
                    return None
                continue
            report = check_answer(
                shown.answer, shown.object, spec=self.spec, expected_id=self.wanted.external_id,
                known_version=self.known_version,
            )  # fmt: skip
            self.exchanges.append(Logged(shown.answer.exchange, report.verdicts))
            failed = report.failed
            if failed is None:
                return shown.object
            if last or failed.code not in READ_AGAIN:
                raise InvalidResponse(failed.detail, code=failed.code)
        return None

    def _fence(self, shown: RemoteObject) -> bool:
        """Write the object back as it is; False when the remote refuses that, other than as stale."""
        try:
            self._write(shown, shown.data, base=self._without_ours(shown.data))
        except (Rejected, Forbidden) as refused:
            self.sending, self.accepted = None, True
            self._log(refused.exchange)
            return False
        return True

    def _write(self, shown: RemoteObject, target: Json, *, base: Json) -> None:
        """Write under the version just read; a refusal as stale, or because it is gone, means: read again."""
        self.sending = Outstanding(shown.version, self.now())
        try:
            result = self.client.update(
                self.wanted.external_id, data=target, base=base, expected_version=shown.version,
                idempotency_key=self.key(), deadline=self.deadline,
            )  # fmt: skip
        except (Conflict, Missing) as error:
            self.refusals += 1
            self._log(error.exchange)
        else:
            self._log(result.answer.exchange)
            self.accepted = True
        self.sending = None

    def _log(self, exchange: Exchange | None) -> None:
        if exchange is not None:
            self.exchanges.append(Logged(exchange))

    def _failed(self, error: RemoteError) -> Undone:
        self._log(error.exchange)
        if self.sending is not None and error.maybe_applied:
            self.outstanding = (*self.outstanding, self.sending)
        failed = self._end(Ending.LATER, code=error.code, detail=error.detail, retry_after_s=error.retry_after_s)
        failed = replace(failed, error_kind=str(error.kind))
        if isinstance(error, Throttled | Unauthorized):
            return replace(failed, ending=Ending.POSTPONED)
        if error.transient or isinstance(error, InvalidResponse):
            return failed
        return replace(failed, ending=Ending.REFUSED)
