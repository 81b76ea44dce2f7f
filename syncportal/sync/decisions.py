"""What a read of the remote means for a claim. Pure.

The executor reads; this module compares the content read with what we agreed on (`base`), what we
want (`data`) and what we may already have sent (`sends`), and says what to do next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from syncportal.remote import versions
from syncportal.remote.payloads import RemoteObject
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.claims import Claim, Json, Send
from syncportal.sync.conflicts import needs_person, own_traces, rules_of, three_way
from syncportal.sync.models import Conflict
from syncportal.sync.states import Intent

MAX_REBASES = 3


class Next(StrEnum):
    """What the executor does after a read."""

    SEND = "send"
    COMPLETE = "complete"
    SKIP = "skip"
    REBASE = "rebase"
    CONFLICT = "conflict"
    WAIT = "wait"
    FENCE = "fence"
    REREAD = "reread"


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, the merge base it rests on, and what stays unsettled.

    until: with WAIT, when a read can settle the unknown outcome. why: a conflict's reason.
    """

    next: Next
    base: Json | None = None
    sends: tuple[Send, ...] = ()
    why: str = ""
    until: datetime | None = None


def still_open(
    sends: Sequence[Send], shown_version: str | None, *, spec: ResourceSpec, now: datetime
) -> tuple[Send, ...]:
    """Return the sends that a late delivery could still apply, the object now standing at `shown_version`.

    With conditional writes a send dies when the version it expects is past. Without them nothing but
    time settles it: `settle_s` seconds after it left.
    """
    if not spec.conditional:
        return tuple(send for send in sends if now < send.sent_at + timedelta(seconds=spec.policy.settle_s))
    return tuple(
        send
        for send in sends
        if send.version is not None and shown_version is not None
        and versions.compare(send.version, shown_version) in {"equal", "older"}
    )  # fmt: skip


def settles_at(sends: Sequence[Send], *, spec: ResourceSpec) -> datetime | None:
    """Return when the youngest of `sends` can be settled by a read, None when there is none."""
    return max((send.sent_at + timedelta(seconds=spec.policy.settle_s) for send in sends), default=None)


def judge(
    claim: Claim, shown: RemoteObject, *, spec: ResourceSpec, now: datetime, refused: bool = False, reread: bool = False
) -> Decision:
    """Decide from the object just read.

    refused: our write was just refused as stale, so sending it again as it is makes no sense.
    reread: this is already the second read, so an older version than ours is now a fact.
    """
    relation = versions.compare(claim.version, shown.version) if claim.version and shown.version else ""
    if relation == "older":
        if not reread:
            return Decision(Next.REREAD)
        return Decision(Next.CONFLICT, base=claim.base, sends=claim.sends, why=Conflict.Reason.STALE_REMOTE)
    unsettled = still_open(claim.sends, shown.version, spec=spec, now=now)
    if unsettled and not spec.conditional:
        return Decision(Next.WAIT, sends=claim.sends, until=settles_at(unsettled, spec=spec))
    base = own_traces(claim.base, (send.content for send in claim.sends), shown.data, comparator=spec.comparator)
    unguarded = spec.conditional and claim.version is None and shown.version is not None
    as_expected = claim.base is not None and relation in {"", "equal"} and not refused and not unguarded
    if claim.intent == Intent.DELETE:
        return _judge_delete(claim, shown, base=base, sends=unsettled, spec=spec, as_expected=as_expected)
    merge = three_way(base, claim.data, shown.data, comparator=spec.comparator, policy=rules_of(spec.policy))
    if relation == "equal" and merge.remote_changes:
        return Decision(Next.CONFLICT, base=base, sends=unsettled, why=Conflict.Reason.VERSION_REUSE)
    if needs_person(merge, local=claim.data, remote=shown.data, comparator=spec.comparator, policy=spec.policy):
        why = Conflict.Reason.PRECONDITION_FAILED if refused else Conflict.Reason.CONCURRENT_EDIT
        return Decision(Next.CONFLICT, base=base, sends=unsettled, why=why)
    if not merge.local_changes:
        ours = any(send.operation != Intent.DELETE for send in claim.sends)
        # A late delivery of what is already there changes nothing: it is no reason to stay in doubt.
        unlike = tuple(
            send for send in unsettled
            if send.content is None or spec.comparator.differing(send.content, shown.data)
        )  # fmt: skip
        done = Decision(Next.COMPLETE if ours else Next.SKIP, base=base)
        return _outdated(unlike, done=done, spec=spec, now=now, as_expected=as_expected) if unlike else done
    if as_expected and not spec.comparator.differing(claim.base or {}, shown.data):
        return Decision(Next.SEND, base=base, sends=unsettled)
    if claim.rebases >= MAX_REBASES:
        why = Conflict.Reason.PRECONDITION_FAILED if refused else Conflict.Reason.CONCURRENT_EDIT
        return Decision(Next.CONFLICT, base=base, sends=unsettled, why=why)
    return Decision(Next.REBASE, base=base, sends=unsettled)


def _outdated(
    sends: tuple[Send, ...], *, done: Decision, spec: ResourceSpec, now: datetime, as_expected: bool
) -> Decision:
    """Decide about sends that may still arrive and say something else than both sides do by now.

    Writing once more under the present version lets the remote refuse them; where that cannot be, time settles them.
    """
    if as_expected:
        return Decision(Next.FENCE, base=done.base, sends=sends)
    until = settles_at(sends, spec=spec)
    return Decision(Next.WAIT, sends=sends, until=until) if until is not None and now < until else done


def _judge_delete(
    claim: Claim, shown: RemoteObject, *, base: Json, sends: tuple[Send, ...], spec: ResourceSpec, as_expected: bool
) -> Decision:
    """Decide a deletion whose object is still there: never over a change that nobody here has read."""
    if spec.comparator.differing(base, shown.data) or claim.rebases >= MAX_REBASES:
        return Decision(Next.CONFLICT, base=base, sends=sends, why=Conflict.Reason.DELETED_LOCAL)
    if as_expected:
        return Decision(Next.SEND, base=base, sends=sends)
    return Decision(Next.REBASE, base=base, sends=sends)
