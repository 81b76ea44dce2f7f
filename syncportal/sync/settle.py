"""Writes back what attempts came to: one transaction a batch, however many outcomes.

Locks the records first (as saving does), drops the results of stale holders, advances the records,
moves the jobs, appends events and sync log rows, and counts them: a handful of statements for a whole batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from syncportal.kernel.machine import Verb
from syncportal.remote.spec import ResourceSpec
from syncportal.sync import bypassed, conflict_store, error_groups, events, records, rollups, states, transitions
from syncportal.sync.causes import Cause, cause_of
from syncportal.sync.claims import Claim, Outcome
from syncportal.sync.conflict_store import Opening
from syncportal.sync.conflicts import Merge
from syncportal.sync.disputes import dispute
from syncportal.sync.events import AttemptLog, Fact, Kind
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent, Status
from syncportal.sync.transitions import Leaving

_KINDS: dict[str, Kind] = {
    states.COMPLETE.name: Kind.SYNC_SUCCEEDED,
    states.SKIP.name: Kind.SYNC_SKIPPED,
    states.REBASE.name: Kind.SYNC_MERGED,
    states.RETRY_LATER.name: Kind.SYNC_FAILED,
    states.GIVE_UP.name: Kind.SYNC_DEAD_LETTERED,
    states.FAIL.name: Kind.SYNC_FAILED,
    states.REJECT.name: Kind.SYNC_VALIDATION_FAILED,
    states.MARK_CONFLICT.name: Kind.SYNC_CONFLICT,
    states.POSTPONE.name: Kind.SYNC_POSTPONED,
}
_TARGETS: dict[str, Status] = {
    states.COMPLETE.name: Status.SYNCED,
    states.SKIP.name: Status.SKIPPED,
    states.REBASE.name: Status.PENDING,
    states.RETRY_LATER.name: Status.RETRY_PENDING,
    states.GIVE_UP.name: Status.DEAD_LETTER,
    states.FAIL.name: Status.ERROR,
    states.REJECT.name: Status.VALIDATION_FAILED,
    states.MARK_CONFLICT.name: Status.VERSION_CONFLICT,
    states.POSTPONE.name: Status.RETRY_PENDING,
}
HANDED_BACK = "handed_back"
"""The reason of a claim given back unsent because its drain ran out of time; not worth an event."""
MISCONFIGURED = "misconfigured"
"""The reason of a job that could not even start: nothing was tried, so no attempt is counted."""
_UNCOUNTED = frozenset({states.POSTPONE.name, states.REBASE.name})


@dataclass(frozen=True, slots=True)
class _Step:
    """One outcome turned into rows. state None: the record's content stays as it is."""

    outcome: Outcome
    verb: Verb
    reason: str
    detail: str
    state: RecordState | None
    opening: Opening | None = None
    edited: bool = False
    merged: tuple[str, ...] = ()


def settle(outcomes: Sequence[Outcome], *, specs: Mapping[int, ResourceSpec], now: datetime) -> int:
    """Store a batch of outcomes; return how many still belonged to their claim. Call in a transaction.

    specs: by resource id. A result whose claim was taken away (rescued, claimed again) changes
    nothing; its exchanges are kept in the log as "discarded".
    """
    revisions, dirty = records.lock_revisions(outcome.claim.record_id for outcome in outcomes)
    past_us = bypassed.take_in(dirty, now=now) if dirty else set()
    revisions |= {record_id: revisions[record_id] + 1 for record_id in past_us}
    holders = dict(SyncJob.objects.filter(pk__in=revisions, status=Status.PROCESSING).values_list("pk", "claim_no"))
    mine = [o for o in outcomes if holders.get(o.claim.record_id) == o.claim.claim_no]
    needed = [o.claim.record_id for o in mine if _needs_content(o, revisions)]
    contents = records.states_of(needed) if needed else {}
    steps = [_step(o, revisions, contents, specs[o.claim.resource_id]) for o in mine]
    steps = _give_way(steps)
    causes = error_groups.bounded({s.outcome.claim.record_id: cause for s in steps if (cause := _cause(s)) is not None})
    records.write([_stamped(step, now) for step in steps if step.state is not None], now=now)
    transitions.leave_processing([_leaving(step, causes.get(step.outcome.claim.record_id)) for step in steps], now=now)
    openings = [step.opening for step in steps if step.opening is not None]
    if openings:
        conflict_store.open_or_renew(openings, now=now)
    events.write([_fact(step) for step in steps if step.reason != HANDED_BACK], now=now)
    kept = {o.claim.record_id for o in mine}
    logs = [_log(o, causes.get(o.claim.record_id), kept=o.claim.record_id in kept) for o in outcomes]
    events.write_logs(logs)
    error_groups.add(causes.values(), now=now)
    rollups.add(logs)
    return len(mine)


