"""A remote inside this process: objects, versions, a log of every write, faults by call, and third parties.

Owns the truth that the checker judges by. Calls are counted from 0 over the whole run, request and recovery; a fault, a
third party's write or a crash is scheduled by that number. A delayed write arrives later and is judged by its own
precondition at that moment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from syncportal.remote import writing
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Conflict, Missing, Rejected, RemoteError, ServerFault, Timeout, Unreachable
from syncportal.remote.payloads import EMPTY, Answer, Exchange, Headers, ReadResult, RemoteObject, WriteResult
from syncportal.remote.spec import ResourceSpec

Json = dict[str, Any]
_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_EXCHANGE = Exchange("test", "PUT", "http://remote/x", {}, None, 200, {}, None, 0, _AT, 1)


class Fault(StrEnum):
    """What can go wrong with one call; a read knows only the first four."""

    REFUSED = "refused"
    FAULT = "5xx"
    REJECTED = "4xx"
    TIMEOUT = "timeout"
    APPLIED_TIMEOUT = "applied, then timeout"
    DELAYED = "delayed apply"
    APPLIED_FAULT = "applied, then 5xx"


READ_FAULTS = (Fault.REFUSED, Fault.FAULT, Fault.REJECTED, Fault.TIMEOUT)
WRITE_FAULTS = (Fault.REFUSED, Fault.FAULT, Fault.REJECTED, Fault.APPLIED_TIMEOUT, Fault.DELAYED, Fault.APPLIED_FAULT)


class Author(StrEnum):
    """Who gave a field its present value."""

    START = "start"
    US = "us"
    THIRD = "third party"


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was made: for enumerating what can go wrong with it."""

    kind: str
    object_id: str


@dataclass(frozen=True, slots=True)
class Late:
    """A write on its way: what it would do, the version it expects, what its sender had read, when it must arrive."""

    object_id: str
    body: Json
    expected: str | None
    had_read: int
    at: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Landed:
    """One write that changed or touched an object. had_read: the log's length when its sender last read the object."""

    position: int
    object_id: str
    author: Author
    before: Json
    after: Json
    authors_before: dict[str, tuple[Author, int]]
    had_read: int


