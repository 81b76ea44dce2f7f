"""History: the only writer of Event and SyncLog, both append-only.

Facts in the past tense, written in the transaction of the change they tell of. Acts of people are
chained by hashes in `audit.py` after commit. Nothing secret reaches a row: bodies arrive redacted
from the client, and values under names that say they are secret are masked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from syncportal.kernel import correlation
from syncportal.kernel.bulk import insert_rows, update_rows
from syncportal.kernel.redaction import Redactor
from syncportal.sync.claims import Logged
from syncportal.sync.models import Event, SyncLog


class Kind(StrEnum):
    """Everything that can have happened."""

    RECORD_CREATED = "record.created"
    RECORD_EDITED = "record.edited"
    RECORD_DELETED = "record.deleted"
    RECORD_PULLED = "record.pulled"
    RECORD_REFRESHED = "record.refreshed"
    RECORD_FOUND_DIRTY = "record.found_dirty"
    RECORD_ASSIGNED = "record.assigned"
    RECORD_LINKED = "record.linked"
    JOB_REQUEUED = "job.requeued"
    JOB_RESCUED = "job.rescued"
    SYNC_SUCCEEDED = "sync.succeeded"
    SYNC_SKIPPED = "sync.skipped"
    SYNC_MERGED = "sync.merged"
    SYNC_FAILED = "sync.failed"
    SYNC_POSTPONED = "sync.postponed"
    SYNC_VALIDATION_FAILED = "sync.validation_failed"
    SYNC_CONFLICT = "sync.conflict"
    SYNC_DEAD_LETTERED = "sync.dead_lettered"
    CONFLICT_RESOLVED = "conflict.resolved"
    CONFLICT_CLOSED = "conflict.closed"
    CONFLICT_ESCALATED = "conflict.escalated"
    REMOTE_PAUSED = "remote.paused"
    REMOTE_RESUMED = "remote.resumed"
    BREAKER_OPENED = "breaker.opened"
    BREAKER_CLOSED = "breaker.closed"
    PULL_FINISHED = "pull.finished"
    GROUP_APPLIED = "group.applied"
    GROUP_REJECTED = "group.rejected"
    GROUP_ABORTED = "group.aborted"
    GROUP_ROLLED_BACK = "group.rolled_back"
    COMPENSATION_SUCCEEDED = "compensation.succeeded"
    GROUP_SENT_AGAIN = "group.sent_again"
    COMPENSATION_FAILED = "compensation.failed"
    COMPENSATION_RETRIED = "compensation.retried"
    COMPENSATION_FORCED = "compensation.forced"
    COMPENSATION_CLOSED = "compensation.closed"
    RECONCILIATION_STARTED = "reconciliation.started"
    RECONCILIATION_FINISHED = "reconciliation.finished"
    RECONCILIATION_BRAKED = "reconciliation.braked"
    RECONCILIATION_CANCELLED = "reconciliation.cancelled"
    RECONCILIATION_APPLIED = "reconciliation.applied"
    DISCREPANCY_FOUND = "discrepancy.found"
    DISCREPANCY_IGNORED = "discrepancy.ignored"
    RECORD_REPAIRED = "record.repaired"
    ALERT_OPENED = "alert.opened"
    API_KEY_MADE = "api_key.made"
    API_KEY_REVOKED = "api_key.revoked"
    ALERT_RESOLVED = "alert.resolved"
    ALERT_ACKNOWLEDGED = "alert.acknowledged"
    ALERT_SILENCED = "alert.silenced"
    ALERT_UNSILENCED = "alert.unsilenced"
    DUTY_ASKED_FOR = "duty.asked_for"
    DUTY_PAUSED = "duty.paused"
    DUTY_RESUMED = "duty.resumed"
    ERROR_GROUP_NOTED = "error_group.noted"
    ERROR_GROUP_SNOOZED = "error_group.snoozed"
    ERROR_GROUP_IGNORED = "error_group.ignored"
    ERROR_GROUP_REOPENED = "error_group.reopened"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a person (user), a program with a key (api_key), or the machine (worker)."""

    kind: str
    user_id: int | None = None
    label: str = ""

    @property
    def is_person(self) -> bool:
        """Tell whether somebody answers for the act; such events are sealed."""
        return self.kind in {"user", "api_key"}