def _needs_content(outcome: Outcome, revisions: Mapping[int, int]) -> bool:
    """Tell whether the row's present content must be read: only when it moved since the claim."""
    moved = revisions[outcome.claim.record_id] != outcome.claim.revision
    tells = outcome.remote is not None or outcome.gone or outcome.learnt_id is not None
    return moved and (tells or bool(outcome.conflict_reason))


def _state_at_claim(claim: Claim) -> RecordState:
    return RecordState(
        id=claim.record_id, resource_id=claim.resource_id, external_id=claim.external_id, data=claim.data,
        base=claim.base, version=claim.version, revision=claim.revision, intent=claim.intent, owner_id=None,
        deleted_at=None,
    )  # fmt: skip


def _step(
    outcome: Outcome, revisions: Mapping[int, int], contents: Mapping[int, RecordState], spec: ResourceSpec
) -> _Step:
    claim = outcome.claim
    edited = revisions[claim.record_id] != claim.revision
    state = contents.get(claim.record_id) or _state_at_claim(claim)
    if outcome.gone:
        return _deleted(outcome, state, edited, spec)
    if outcome.conflict_reason:
        return _conflicting(outcome, state, spec, reason=outcome.conflict_reason, detail=outcome.detail)
    if outcome.remote is None:
        return _Step(outcome, outcome.verb, outcome.reason, outcome.detail, _named(outcome, state), edited=edited)
    moved, merge = records.advance(state, base=outcome.base, remote=outcome.remote, spec=spec)
    found = dispute(state, moved, merge, shown=outcome.remote, spec=spec, own_answer=_own_answer(outcome, state))
    if found is not None:
        return _conflicting(outcome, state, spec, reason=found.reason, detail=found.detail, merge=merge)
    merged = merge.remote_changes if outcome.verb is states.REBASE else ()
    return _Step(outcome, outcome.verb, outcome.reason, outcome.detail, moved, edited=edited, merged=merged)


def _own_answer(outcome: Outcome, state: RecordState) -> bool:
    """Tell whether what came back is our own doing, or was judged already, so that its other fields are just taken."""
    claim = outcome.claim
    judged = state.intent == Intent.DELETE and (claim.intent == Intent.DELETE or claim.base is None)
    return judged or (outcome.base is not None and outcome.base is claim.current.content)


def _named(outcome: Outcome, state: RecordState) -> RecordState | None:
    """Return the state with the id that a create has just told, None when there is nothing new to keep."""
    told = outcome.learnt_id or (outcome.remote.external_id if outcome.remote else None)
    return replace(state, external_id=told) if told and state.external_id is None else None


def _deleted(outcome: Outcome, state: RecordState, edited: bool, spec: ResourceSpec) -> _Step:
    """The object is gone at the remote: hide the record, or make it anew when somebody edited it meanwhile."""
    if edited and state.intent != Intent.DELETE:
        reborn = records.reborn(state, spec=spec)
        return _Step(outcome, outcome.verb, outcome.reason, outcome.detail, reborn, edited=True)
    gone = replace(state, base=None, version=None)
    return _Step(outcome, outcome.verb, outcome.reason, outcome.detail, gone)


def _conflicting(
    outcome: Outcome,
    state: RecordState,
    spec: ResourceSpec,
    *,
    reason: str,
    detail: str,
    merge: Merge | None = None,
) -> _Step:
    base = outcome.base if outcome.base is not None else state.base
    fields: tuple[str, ...] = ()
    if outcome.remote is not None:
        merge = merge or records.advance(state, base=base, remote=outcome.remote, spec=spec)[1]
        fields = merge.conflicts or merge.remote_changes
    opening = Opening(
        record_id=state.id,
        resource_id=state.resource_id,
        reason=str(reason),
        base=base,
        local=state.data,
        remote=outcome.remote.data if outcome.remote else None,
        fields=fields,
        revision=state.revision,
        remote_version=outcome.remote.version if outcome.remote else None,
    )
    return _Step(outcome, states.MARK_CONFLICT, str(reason), detail, _named(outcome, state), opening=opening)


