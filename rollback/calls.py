"""What a group says to remotes: reading a snapshot, sending one step. HTTP only, no database."""

from dataclasses import dataclass, replace
from typing import Any

from rollback.states import StepStatus
from rollback.undo import READ_AGAIN, Client
from syncportal.kernel import pointer
from syncportal.remote.client import Deadline
from syncportal.remote.errors import RemoteError
from syncportal.remote.payloads import Answer, Exchange, RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.claims import Logged
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.local import merge_patch
from syncportal.sync.records import RecordState
from syncportal.sync.validation import check_answer, edit_problems

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One step as the calls need it."""

    step_id: int
    record_id: int
    occurrence_id: str
    changes: Json
    expected_version: str | None
    known_version: str | None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """A snapshot, or why there is none. error: {code, detail, httpStatus}."""

    target: Target
    shown: RemoteObject | None = None
    intended: Json | None = None
    error: Json | None = None
    error_kind: str = ""
    exchanges: tuple[Logged, ...] = ()

    def shows(self, state: RecordState | None) -> bool:
        """Tell whether it shows exactly what a record agreed on: this content under this version."""
        if self.shown is None or state is None or state.deleted_at is not None or state.version is None:
            return False
        return self.shown.version == state.version and self.shown.data == state.base


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a sent step. status: applied, failed (the remote refused for certain) or unknown."""

    target: Target
    status: StepStatus
    shown: RemoteObject | None = None
    error: Json | None = None
    error_kind: str = ""
    exchanges: tuple[Logged, ...] = ()


def problem(code: str, detail: str, *, http_status: int | None = None) -> Json:
    """Return the stored shape of an error."""
    return {"code": code, "detail": detail, "httpStatus": http_status}


def of_error(error: RemoteError) -> Json:
    """Return a remote's error as stored and answered: its kind is the stable code."""
    code = "version_mismatch" if error.kind == "conflict" else str(error.kind)
    return problem(code, error.detail, http_status=error.status)


def read_snapshot(target: Target, client: Client, *, deadline: Deadline) -> Read:
    """Read one object, once more where it seems older than we know it, check it, and compute what to send."""
    spec = client.spec
    exchanges: tuple[Logged, ...] = ()
    for last in (False, True):
        try:
            found = client.read(target.occurrence_id, purpose="snapshot", deadline=deadline)
        except RemoteError as refused:
            exchanges += _logged(refused.exchange)
            return Read(target, error=of_error(refused), error_kind=str(refused.kind), exchanges=exchanges)
        report = check_answer(
            found.answer, found.object, spec=spec, expected_id=target.occurrence_id, known_version=target.known_version
        )
        exchanges += (Logged(found.answer.exchange, report.verdicts),)
        if report.failed is None:
            break
        if last or report.failed.code not in READ_AGAIN:
            invalid = problem("invalid_response", report.failed.detail)
            return Read(target, error=invalid, error_kind="invalid_response", exchanges=exchanges)
    read = Read(target, shown=found.object, exchanges=exchanges)
    if target.expected_version is not None and target.expected_version != found.object.version:
        detail = f"The object stands at version {found.object.version}, not {target.expected_version}."
        return replace(read, error=problem("version_mismatch", detail))
    intended = merge_patch(found.object.data, target.changes)
    problems = edit_problems(intended, spec=spec, before=found.object.data)
    if problems:
        detail = "; ".join(f"{found.pointer}: {found.detail}" for found in problems[:5])
        return replace(read, error=problem("invalid", detail))
    return replace(read, intended=intended)


def send_step(target: Target, client: Client, *, intended: Json, snapshot: RemoteObject, deadline: Deadline) -> Sent:
    """Send one step under the version of its snapshot and judge the answer."""
    spec = client.spec
    exchanges: list[Logged] = []
    if not spec.conditional:
        # Without conditional writes the window between reading and writing is all we can keep small.
        again = read_snapshot(replace(target, expected_version=None), client, deadline=deadline)
        exchanges += again.exchanges
        if again.shown is None:
            return Sent(target, StepStatus.FAILED, None, again.error, again.error_kind, tuple(exchanges))
        if spec.comparator.differing(snapshot.data, again.shown.data):
            changed = problem("version_mismatch", "Somebody changed the object after it was read.")
            return Sent(target, StepStatus.FAILED, None, changed, "conflict", tuple(exchanges))
    try:
        result = client.update(
            target.occurrence_id, data=intended, base=snapshot.data, expected_version=snapshot.version,
            idempotency_key=target.key, deadline=deadline,
        )  # fmt: skip
    except RemoteError as error:
        status = StepStatus.UNKNOWN if error.maybe_applied else StepStatus.FAILED
        exchanges += _logged(error.exchange)
        return Sent(target, status, None, of_error(error), str(error.kind), tuple(exchanges))
    exchanges.append(Logged(result.answer.exchange))
    shown = result.object
    if shown is not None and shown.version is None and result.version is not None:
        shown = replace(shown, version=result.version)
    needs_version = spec.version.source != "none"
    if shown is None or (needs_version and shown.version is None) or _unlike(spec, snapshot.data, intended, shown.data):
        return _verify(target, client, intended, snapshot, exchanges, deadline=deadline)
    failure = _check(target, client, result.answer, shown, snapshot)
    if failure is not None:
        return Sent(target, StepStatus.UNKNOWN, None, failure, "invalid_response", tuple(exchanges))
    return Sent(target, StepStatus.APPLIED, shown, exchanges=tuple(exchanges))


def _verify(
    target: Target,
    client: Client,
    intended: Json,
    snapshot: RemoteObject,
    exchanges: list[Logged],
    *,
    deadline: Deadline,
) -> Sent:
    """Read what the accepted write left behind; what cannot be proven stays unknown, and is undone safely."""
    try:
        found = client.read(target.occurrence_id, purpose="verify", deadline=deadline)
    except RemoteError as error:
        exchanges += _logged(error.exchange)
        return Sent(target, StepStatus.UNKNOWN, None, of_error(error), str(error.kind), tuple(exchanges))
    exchanges.append(Logged(found.answer.exchange))
    failure = _check(target, client, found.answer, found.object, snapshot)
    different = _unlike(client.spec, snapshot.data, intended, found.object.data)
    if failure is None and different:
        failure = problem(
            "not_applied", f"The remote accepted the write, but shows other values in {', '.join(different)}."
        )
    if failure is not None:
        return Sent(target, StepStatus.UNKNOWN, None, failure, "", tuple(exchanges))
    return Sent(target, StepStatus.APPLIED, found.object, exchanges=tuple(exchanges))


def _check(target: Target, client: Client, answer: Answer, shown: RemoteObject, snapshot: RemoteObject) -> Json | None:
    report = check_answer(
        answer, shown, spec=client.spec, expected_id=target.occurrence_id, known_version=snapshot.version
    )
    return None if report.failed is None else problem("invalid_response", report.failed.detail)


def _unlike(spec: ResourceSpec, snapshot: Json, intended: Json, shown: Json) -> tuple[str, ...]:
    """Return the fields that the step changed and that came back different."""
    return tuple(
        field for field in unsent_changes(snapshot, intended, comparator=spec.comparator)
        if not spec.comparator.same(field, pointer.get(intended, field), pointer.get(shown, field))
    )  # fmt: skip


def _logged(exchange: Exchange | None) -> tuple[Logged, ...]:
    return () if exchange is None else (Logged(exchange),)
