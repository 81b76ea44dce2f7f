"""What happens next to a record, when, and who must act. Pure.

Owns: the sentences of the status card and how often the page looks again.
"""

from dataclasses import dataclass
from datetime import datetime

from syncportal.remote.limits import Blocked
from syncportal.sync import holders
from syncportal.sync.models import SyncJob
from syncportal.sync.states import IN_FLIGHT, LOOKS, Status

SOON_S = 20.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """One record's near future. `poll_s` 0: at rest, nothing will change by itself."""

    status: str
    sentence: str
    why: str
    who: str
    when: datetime | None
    attempt: int
    attempts: int
    poll_s: int
    token: str


def outlook(job: SyncJob, *, now: datetime, blocked: Blocked | None) -> Outlook:
    """Tell what comes next."""
    sentence, who, when = _next(job, now=now, blocked=blocked)
    moves = job.status in IN_FLIGHT and not job.held_by
    return Outlook(
        status=job.status,
        sentence=sentence,
        why=job.detail or _REASONS.get(job.reason, ""),
        who=who,
        when=when,
        attempt=job.attempts,
        attempts=job.max_attempts,
        poll_s=_pace(job, now=now, blocked=blocked) if moves or job.refresh_requested_at else 0,
        token=f"{job.status}.{job.claim_no}.{job.attempts}.{job.updated_at.timestamp():.3f}",
    )


_REASONS = {
    "create_unknown": "Nobody can tell whether the new object arrived at the remote.",
    "not_applied": "The remote accepted the write but did not change the value.",
    "never_sent": "It was deleted before it was ever sent.",
    "edited_meanwhile": "It was edited while it was being sent; the newest content goes out next.",
}


def _next(job: SyncJob, *, now: datetime, blocked: Blocked | None) -> tuple[str, str, datetime | None]:
    if job.held_by:
        return _held(job)
    if job.status in (Status.PENDING, Status.RETRY_PENDING) and blocked is not None:
        if blocked.reason == "paused":
            why = f" ({blocked.detail})" if blocked.detail else ""
            return f"The remote is paused{why}. It goes out when somebody resumes it.", "Operations", None
        return "The remote does not answer; it is probed until it does, then this goes out.", "Nobody", blocked.until
    match job.status:
        case Status.PENDING:
            return "Waits for a worker; it goes out at once.", "Nobody", None
        case Status.PROCESSING:
            return "Is being sent to the remote right now.", "Nobody", None
        case Status.RETRY_PENDING:
            due = job.due_at if job.due_at and job.due_at > now else None
            said = "Will be tried again by itself" + ("." if due is None else " at the time below.")
            return said, "Nobody", due
        case Status.ERROR if job.reason == "create_unknown":
            return "Look at the remote: link this record to the object it made, or send it again.", _PERSON, None
        case Status.VERSION_CONFLICT:
            return "Both sides changed. Decide which value is right.", "The owner, or operations", None
        case Status.SYNCED | Status.SKIPPED:
            return LOOKS[job.status].next_step, "Nobody", None
    return LOOKS[job.status].next_step, _PERSON, None


_PERSON = "The owner, or operations"


def _held(job: SyncJob) -> tuple[str, str, datetime | None]:
    what = holders.label_of(job.held_by)
    if job.status == Status.VERSION_CONFLICT:
        return f"Held by {what} until the conflict is decided.", _PERSON, None
    return f"Held by {what}; edits are kept, and go out when it lets go.", "Nobody, unless it stays held", None


def _pace(job: SyncJob, *, now: datetime, blocked: Blocked | None) -> int:
    """Return after how many seconds the page looks again: every second while something is about to happen."""
    if blocked is not None:
        return 10
    away_s = (job.due_at - now).total_seconds() if job.due_at else 0.0
    return 1 if job.status != Status.RETRY_PENDING or away_s < SOON_S else 5