def _give_way(steps: Sequence[_Step]) -> list[_Step]:
    """Settle who stands for an object that a create just named, when a pull has found it first.

    An untouched second copy gives way. One that is in use stays, and the create stops for a person.
    """
    settled = []
    for step in steps:
        twin = _twin_of(step)
        if twin is not None and twin.job.status in states.AGREED and not twin.job.held_by:
            events.move_history(from_record=twin.pk, to_record=step.outcome.claim.record_id)
            records.remove(twin.pk)
        elif twin is not None:
            detail = f"The remote's object already stands as record {twin.pk}, which is in use; delete this one."
            kept = replace(step.outcome, sends=(*step.outcome.claim.sends, step.outcome.claim.current))
            step = _Step(kept, states.FAIL, "duplicate_record", detail, None)
        settled.append(step)
    return settled


def _twin_of(step: _Step) -> Record | None:
    """Return another record that stands for the object whose id this step has just learnt."""
    if step.state is None or step.outcome.claim.external_id is not None or not step.state.external_id:
        return None
    same = Record.objects.filter(resource_id=step.state.resource_id, external_id=step.state.external_id)
    return same.exclude(pk=step.state.id).select_related("job").first()


def _stamped(step: _Step, now: datetime) -> RecordState:
    if step.state is None:
        raise ValueError("only steps that change the record are stamped")
    if step.outcome.gone and not (step.edited and step.state.intent == Intent.CREATE):
        return replace(step.state, deleted_at=now, synced_at=now)
    agreed = step.verb.name in {states.COMPLETE.name, states.SKIP.name}
    return replace(step.state, synced_at=now) if agreed else step.state


def _cause(step: _Step) -> Cause | None:
    """Return why a step failed, None when it did not."""
    if step.verb.name not in rollups.FAILED:
        return None
    outcome = step.outcome
    return cause_of(
        remote_id=outcome.claim.remote_id, kind=outcome.error_kind, code=outcome.error_code or step.reason,
        message=step.detail,
    )  # fmt: skip


def _error_group(step: _Step, cause: Cause | None) -> int | None:
    """Return what the job says of its error: a new one, none any more, or the one it had."""
    if cause is not None:
        return cause.id
    return transitions.SAME_ERROR if step.verb.name in _UNCOUNTED else None


def _leaving(step: _Step, cause: Cause | None) -> Leaving:
    claim, outcome, verb = step.outcome.claim, step.outcome, step.verb
    diverted = step.edited and verb in states.DIVERTED_WHEN_EDITED
    uncounted = verb.name in _UNCOUNTED or step.reason == MISCONFIGURED
    attempts = claim.attempt - 1 if uncounted else claim.attempt
    return Leaving(
        record_id=claim.record_id,
        claim_no=claim.claim_no,
        verb=verb,
        target=(Status.PENDING if diverted else _TARGETS[verb.name]).value,
        attempts=0 if diverted else attempts,
        reason="edited_meanwhile" if diverted else step.reason,
        detail="" if diverted else step.detail,
        due_at=None if diverted else outcome.due_at,
        sends=outcome.sends,
        rebases=claim.rebases + 1 if verb is states.REBASE else claim.rebases if verb is states.POSTPONE else 0,
        error_group=_error_group(step, cause),
    )


def _fact(step: _Step) -> Fact:
    claim, outcome = step.outcome.claim, step.outcome
    data: dict[str, Any] = {"attempt": claim.attempt, "revision": claim.revision, "operation": claim.current.operation}
    optional = {
        "reason": step.reason,
        "detail": step.detail,
        "code": outcome.error_code,
        "error": outcome.error_kind,
        "next_attempt_at": outcome.due_at.isoformat() if outcome.due_at else "",
        "merged_fields": list(step.merged),
        "remote_version": outcome.remote.version if outcome.remote else "",
        "edited_meanwhile": step.edited,
    }
    data |= {name: value for name, value in optional.items() if value}
    return Fact(
        _KINDS[step.verb.name],
        record_id=claim.record_id,
        resource_id=claim.resource_id,
        remote_id=claim.remote_id,
        data=data,
        correlation_id=claim.correlation_id,
    )


def _log(outcome: Outcome, cause: Cause | None, *, kept: bool) -> AttemptLog:
    claim = outcome.claim
    return AttemptLog(
        record_id=claim.record_id,
        resource_id=claim.resource_id,
        claim_no=claim.claim_no,
        attempt=claim.attempt,
        outcome=outcome.verb.name if kept else "discarded",
        error_code=outcome.error_code,
        exchanges=outcome.exchanges,
        correlation_id=claim.correlation_id,
        error_group=cause.id if cause is not None and kept else None,
    )
