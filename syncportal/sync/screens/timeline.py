"""Everything that happened to one record, newest first: events and HTTP exchanges in one stream.

Owns: merging both tables page by page. Guarantees: two indexed queries a page; nothing is shown twice or left out,
because each table is read behind its own id. Does not: write anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from syncportal.sync.events import Kind
from syncportal.sync.models import Conflict, Event, Record, SyncLog
from syncportal.sync.screens.values import Shown, cut, in_words, shown

PAGE = 20

LOOKS: dict[str, tuple[str, str, str]] = {
    Kind.RECORD_CREATED: ("Created here", "plus", "info"),
    Kind.RECORD_EDITED: ("Edited", "edit", "info"),
    Kind.RECORD_DELETED: ("Deleted here", "trash", "warning"),
    Kind.RECORD_PULLED: ("Taken over from the remote", "down", "info"),
    Kind.RECORD_REFRESHED: ("Read again from the remote", "sync", "info"),
    Kind.RECORD_FOUND_DIRTY: ("Found changed outside of the portal", "alert", "warning"),
    Kind.RECORD_ASSIGNED: ("Assigned", "user", "info"),
    Kind.RECORD_LINKED: ("Linked to an object of the remote", "check", "info"),
    Kind.JOB_REQUEUED: ("Requeued", "retry", "info"),
    Kind.JOB_RESCUED: ("Rescued from a dead worker", "alert", "warning"),
    Kind.SYNC_SUCCEEDED: ("Sent and confirmed", "check", "success"),
    Kind.SYNC_SKIPPED: ("Nothing to send: the remote already held it", "check", "success"),
    Kind.SYNC_MERGED: ("Merged with the remote's changes", "split", "info"),
    Kind.SYNC_FAILED: ("Attempt failed", "cross", "error"),
    Kind.SYNC_POSTPONED: ("Postponed; the attempt does not count", "pause", "warning"),
    Kind.SYNC_VALIDATION_FAILED: ("The remote's answer failed validation", "alert", "error"),
    Kind.SYNC_CONFLICT: ("Conflict: both sides changed", "split", "warning"),
    Kind.SYNC_DEAD_LETTERED: ("Given up: no attempts left", "stop", "error"),
    Kind.CONFLICT_RESOLVED: ("Conflict resolved", "check", "success"),
    Kind.CONFLICT_ESCALATED: ("Conflict handed to operations", "users", "warning"),
    Kind.CONFLICT_CLOSED: ("Conflict closed", "check", "success"),
    Kind.GROUP_APPLIED: ("Changed by a grouped update", "check", "success"),
    Kind.GROUP_REJECTED: ("Grouped update refused before anything was written", "cross", "warning"),
    Kind.GROUP_ABORTED: ("Grouped update failed; what it sent is being undone", "cross", "error"),
    Kind.GROUP_ROLLED_BACK: ("Grouped update undone completely", "retry", "success"),
    Kind.GROUP_SENT_AGAIN: ("Grouped update sent again", "retry", "info"),
    Kind.COMPENSATION_SUCCEEDED: ("Undone: back at its values before the grouped update", "retry", "success"),
    Kind.COMPENSATION_FAILED: ("Undo failed; a person must decide", "alert", "error"),
    Kind.COMPENSATION_RETRIED: ("Undo to be tried again now", "retry", "info"),
    Kind.COMPENSATION_FORCED: ("Restore forced over somebody else's change", "alert", "warning"),
    Kind.COMPENSATION_CLOSED: ("Undo closed; it is not tried any further", "stop", "warning"),
    Kind.REMOTE_PAUSED: ("Remote paused", "pause", "warning"),
    Kind.REMOTE_RESUMED: ("Remote resumed", "play", "success"),
    Kind.BREAKER_OPENED: ("Breaker opened: the remote does not answer", "alert", "error"),
    Kind.BREAKER_CLOSED: ("Breaker closed: the remote answers again", "check", "success"),
    Kind.PULL_FINISHED: ("Pull ended", "down", "info"),
    Kind.RECONCILIATION_STARTED: ("Reconciliation begun", "sync", "info"),
    Kind.RECONCILIATION_FINISHED: ("Reconciliation ended", "sync", "info"),
    Kind.RECONCILIATION_BRAKED: ("Reconciliation brake held: nothing is repaired", "alert", "warning"),
    Kind.RECONCILIATION_CANCELLED: ("Reconciliation cancelled", "cross", "warning"),
    Kind.RECONCILIATION_APPLIED: ("Plan of a dry run applied", "check", "info"),
    Kind.API_KEY_MADE: ("API key made", "key", "info"),
    Kind.API_KEY_REVOKED: ("API key revoked", "key", "warning"),
    Kind.DISCREPANCY_FOUND: ("Found to differ from the remote", "alert", "warning"),
    Kind.DISCREPANCY_IGNORED: ("Difference ignored until it changes", "pause", "info"),
    Kind.RECORD_REPAIRED: ("Repaired after a reconciliation", "check", "success"),
    Kind.ALERT_OPENED: ("Alert opened", "alert", "error"),
    Kind.ALERT_RESOLVED: ("Alert resolved", "check", "success"),
    Kind.ALERT_ACKNOWLEDGED: ("Alert acknowledged", "user", "info"),
    Kind.ALERT_SILENCED: ("Notices silenced", "pause", "warning"),
    Kind.ALERT_UNSILENCED: ("Silence ended", "play", "info"),
    Kind.ERROR_GROUP_NOTED: ("Note changed", "edit", "info"),
    Kind.ERROR_GROUP_SNOOZED: ("Snoozed", "clock", "info"),
    Kind.ERROR_GROUP_IGNORED: ("Ignored until it changes", "pause", "info"),
    Kind.ERROR_GROUP_REOPENED: ("Counted as open again", "play", "info"),
    Kind.DUTY_ASKED_FOR: ("Duty asked for", "play", "info"),
    Kind.DUTY_PAUSED: ("Duty paused", "pause", "warning"),
    Kind.DUTY_RESUMED: ("Duty resumed", "play", "info"),
}
_OTHER = ("", "info", "info")
_PULLED = ("seen", "created", "updated", "unchanged", "busy", "invalid")
_ACTIONS = {"use_remote": "The remote's values were used.", "push_local": "The local values were pushed.",
            "merge": "Merged field by field."}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field's value before and after an edit."""

    name: str
    before: Shown
    after: Shown


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. Exchanges carry `log_id`, verdicts and a duration; edits their field changes."""

    at: datetime
    title: str
    icon: str
    tone: str
    who: str = ""
    detail: str = ""
    attempt: int = 0
    changes: tuple[FieldChange, ...] = ()
    log_id: int = 0
    event_id: int = 0
    group_id: int = 0
    line: str = ""
    duration_ms: int = 0
    verdicts: tuple[Mapping[str, Any], ...] = ()

    @property
    def is_exchange(self) -> bool:
        """Tell whether this is an HTTP exchange."""
        return bool(self.log_id)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A page of entries; `older` is the cursor of the next one, "" at the end, where `removed_at` says what is gone."""

    entries: tuple[Entry, ...]
    older: str
    removed_at: datetime | None = None


