"""One attempt: everything that is said to a remote about one claim. HTTP only, no database.

Runs in a pool thread. Guarantees: nothing is re-sent blindly (an unknown outcome is read back first),
nothing is written over a change that was not read, and whatever happens comes back as an Outcome.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from syncportal.kernel import pointer
from syncportal.kernel.backoff import honour_retry_after, retry_delay_s
from syncportal.remote import versions
from syncportal.remote.client import Deadline
from syncportal.remote.errors import (
    Conflict as StaleWrite,
)
from syncportal.remote.errors import (
    Forbidden,
    InvalidResponse,
    Missing,
    Rejected,
    RemoteError,
    Throttled,
    Unauthorized,
)
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.payloads import ReadResult, RemoteObject, WriteResult
from syncportal.sync import states
from syncportal.sync.answers import Attempt, Stop
from syncportal.sync.claims import Claim, Outcome, Send
from syncportal.sync.conflicts import unsent_changes
from syncportal.sync.decisions import Decision, Next, judge, settles_at, still_open
from syncportal.sync.models import Conflict
from syncportal.sync.states import Intent

POSTPONE_S = 5.0


def attempt(
    claim: Claim,
    client: ResourceClient,
    *,
    deadline: Deadline,
    now: datetime,
    chance: Callable[[], float] = random.random,
) -> Outcome:
    """Try to push one claim and return what came of it; raises nothing that a remote can cause.

    now: the database's time when the attempt starts. chance: the jitter's source, in [0, 1).
    """
    return _Push(claim, client, deadline=deadline, now=now, chance=chance).run()


class _Push(Attempt):
    """The steps of one attempt, top-down."""

    def run(self) -> Outcome:
        """Settle what is in doubt, then write."""
        try:
            if self.claim.sends:
                return self._settle()
            return self._start()
        except Stop as stop:
            return stop.outcome
        except RemoteError as error:
            return self._failed(error)

    def _start(self) -> Outcome:
        claim = self.claim
        if claim.base is None:
            return self._gone("never_sent") if claim.intent == Intent.DELETE else self._create()
        nothing_to_say = claim.intent == Intent.UPDATE and not unsent_changes(
            claim.base, claim.data, comparator=self.spec.comparator
        )
        # A version in whole seconds may stand for two contents: what it guards is looked at as well.
        unguarded = claim.version is None or not self.spec.conditional or versions.is_coarse(claim.version)
        if nothing_to_say or unguarded:
            return self._compare("compare")
        return self._write()

    # --- reading first

    def _settle(self) -> Outcome:
        """Find out what became of earlier sends before anything is sent again."""
        if self.claim.external_id is None:
            return self._settle_create()
        return self._compare("read_back")

    def _compare(self, purpose: str, *, refused: bool = False) -> Outcome:
        """Read the object and do what the comparison says."""
        try:
            shown = self.read(purpose)
        except Missing:
            return self._missing()
        decision = judge(self.claim, shown.object, spec=self.spec, now=self.now, refused=refused)
        if decision.next is Next.REREAD:
            shown = self.read("reread")
            decision = judge(self.claim, shown.object, spec=self.spec, now=self.now, refused=refused, reread=True)
        return self._decided(decision, shown)

    def _decided(self, decision: Decision, shown: ReadResult) -> Outcome:
        content = shown.object
        match decision.next:
            case Next.SEND:
                self.unsettled = decision.sends
                return self._write()
            case Next.WAIT:
                return self._wait(decision)
            case Next.FENCE:
                return self._fence(decision, content)
            case Next.CONFLICT:
                return self.conflict(decision.why, remote=content, base=decision.base, sends=decision.sends)
        if decision.next is Next.REBASE:
            return self.outcome(states.REBASE, remote=content, base=decision.base, sends=decision.sends)
        verb = states.COMPLETE if decision.next is Next.COMPLETE else states.SKIP
        reason = "read_back" if verb is states.COMPLETE else "already_there"
        return self.outcome(verb, remote=content, base=decision.base, reason=reason, sends=decision.sends)

    def _wait(self, decision: Decision) -> Outcome:
        detail = "A write of ours may still arrive, and the remote would not refuse it; only time settles that."
        return self.outcome(
            states.POSTPONE, reason="settling", detail=detail, sends=self.claim.sends, due_at=decision.until
        )

    def _fence(self, decision: Decision, content: RemoteObject) -> Outcome:
        """Write what both sides say once more, so that the outdated sends are refused if they still arrive.

        A remote that refuses that, or whose version does not move, leaves only time to settle them.
        """
        self.unsettled = self.outdated = decision.sends
        agreed = self.outcome(states.COMPLETE, remote=content, base=decision.base, reason="read_back")
        try:
            outcome = self._write()
        except Rejected as error:
            self.log(error.exchange)
            self.sending, outcome = None, agreed
        if outcome.verb is not states.COMPLETE or outcome.remote is None:
            return outcome
        left = still_open(decision.sends, outcome.remote.version, spec=self.spec, now=self.now)
        until = settles_at(left, spec=self.spec)
        if until is not None and self.now < until:
            return self._wait(Decision(Next.WAIT, until=until))
        return replace(outcome, reason="fenced", exchanges=tuple(self.exchanges))

    def _known(self) -> dict:
        """Return what an update is written over: where a fence is needed, what the outdated sends would leave."""
        known: dict = self.claim.base or {}
        for send in self.outdated:
            content = send.content or {}
            for field in self.spec.comparator.differing(content, self.claim.data):
                value = pointer.get(content, field)
                known = pointer.remove(known, field) if value is pointer.MISSING else pointer.put(known, field, value)
        return known

    def _missing(self) -> Outcome:
        """Decide what it means that the object is not there: never from one read alone."""
        claim = self.claim
        if claim.intent == Intent.DELETE and claim.base is not None:
            return self._gone("already_gone")
        if claim.base is None and (self.spec.create_id == "client" or claim.intent == Intent.DELETE):
            return self._recreate()
        try:
            shown = self.read("confirm_missing")
        except Missing:
            detail = "The remote no longer has this object."
            return self.conflict(Conflict.Reason.DELETED_REMOTE, remote=None, base=claim.base, detail=detail)
        decision = judge(claim, shown.object, spec=self.spec, now=self.now, reread=True)
        return self._decided(decision, shown)

    # --- creating

    def _settle_create(self) -> Outcome:
        """Settle a create whose id we never learnt: replay its key, or look it up by its natural key.

        Only the first key ever left: later claims replay it, so what a dead worker claimed after it was never sent.
        """
        creates = [send for send in self.claim.sends if send.operation == Intent.CREATE]
        if not creates:
            self.unsettled = ()
            return self._start()
        if self.spec.idempotency_header:
            return self._write(key=creates[0].key, content=creates[0].content)
        if self.spec.has_lookup:
            return self._look_up(creates)
        return self.create_unknown()

    def _look_up(self, creates: list[Send]) -> Outcome:
        """Look for what any of our creates may have made; the natural key may have been edited in between."""
        found: dict[str | None, RemoteObject] = {}
        contents = [send.content for send in creates if send.content is not None]
        for content in [one for number, one in enumerate(contents) if one not in contents[:number]]:
            shown, exchange = self.client.lookup(content, deadline=self.deadline)
            self.log(exchange)
            found |= {each.external_id: each for each in shown}
        if len(found) > 1:
            return self.create_unknown("More than one object has this record's natural key.")
        if found:
            return self._adopt(next(iter(found.values())))
        return self._recreate()

    def _adopt(self, content: RemoteObject) -> Outcome:
        """Take the object that our create made; what was edited since is pushed next."""
        decision = judge(self.claim, content, spec=self.spec, now=self.now)
        if decision.next is Next.WAIT:
            return self._wait(decision)
        if decision.next is Next.CONFLICT:
            return self.conflict(decision.why, remote=content, base=decision.base, sends=decision.sends)
        verb = states.COMPLETE if decision.next is Next.COMPLETE else states.REBASE
        return self.outcome(verb, remote=content, base=decision.base, reason="read_back")

    def _recreate(self) -> Outcome:
        """Send a create that did not arrive, once no earlier one can still arrive and make a second object."""
        settled_at = settles_at(self.claim.sends, spec=self.spec)
        harmless = self.spec.guards_create and self.claim.intent != Intent.DELETE
        if settled_at is not None and self.now < settled_at and not harmless:
            return self._wait(Decision(Next.WAIT, until=settled_at))
        if self.claim.intent == Intent.DELETE:
            return self._gone("never_arrived")
        return self._write()

    def _create(self) -> Outcome:
        if self.spec.create_id == "client" and not self.spec.guards_create:
            return self._compare("compare")
        return self._write()

    # --- writing

    def _write(self, *, key: str | None = None, content: dict | None = None) -> Outcome:
        claim = self.claim
        send = claim.current
        if key is not None:
            send = replace(send, operation=Intent.CREATE, key=key, content=content)
        self.sending = send
        try:
            result = self._call(send)
        except StaleWrite as error:
            self.log(error.exchange)
            return self._refused(error)
        except Missing as error:
            self.log(error.exchange)
            return self._write_missed(error)
        self.log(result.answer.exchange)
        self.accepted = True
        if send.operation == Intent.CREATE:
            self.learnt_id = result.external_id
        return self._answered(result, send)

    def _call(self, send: Send) -> WriteResult:
        claim, data = self.claim, send.content or {}
        if send.operation == Intent.CREATE:
            return self.client.create(
                data, external_id=claim.external_id, idempotency_key=send.key, deadline=self.deadline
            )
        target = claim.external_id or ""
        if send.operation == Intent.DELETE:
            return self.client.delete(
                target,
                expected_version=claim.version,
                base=claim.base or {},
                idempotency_key=send.key,
                deadline=self.deadline,
            )
        return self.client.update(
            target,
            data=data,
            base=self._known(),
            expected_version=claim.version,
            idempotency_key=send.key,
            deadline=self.deadline,
        )

    def _refused(self, error: StaleWrite) -> Outcome:
        """The remote refused our write as stale or duplicate: look at what it holds."""
        self.sending = None
        if self.claim.external_id is not None:
            return self._compare("read_back", refused=True)
        if self.spec.has_lookup:
            found, exchange = self.client.lookup(self.claim.data, deadline=self.deadline)
            self.log(exchange)
            if len(found) == 1:
                return self._adopt(found[0])
        return self.fail("rejected", error.detail, kind=error.kind, code=error.code)

    def _write_missed(self, error: Missing) -> Outcome:
        self.sending = None
        if self.claim.current.operation == Intent.CREATE:
            return self.fail("rejected", error.detail, kind=error.kind, code=error.code)
        if self.claim.intent == Intent.DELETE:
            return self._gone("already_gone")
        try:
            self.read("confirm_missing")
        except Missing:
            detail = "The remote no longer has this object."
            return self.conflict(Conflict.Reason.DELETED_REMOTE, remote=None, base=self.claim.base, detail=detail)
        return self.fail("rejected", error.detail, kind=error.kind, code=error.code)

    def _answered(self, result: WriteResult, send: Send) -> Outcome:
        """Judge the answer to an accepted write: what it shows must be what we sent."""
        if send.operation == Intent.DELETE:
            return self._verify_deleted()
        shown = result.object
        if shown is not None and shown.version is None and result.version is not None:
            shown = replace(shown, version=result.version)
        if shown is None or (shown.version is None and self.spec.version.source != "none"):
            return self._verify(send, made=result)
        if self.problem(ReadResult(shown, result.answer), own_write=True):
            if not self.rereadable:
                return self.rejected_write()
            return self._verify(send, made=result)
        if self.unlike(send, shown.data):
            return self._verify(send, made=result)
        return self.confirmed(shown, send)

    def _verify(self, send: Send, *, made: WriteResult) -> Outcome:
        """Read the object once more, because the answer did not settle what it holds."""
        target = self.claim.external_id or (made.object.external_id if made.object else None) or made.external_id
        if target is None:
            return self._settle_unnamed(send)
        try:
            shown = self.read("verify", external_id=target, own_write=True, again=False)
        except Missing:
            detail = "The remote accepted the write and then said that the object does not exist."
            return self.conflict(Conflict.Reason.DELETED_REMOTE, remote=None, base=self.claim.base, detail=detail)
        different = self.unlike(send, shown.object.data)
        if not different:
            return self.confirmed(shown.object, send)
        return self.not_as_sent(different, shown.object, send)

    def _settle_unnamed(self, send: Send) -> Outcome:
        """A create was accepted, but its answer names no object: find it by its natural key."""
        if not self.spec.has_lookup:
            return self.create_unknown("The remote accepted the new object but did not tell its id.", sent=True)
        found, exchange = self.client.lookup(send.content or {}, deadline=self.deadline)
        self.log(exchange)
        if len(found) != 1:
            return self.create_unknown("The new object cannot be found by its natural key.", sent=True)
        return self.confirmed(found[0], send)

    def _verify_deleted(self) -> Outcome:
        try:
            shown = self.read("verify")
        except Missing:
            return self._gone("")
        if self.spec.comparator.differing(self.claim.base or {}, shown.object.data):
            return self.conflict(Conflict.Reason.DELETED_LOCAL, remote=shown.object, base=self.claim.base)
        return self.fail("not_applied", "The remote said it deleted the object, but still shows it.")

    def _gone(self, reason: str) -> Outcome:
        return self.outcome(states.COMPLETE, reason=reason, gone=True)

    # --- failing

    def _failed(self, error: RemoteError) -> Outcome:
        """Turn a remote's error into the verb that its kind asks for."""
        self.log(error.exchange)
        sends = self.after_error(error)
        if isinstance(error, Forbidden):
            return self._forbidden(error)
        if isinstance(error, Unauthorized):
            return self._unauthorized(error, sends)
        if isinstance(error, Throttled):
            wait = honour_retry_after(
                POSTPONE_S, retry_after_s=error.retry_after_s, cap_s=self.spec.policy.max_retry_after_s
            )
            return self.failure(states.POSTPONE, error, "throttled", sends=sends, due_at=self.after(wait))
        if error.transient:
            return self._transient(error, sends)
        if isinstance(error, InvalidResponse):
            return self.failure(states.REJECT, error, "invalid_response", sends=sends)
        return self.failure(states.FAIL, error, "rejected", sends=sends)

    def _unauthorized(self, error: RemoteError, sends: tuple[Send, ...]) -> Outcome:
        due_at = self.after(POSTPONE_S)
        return self.failure(states.POSTPONE, error, "unauthorized", sends=sends, due_at=due_at, pause=True)

    def _forbidden(self, error: Forbidden) -> Outcome:
        """Tell a refused object from a refused credential by a call that is known to be allowed."""
        sends = self.after_error(error)
        try:
            self.log(self.client.check(deadline=self.deadline))
        except (Forbidden, Unauthorized) as refused:
            self.log(refused.exchange)
            return self._unauthorized(refused, sends)
        except RemoteError as other:
            self.log(other.exchange)
        return self.failure(states.FAIL, error, "rejected", sends=sends)

    def _transient(self, error: RemoteError, sends: tuple[Send, ...]) -> Outcome:
        policy = self.spec.policy
        delay = retry_delay_s(self.claim.attempt, delays_s=policy.delays_s, jitter=policy.jitter, chance=self.chance())
        if delay is None:
            return self.failure(states.GIVE_UP, error, "max_attempts", sends=sends)
        wait = honour_retry_after(delay, retry_after_s=error.retry_after_s, cap_s=policy.max_retry_after_s)
        return self.failure(states.RETRY_LATER, error, str(error.kind), sends=sends, due_at=self.after(wait))
