"""The part of an attempt that reads and judges answers, and builds outcomes.

Split from `executor.py`, which owns the order of the steps; this owns what each answer is worth.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from syncportal.kernel import pointer
from syncportal.kernel.machine import Verb
from syncportal.remote.client import Deadline
from syncportal.remote.errors import RemoteError
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.payloads import Exchange, ReadResult, RemoteObject
from syncportal.sync import states
from syncportal.sync.claims import Claim, Json, Logged, Outcome, Send
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.models import Conflict
from syncportal.sync.validation import Report, Verdict, check_answer

APPLIED = "The remote applied it, local not updated: "
UNTOUCHED = "Nothing was sent: "
STILL_IN_DOUBT = "It is still unknown whether an earlier write arrived: "


class Stop(Exception):
    """The attempt is over; `outcome` says how."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Attempt:
    """State of one attempt: its exchanges, what it is sending, and the last verdicts."""

    def __init__(
        self,
        claim: Claim,
        client: ResourceClient,
        *,
        deadline: Deadline,
        now: datetime,
        chance: Callable[[], float],
    ) -> None:
        self.claim, self.client, self.spec = claim, client, client.spec
        self.deadline, self.now, self.chance = deadline, now, chance
        self.exchanges: list[Logged] = []
        self.unsettled: tuple[Send, ...] = claim.sends
        self.outdated: tuple[Send, ...] = ()
        self.sending: Send | None = None
        self.accepted = False
        self.learnt_id: str | None = None
        self._report: Report | None = None
        self._started = time.monotonic()

    def after(self, seconds: float) -> datetime:
        """Return the database's time `seconds` from this moment of the attempt."""
        return self.now + timedelta(seconds=time.monotonic() - self._started + seconds)

    # --- exchanges and verdicts

    def log(self, exchange: Exchange | None) -> None:
        """Keep an exchange for the sync log."""
        if exchange is not None:
            self.exchanges.append(Logged(exchange))

    def read(
        self, purpose: str, *, external_id: str | None = None, own_write: bool = False, again: bool = True
    ) -> ReadResult:
        """Read the object and validate it; an invalid one is read once more when that can help, then rejected.

        again=False: this already is the second look at the same content.
        """
        target = external_id or self.claim.external_id or ""
        for last in (False, True) if again else (True,):
            try:
                shown = self.client.read(target, purpose=purpose, deadline=self.deadline)
            except RemoteError as error:
                self._log_unless_caught_above(error)
                raise
            self.log(shown.answer.exchange)
            if not self.problem(shown, own_write=own_write, expected_id=target):
                return shown
            if last or not self.rereadable:
                raise Stop(self._invalid(shown.object))
        raise AssertionError("unreachable: the second pass returns or raises")

    def _log_unless_caught_above(self, error: RemoteError) -> None:
        """Log a Missing at once: callers catch it. Every other error is logged where it ends the attempt."""
        if error.kind == "missing":
            self.log(error.exchange)

    def problem(self, shown: ReadResult, *, own_write: bool, expected_id: str | None = None) -> Verdict | None:
        """Run the pipeline over an answer, keep its verdicts with the exchange, and return what failed.

        On reads an older version is no failure here: `decisions.judge` reads again and decides.
        """
        self._report = check_answer(
            shown.answer,
            shown.object,
            spec=self.spec,
            expected_id=expected_id or self.claim.external_id,
            known_version=self.claim.version if own_write else None,
        )
        if self.exchanges:
            self.exchanges[-1] = Logged(self.exchanges[-1].exchange, self._report.verdicts)
        return self._report.failed

    @property
    def rereadable(self) -> bool:
        """Tell whether the last failure may be a hiccup of the remote that a second read clears."""
        failed = self._report.failed if self._report else None
        return failed is not None and failed.code in {"checksum", "older"}

    def _invalid(self, shown: RemoteObject) -> Outcome:
        failed = self._report.failed if self._report else None
        if failed is not None and failed.code == "older":
            why = Conflict.Reason.STALE_REMOTE
            return self.conflict(why, remote=shown, base=self.claim.base, detail=failed.detail, sends=self.unsettled)
        return self.rejected_write() if self.sending else self._rejected(self.unwritten, self.unsettled)

    @property
    def unwritten(self) -> str:
        """Return how a rejection begins when this attempt wrote nothing."""
        return STILL_IN_DOUBT if self.claim.sends else UNTOUCHED

    # --- what a write came to

    def unlike(self, send: Send, shown: Json) -> tuple[str, ...]:
        """Return the fields that we changed and that came back different from what we sent."""
        sent, origin, comparator = send.content or {}, self.claim.base or {}, self.spec.comparator
        return tuple(
            field for field in comparator.differing(origin, sent)
            if not comparator.same(field, pointer.get(sent, field), pointer.get(shown, field))
        )  # fmt: skip

    def confirmed(self, shown: RemoteObject, send: Send) -> Outcome:
        """Our write is confirmed: what was sent becomes the base of whatever is still to be said.

        A replayed older send confirms its own content only; the newer one is pushed next.
        """
        older = self.claim.intent != send.operation or unsent_changes(
            send.content, self.claim.data, comparator=self.spec.comparator
        )
        return self.outcome(states.REBASE if older else states.COMPLETE, remote=shown, base=send.content)

    def not_as_sent(self, different: tuple[str, ...], shown: RemoteObject, send: Send) -> Outcome:
        """The write was accepted, but other values came back."""
        comparator, origin = self.spec.comparator, self.claim.base or {}
        names = ", ".join(different)
        untouched = all(
            comparator.same(field, pointer.get(origin, field), pointer.get(shown.data, field)) for field in different
        )
        if untouched and send.operation != states.Intent.CREATE:
            return self.fail("not_applied", f"The remote accepted the write but did not change {names}.")
        detail = f"The remote came back with other values in {names}."
        return self.conflict(Conflict.Reason.CONCURRENT_EDIT, remote=shown, base=self.claim.base, detail=detail)

    def after_error(self, error: RemoteError) -> tuple[Send, ...]:
        """Return what is unsettled after an error: the running send too if it was or may have been applied."""
        if self.sending is not None and (self.accepted or error.maybe_applied):
            return (*self.unsettled, self.sending)
        return self.unsettled

    # --- outcomes

    def outcome(self, verb: Verb, **particulars: Any) -> Outcome:
        """Build the outcome with everything that was exchanged."""
        learnt_id = self.learnt_id if self.claim.external_id is None else None
        return Outcome(self.claim, verb, exchanges=tuple(self.exchanges), learnt_id=learnt_id, **particulars)

    def failure(self, verb: Verb, error: RemoteError, reason: str, **particulars: Any) -> Outcome:
        """Build the outcome of a remote's error."""
        detail = error.detail
        if verb is states.REJECT:
            detail = (APPLIED if self.sending else self.unwritten) + detail
        return self.outcome(
            verb, reason=reason, detail=detail, error_kind=str(error.kind), error_code=error.code, **particulars
        )

    def fail(self, reason: str, detail: str, *, kind: str = "", code: str = "") -> Outcome:
        """Build the outcome of a permanent refusal; whatever was unsettled stays so."""
        return self.outcome(
            states.FAIL,
            reason=reason,
            detail=detail,
            error_kind=str(kind or "rejected"),
            error_code=code or reason,
            sends=self.unsettled,
        )

    def create_unknown(self, why: str = "", *, sent: bool = False) -> Outcome:
        """Nobody can tell whether the object was made: link it to an id, or send it again."""
        detail = why or "It is unknown whether the remote created the object."
        sends = (*self.unsettled, self.claim.current) if sent else self.unsettled
        return self.outcome(
            states.FAIL,
            reason="create_unknown",
            detail=f"{detail} Link the record to the remote's id, or send it again.",
            error_kind="invalid_response",
            error_code="create_unknown",
            sends=sends,
        )

    def conflict(
        self,
        why: str,
        *,
        remote: RemoteObject | None,
        base: Json | None,
        detail: str = "",
        sends: tuple[Send, ...] = (),
    ) -> Outcome:
        """Build the outcome that asks a person."""
        return self.outcome(
            states.MARK_CONFLICT,
            reason=str(why),
            conflict_reason=str(why),
            detail=detail or Conflict.Reason(why).label,
            remote=remote,
            base=base,
            sends=sends,
        )

    def rejected_write(self) -> Outcome:
        """The remote took our write, but its answer failed the pipeline: never re-sent by itself."""
        sends = (*self.unsettled, self.sending) if self.sending else self.unsettled
        return self._rejected(APPLIED, sends)

    def _rejected(self, prefix: str, sends: tuple[Send, ...]) -> Outcome:
        failed = self._report.failed if self._report else None
        detail, code = (failed.detail, failed.code) if failed else ("", "invalid_response")
        return self.outcome(
            states.REJECT,
            reason=code,
            detail=prefix + detail,
            error_kind="invalid_response",
            error_code=code,
            sends=sends,
        )