_REDACTOR = Redactor()
WORKER = Actor("worker", label="worker")


@dataclass(frozen=True, slots=True)
class Fact:
    """One event to be written."""

    kind: Kind
    record_id: int | None = None
    resource_id: int | None = None
    remote_id: int | None = None
    actor: Actor = WORKER
    data: Mapping[str, Any] = field(default_factory=dict)
    correlation_id: str = ""


def write(facts: Iterable[Fact], *, now: datetime) -> None:
    """Append events in one statement."""
    here = correlation.current()
    insert_rows(
        Event,
        [
            {
                "at": now,
                "kind": fact.kind.value,
                "record_id": fact.record_id,
                "resource_id": fact.resource_id,
                "remote_id": fact.remote_id,
                "actor_kind": fact.actor.kind,
                "actor_id": fact.actor.user_id,
                "actor_label": fact.actor.label[:150],
                "data": _REDACTOR.json(dict(fact.data)) if fact.actor.is_person else dict(fact.data),
                "correlation_id": fact.correlation_id or here,
                "seal": "",
            }
            for fact in facts
        ],
    )


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """The exchanges of one attempt and what the attempt came to."""

    record_id: int
    resource_id: int
    claim_no: int
    attempt: int
    outcome: str
    error_code: str
    exchanges: Sequence[Logged]
    correlation_id: str = ""
    error_group: int | None = None


def write_logs(attempts: Iterable[AttemptLog]) -> None:
    """Append the sync log rows of some attempts in one statement."""
    rows = []
    for attempt in attempts:
        last = len(attempt.exchanges) - 1
        for position, logged in enumerate(attempt.exchanges):
            exchange = logged.exchange
            rows.append(
                {
                    "record_id": attempt.record_id,
                    "resource_id": attempt.resource_id,
                    "at": exchange.started_at,
                    "claim_no": attempt.claim_no,
                    "attempt": attempt.attempt,
                    "purpose": exchange.purpose,
                    "method": exchange.method,
                    "url": exchange.url,
                    "request_headers": dict(exchange.request_headers),
                    "request_body": exchange.request_body,
                    "http_status": exchange.status,
                    "response_headers": dict(exchange.response_headers),
                    "response_body": exchange.response_body,
                    "response_bytes": exchange.response_bytes,
                    "duration_ms": exchange.duration_ms,
                    "outcome": attempt.outcome,
                    "final": position == last,
                    "error_kind": exchange.error,
                    "error_code": attempt.error_code if position == last else "",
                    "detail": exchange.error_detail,
                    "verdicts": [
                        {"stage": verdict.stage, "ok": verdict.ok, "detail": verdict.detail}
                        for verdict in logged.verdicts
                    ],
                    "correlation_id": attempt.correlation_id,
                    "error_group_id": attempt.error_group if position == last else None,
                }
            )
    insert_rows(SyncLog, rows)


def move_history(*, from_record: int, to_record: int) -> None:
    """Hang one record's history under another: the two turned out to be one object."""
    SyncLog.objects.filter(record_id=from_record).update(record_id=to_record)
    Event.objects.filter(record_id=from_record).update(record_id=to_record)


def set_seals(seals: Mapping[int, str]) -> int:
    """Store the seals of events that have none yet, by event id; return how many were stored."""
    rows = [{"pk": pk, "seal": seal} for pk, seal in seals.items()]
    return len(update_rows(Event, rows, where="t.seal = ''"))


def forget(event_ids: Iterable[int]) -> int:
    """Remove events that are old enough and return how many."""
    return Event.objects.filter(pk__in=list(event_ids)).delete()[0]


def forget_logs(log_ids: Iterable[int]) -> int:
    """Remove exchanges that are old enough and return how many."""
    return SyncLog.objects.filter(pk__in=list(log_ids)).delete()[0]


def forget_groups(group_ids: Iterable[int]) -> None:
    """Take error groups that are about to go off the exchanges that name them."""
    SyncLog.objects.filter(error_group__in=list(group_ids)).update(error_group=None)