def timeline(record: Record, *, before: str = "", size: int = PAGE, name_of: Callable[[str], str] = str) -> Timeline:
    """Return a page of the record's history behind the cursor `before` ("" for the newest).

    name_of: what people call a field of the record.
    """
    event_below, log_below = _cursor(before)
    events = Event.objects.filter(record_id=record.pk).select_related("actor")
    logs = SyncLog.objects.filter(record_id=record.pk).defer(
        "request_headers", "request_body", "response_headers", "response_body"
    )
    if event_below is not None:
        events = events.filter(pk__lt=event_below)
    if log_below is not None:
        logs = logs.filter(pk__lt=log_below)
    told = [describe(row, name_of=name_of) for row in events.order_by("-id")[: size + 1]]
    sent = [_of_log(row) for row in logs.order_by("-id")[: size + 1]]
    said = {entry.detail for entry in told if entry.detail}
    page = [replace(e, detail="") if e.is_exchange and e.detail in said else e for e in _merged(told, sent, size)]
    if len(told) + len(sent) <= size:
        return Timeline(tuple(page), "", record.history_removed_at)
    lowest_event = min((entry.event_id for entry in page if entry.event_id), default=event_below)
    lowest_log = min((entry.log_id for entry in page if entry.log_id), default=log_below)
    return Timeline(tuple(page), f"{_mark(lowest_event)}-{_mark(lowest_log)}")


def _merged(told: list[Entry], sent: list[Entry], size: int) -> list[Entry]:
    """Return the newest `size` of both; each keeps its own order, so that the cursor of each is exact."""
    page: list[Entry] = []
    i = j = 0
    while len(page) < size and (i < len(told) or j < len(sent)):
        if j == len(sent) or (i < len(told) and told[i].at >= sent[j].at):
            page.append(told[i])
            i += 1
        else:
            page.append(sent[j])
            j += 1
    return page


