"""What passes between the drain and the executor: frozen values, no database, no HTTP."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from syncportal.kernel.machine import Verb
from syncportal.remote.payloads import Exchange, RemoteObject
from syncportal.sync.validation import Verdict

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Send:
    """One write that left or is about to leave: the whole intended object and the version it expects."""

    operation: str
    content: Json | None
    version: str | None
    key: str
    sent_at: datetime

    def as_json(self) -> Json:
        """Return the shape stored on the job."""
        return {
            "operation": self.operation,
            "content": self.content,
            "version": self.version,
            "key": self.key,
            "sent_at": self.sent_at.isoformat(),
        }

    @classmethod
    def from_json(cls, stored: Json) -> "Send":
        """Rebuild a Send from the job's column."""
        return cls(
            operation=stored["operation"],
            content=stored["content"],
            version=stored["version"],
            key=stored["key"],
            sent_at=datetime.fromisoformat(stored["sent_at"]),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim's view of a record: everything that an attempt needs, read in the claim's transaction.

    `sends` are earlier, unsettled sends; `current` is what this claim will send.
    """

    record_id: int
    remote_id: int
    resource_id: int
    external_id: str | None
    intent: str
    data: Json
    base: Json | None
    version: str | None
    revision: int
    attempt: int
    max_attempts: int
    claim_no: int
    rebases: int
    sends: tuple[Send, ...]
    current: Send
    lease_until: datetime
    correlation_id: str = ""


@dataclass(frozen=True, slots=True)
class Logged:
    """One exchange of an attempt with the validation verdicts on its answer."""

    exchange: Exchange
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to; `settle.py` turns it into rows.

    base: the merge base for advancing the record (the content sent when the remote confirmed it,
    the effective base otherwise). gone: the object is deleted at the remote. sends: still unsettled.
    learnt_id: the id that an accepted create told, kept even when the rest of its answer cannot be trusted.
    """

    claim: Claim
    verb: Verb
    reason: str = ""
    detail: str = ""
    remote: RemoteObject | None = None
    base: Json | None = None
    gone: bool = False
    sends: tuple[Send, ...] = ()
    conflict_reason: str = ""
    error_kind: str = ""
    error_code: str = ""
    due_at: datetime | None = None
    pause: bool = False
    learnt_id: str | None = None
    exchanges: tuple[Logged, ...] = field(default=())