@dataclass(slots=True)
class Stored:
    """One object: content without version, its version, and who wrote each field and when."""

    data: Json
    version: int
    authors: dict[str, tuple[Author, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ThirdParty:
    """Somebody else's write before a call."""

    before_call: int
    object_id: str
    field: str


@dataclass
class FakeRemote:
    """The remote of one run. conditional: whether it honours preconditions; bumps: on equal writes too."""

    objects: dict[str, Stored]
    merge: bool = False
    conditional: bool = True
    bumps: bool = True
    shows: bool = True
    faults: Mapping[int, Fault] = field(default_factory=dict)
    thirds: tuple[ThirdParty, ...] = ()
    deliver_after: int = 1
    point: Callable[[str], None] = lambda label: None
    now: Callable[[], datetime] = lambda: _AT
    settle_s: float = 30.0
    calls: list[Call] = field(default_factory=list)
    log: list[Landed] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    read_at: dict[str, int] = field(default_factory=dict)
    history: dict[tuple[str, str], Json] = field(default_factory=dict)
    sending: Late | None = None

    def __post_init__(self) -> None:
        for object_id in self.objects:
            self._remember(object_id)

    def _remember(self, object_id: str) -> None:
        shown = self.shown(object_id)
        self.history[object_id, str(shown["version"])] = shown

    def shown(self, object_id: str) -> Json:
        """Return an object as a read shows it."""
        stored = self.objects[object_id]
        return {**stored.data, "version": stored.version}

    # --- writes landing

    def _land(self, object_id: str, after: Json, author: Author, *, had_read: int) -> None:
        stored = self.objects[object_id]
        position = len(self.log)
        self.log.append(
            Landed(position, object_id, author, stored.data, after, dict(stored.authors), had_read=had_read)
        )
        changed = {name for name in {*stored.data, *after} if stored.data.get(name) != after.get(name)}
        for name in changed:
            stored.authors[name] = (author, position)
        stored.data = after
        if changed or self.bumps:
            stored.version += 1
        self._remember(object_id)

    def write(self, write: Late) -> bool:
        """Apply one of our writes under its own precondition; False when it is refused as stale."""
        stored = self.objects[write.object_id]
        if self.conditional and write.expected is not None and write.expected != str(stored.version):
            return False
        if self.merge:
            merged = {**stored.data, **write.body}
            after = {name: value for name, value in merged.items() if value is not None}
        else:
            after = dict(write.body)
        self._land(write.object_id, after, Author.US, had_read=write.had_read)
        return True

    def interfere(self, third: ThirdParty) -> None:
        """Let somebody else change one field, to a value that nobody else writes."""
        stored = self.objects[third.object_id]
        value = f"third-{third.field}-{len(self.log)}"
        self._land(third.object_id, {**stored.data, third.field: value}, Author.THIRD, had_read=len(self.log))

    def deliver(self, which: Callable[[Late], bool] = lambda late: True) -> int:
        """Let delayed writes arrive; return how many were applied."""
        arriving = [late for late in self.late if which(late)]
        self.late = [late for late in self.late if late not in arriving]
        return sum(self.write(late) for late in arriving)

    def time_passes(self, now: datetime) -> None:
        """Let arrive what cannot be on its way any longer: where versions do not fence, only the settle window does."""
        if not (self.conditional and self.bumps):
            self.deliver(lambda late: late.until <= now)

    # --- the calls

    def begin(self, kind: str, object_id: str) -> Fault | None:
        """Count a call, let others act before it, and return what goes wrong with it."""
        index = len(self.calls)
        self.calls.append(Call(kind, object_id))
        self.point(f"http {kind} before send")
        self.deliver(lambda late: late.at <= index)
        self.time_passes(self.now())
        for third in self.thirds:
            # Without conditional writes the moment between reading and writing is open by nature, and published.
            if third.before_call == index and (self.conditional or kind == "read"):
                self.interfere(third)
        return self.faults.get(index)

    def crashed(self) -> None:
        """The process died: what it was sending may still arrive."""
        if self.sending is not None:
            self.late.append(self.sending)
            self.sending = None


class FakeClient:
    """The client of one resource at a FakeRemote, as `rollback.undo.Client` wants it."""

    sent = 0

    def __init__(self, remote: FakeRemote, spec: ResourceSpec) -> None:
        self.remote, self.spec = remote, spec

    def read(self, external_id: str, *, purpose: str, deadline: Deadline) -> ReadResult:
        """Read one object."""
        remote = self.remote
        fault = remote.begin("read", external_id)
        if fault is not None:
            raise _error(fault, is_write=False)
        if external_id not in remote.objects:
            raise Missing("The remote has no such object.", code="http_404", status=404)
        shown = remote.shown(external_id)
        remote.read_at[external_id] = len(remote.log)
        remote.point("http read before return")
        return ReadResult(_object(shown), Answer(200, Headers(), shown, _EXCHANGE))

    def update(
        self, external_id: str, *, data: Mapping[str, Any], base: Mapping[str, Any], expected_version: str | None,
        idempotency_key: str, deadline: Deadline,
    ) -> WriteResult:  # fmt: skip
        """Write one object as the spec says."""
        remote, spec = self.remote, self.spec
        fault = remote.begin("write", external_id)
        if fault in (Fault.REFUSED, Fault.FAULT, Fault.REJECTED, Fault.TIMEOUT):
            raise _error(fault, is_write=True)
        if external_id not in remote.objects:
            raise Missing("The remote has no such object.", code="http_404", status=404)
        merge = spec.semantics == "merge"
        body = writing.object_to_merge(spec, data, base=base) if merge else writing.object_to_replace(spec, data)
        until = remote.now() + timedelta(seconds=remote.settle_s)
        write = Late(
            external_id, body, expected_version if spec.conditional else None, remote.read_at.get(external_id, 0),
            len(remote.calls) - 1 + remote.deliver_after, until,
        )  # fmt: skip
        remote.sending = write
        remote.point("http write sent")
        remote.sending = None
        if fault is Fault.DELAYED:
            remote.late.append(write)
            raise _error(fault, is_write=True)
        applied = remote.write(write)
        remote.point("http write before return")
        if fault is not None:
            raise _error(fault, is_write=True)
        if not applied:
            raise Conflict("The object changed at the remote since it was read.", code="http_412", status=412)
        if not remote.shows:
            return WriteResult(None, None, Answer(204, Headers(), EMPTY, _EXCHANGE))
        shown = remote.shown(external_id)
        return WriteResult(_object(shown), str(shown["version"]), Answer(200, Headers(), shown, _EXCHANGE))


def _object(shown: Json) -> RemoteObject:
    return RemoteObject(str(shown["id"]), dict(shown), str(shown["version"]))


def _error(fault: Fault, *, is_write: bool) -> RemoteError:
    match fault:
        case Fault.REFUSED:
            return Unreachable("No connection.", code="refused")
        case Fault.REJECTED:
            return Rejected("The remote refused the request.", code="http_422", status=422)
        case Fault.FAULT | Fault.APPLIED_FAULT:
            return ServerFault("The remote failed.", code="http_500", status=500, maybe_applied=is_write)
        case _:
            return Timeout("No answer in time.", code="timeout", maybe_applied=is_write)