def _mark(number: int | None) -> str:
    return "" if number is None else str(number)


def _cursor(text: str) -> tuple[int | None, int | None]:
    event, _, log = text.partition("-")
    return _number(event), _number(log)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 18 else None


def describe(row: Event, *, name_of: Callable[[str], str] = str) -> Entry:
    """Return an event as people read it."""
    title, icon, tone = LOOKS.get(row.kind, _OTHER)
    data = row.data if isinstance(row.data, dict) else {}
    attempt = data.get("attempt")
    return Entry(
        at=row.at,
        title=title or row.kind,
        icon=icon,
        tone=tone,
        who=_who(row),
        detail=_detail(row.kind, data),
        attempt=attempt if isinstance(attempt, int) else 0,
        changes=_changes(data, name_of),
        event_id=row.pk,
        group_id=data["group_pk"] if isinstance(data.get("group_pk"), int) else 0,
    )


def _who(row: Event) -> str:
    if row.actor_kind == "worker":
        return "worker"
    name = row.actor.get_username() if row.actor else row.actor_label
    return f"{name} (API key)" if row.actor_kind == "api_key" else name


def _detail(kind: str, data: Mapping[str, Any]) -> str:
    if kind == Kind.CONFLICT_RESOLVED:
        return _ACTIONS.get(str(data.get("action")), "")
    if kind == Kind.SYNC_MERGED and data.get("merged_fields"):
        return "Taken from the remote: " + ", ".join(str(at).lstrip("/") for at in data["merged_fields"])
    if kind == Kind.RECORD_LINKED:
        return f"External id {data.get('external_id', '')}"
    if kind == Kind.SYNC_CONFLICT and not data.get("detail"):
        return str(dict(Conflict.Reason.choices).get(str(data.get("reason")), ""))
    if kind.startswith("alert."):
        return " ".join(str(data[name]) for name in ("summary", "why") if data.get(name))
    if kind.startswith(("group.", "compensation.")):
        return _group_detail(data)
    if kind.startswith(("remote.", "breaker.")):
        return " · ".join(str(data[name]) for name in ("remote", "detail") if data.get(name))
    if kind == Kind.PULL_FINISHED:
        counts = ", ".join(f"{data[name]:,} {name}" for name in _PULLED if isinstance(data.get(name), int))
        return " · ".join(part for part in (counts, str(data.get("problem") or "")) if part)
    return str(data.get("detail") or "")


def _group_detail(data: Mapping[str, Any]) -> str:
    """Say which group it was, what went wrong, and why a person did it."""
    named = f"Group {data.get('group', '?')} of request {data.get('request', '?')}."
    error = data.get("error")
    wrong = ""
    if isinstance(error, dict):
        at = f" at {error['occurrenceId']}" if error.get("occurrenceId") else ""
        wrong = f"{error.get('code', 'failed')}{at}: {error.get('detail') or 'no further words'}"
    why = f"Why: {data['why']}" if data.get("why") else ""
    return " ".join(part for part in (named, wrong, why) if part)


def _changes(data: Mapping[str, Any], name_of: Callable[[str], str]) -> tuple[FieldChange, ...]:
    changed = data.get("changes")
    if not isinstance(changed, dict):
        return ()
    return tuple(
        FieldChange(name_of(name), shown(sides.get("before"), limit=80), shown(sides.get("after"), limit=80))
        for name, sides in list(changed.items())[:40]
        if isinstance(sides, dict)
    )


_BAD = {"give_up", "fail", "reject", "discarded"}
_SOFT = {"retry_later", "postpone", "mark_conflict", "refresh_failed", "refresh_invalid", "refresh_conflict"}


def _of_log(row: SyncLog) -> Entry:
    failed = bool(row.error_kind) or (row.http_status or 0) >= 400
    tone = "error" if row.outcome in _BAD and failed else "warning" if failed else "info"
    status = str(row.http_status) if row.http_status else row.error_kind or "no answer"
    return Entry(
        at=row.at,
        title=f"{in_words(row.purpose).capitalize() or 'Exchange'}: {status}",
        icon="log",
        tone=tone,
        detail=row.detail,
        attempt=row.attempt,
        log_id=row.pk,
        line=cut(f"{row.method} {row.url}", 160),
        duration_ms=row.duration_ms,
        verdicts=tuple(verdict for verdict in row.verdicts or () if isinstance(verdict, dict)),
    )
