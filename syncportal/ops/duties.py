"""The duties: everything that runs by the clock, as one list, and how each run went. The only writer of Duty.

Guarantees: a duty runs on one host at a time (a lease), never raises, and leaves its result or its error behind. One
that was missed, for however long, is made up for once. A person can pause it, with a reason; who did is in the history.
Does not: keep time; django-q2's schedules do, and the supervisor rings for a duty that they forgot.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import close_old_connections, transaction
from django.db.models import F, Q

from reconciliation import timetable
from rollback import workers as compensations
from syncportal.access import idempotency, throttle
from syncportal.bulk import journal as operations
from syncportal.kernel import doorbell, planner
from syncportal.kernel.clock import db_now
from syncportal.ops import owner_mails
from syncportal.ops.alerts import alert_store, digests, evaluate, outbox, summaries
from syncportal.ops.models import Duty
from syncportal.sync import audit, events, record_counts, retention, sweep
from syncportal.sync.events import Actor, Fact, Kind

log = structlog.get_logger(__name__)

RUN = "syncportal.ops.duties.run"
LEASE = timedelta(seconds=90)
LATE = 2.0
FORGET_S = 1.5
_RESULT = 500
_REASON = 300


@dataclass(frozen=True, slots=True)
class DutySpec:
    """One duty. every_s: whole minutes, in seconds. work: does it and says in a few words what came of it."""

    name: str
    every_s: int
    says: str
    work: Callable[[datetime], str]


def _sweep(now: datetime) -> str:
    swept = sweep.sweep()
    return f"{swept.rescued} rescued, {swept.dirty} changed past us, rang for {len(swept.rang)}"


def _retry(now: datetime) -> str:
    return f"rang for {len(sweep.ring_for_due(now))}"


def _seal(now: datetime) -> str:
    return f"{audit.seal(now)} sealed"


def _until_none(slice_of: Callable[[], int]) -> int:
    """Forget slice after slice for at most about `FORGET_S`; the next run goes on. Return how many went."""
    until, removed = time.monotonic() + FORGET_S, 0
    while gone := slice_of():
        removed += gone
        if time.monotonic() >= until:
            break
    return removed


def _forget(now: datetime) -> str:
    throttle.forget_old(now=now)
    gone = {
        "entries": retention.prune(now),
        "stored answers": _until_none(lambda: idempotency.prune(now=now)),
        "grouped updates": _until_none(lambda: compensations.prune(now)),
        "alerts": _until_none(lambda: alert_store.prune(now) + outbox.prune(now)),
        "bulk operations": _until_none(lambda: operations.prune(now)),
    }
    planner.refresh_statistics()
    return ", ".join(f"{number} {what}" for what, number in gone.items()) + " removed"


def _reconcile(now: datetime) -> str:
    return timetable.duty(now, paused=paused_names())


def _count(now: datetime) -> str:
    return f"{record_counts.recount(now)} records counted"


DUTIES: tuple[DutySpec, ...] = (
    DutySpec("sweep", 60, "Rescues jobs of dead workers, finds changes made past us, rings for what is due.", _sweep),
    DutySpec("compensations", 60, "Takes over groups of dead requests, rings for undos that wait.", compensations.duty),
    DutySpec("seal", 60, "Seals the acts of people into the hash chain.", _seal),
    DutySpec("reconcile", 60, "Starts reconciliations and daily samples whose time has come.", _reconcile),
    DutySpec("alerts", 60, "Evaluates the alert rules and sends the notices that are due.", evaluate.duty),
    DutySpec("anomalies", 3600, "Compares the errors of the last hour with the usual.", evaluate.hourly),
    DutySpec("digests", 3600, "Writes the owners' daily digests, from seven o'clock on.", digests.duty),
    DutySpec("conflicts", 60, "Mails owners about new conflicts, hands over what waited too long.", owner_mails.duty),
    DutySpec("summaries", 60, "Writes the mails that sum up reconciliations and tell of failed pulls.", summaries.duty),
    DutySpec("retention", 3600, "Removes history that is old enough (90 days; groups a year), in slices.", _forget),
    DutySpec("count", 300, "Counts the records of a large installation, so that no page has to.", _count),
    DutySpec("retry", 300, "Rings for retries whose time has come.", _retry),
)


def spec_of(name: str) -> DutySpec:
    """Return a duty of the list; raises KeyError."""
    return {duty.name: duty for duty in DUTIES}[name]


def run(name: str) -> None:
    """Run one duty unless it runs elsewhere; a task of the pool, so it never raises."""
    close_old_connections()
    try:
        run_now(name)
    except Exception:
        log.exception("duty.failed", duty=name)


def run_now(name: str) -> str | None:
    """Run one duty and return its result; None when it runs elsewhere. Its failure is recorded, then raised."""
    duty = spec_of(name)
    now = db_now()
    if not _begin(duty, now=now):
        return None
    started = time.monotonic()
    try:
        result = duty.work(now)
    except Exception as error:
        _finish(duty, f"{type(error).__name__}: {error}", ok=False, started=started)
        raise
    _finish(duty, result, ok=True, started=started)
    return result


def overdue(now: datetime) -> list[str]:
    """Return the duties that have not begun for twice their interval: their schedule is broken, or no pool runs."""
    begun, paused = dict(Duty.objects.values_list("name", "last_started_at")), paused_names()
    late = []
    for duty in DUTIES:
        last = begun.get(duty.name)
        if duty.name in paused:
            continue
        if last is None or not now - timedelta(seconds=LATE * duty.every_s) < last <= now + timedelta(minutes=5):
            late.append(duty.name)
    return late


def paused_names() -> frozenset[str]:
    """Return the lines of the timetable that a person paused."""
    return frozenset(Duty.objects.filter(paused_at__isnull=False).values_list("name", flat=True))


def pause(name: str, *, reason: str, actor: Actor, now: datetime) -> bool:
    """Let a line of the timetable rest until it is resumed; False when it rests already."""
    told = {"duty": name, "reason": reason[:_REASON]}
    rest = {"paused_at": now, "paused_by": actor.label, "pause_reason": reason[:_REASON]}
    with transaction.atomic():
        Duty.objects.bulk_create([Duty(name=name, every_s=0)], ignore_conflicts=True)
        moved = Duty.objects.filter(pk=name, paused_at__isnull=True).update(**rest)
        if moved:
            events.write([Fact(Kind.DUTY_PAUSED, actor=actor, data=told)], now=now)
    return bool(moved)


def resume(name: str, *, actor: Actor, now: datetime) -> bool:
    """Let a paused line go on; False when it was not paused. What it missed is made up for once."""
    with transaction.atomic():
        rests = Duty.objects.filter(pk=name, paused_at__isnull=False)
        moved = rests.update(paused_at=None, paused_by="", pause_reason="")
        if moved:
            events.write([Fact(Kind.DUTY_RESUMED, actor=actor, data={"duty": name})], now=now)
    return bool(moved)


def ask_for(name: str, *, actor: Actor, now: datetime) -> bool:
    """Ring for a duty because a person wants it now; False when enough work waits already."""
    if not doorbell.ring(RUN, name):
        return False
    events.write([Fact(Kind.DUTY_ASKED_FOR, actor=actor, data={"duty": name})], now=now)
    return True


def _begin(duty: DutySpec, *, now: datetime) -> bool:
    Duty.objects.bulk_create([Duty(name=duty.name, every_s=duty.every_s)], ignore_conflicts=True)
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now) | Q(lease_until__gt=now + 2 * LEASE)
    mine = Duty.objects.filter(free, pk=duty.name, paused_at__isnull=True)
    return bool(mine.update(lease_until=now + LEASE, last_started_at=now, every_s=duty.every_s))


def _finish(duty: DutySpec, result: str, *, ok: bool, started: float) -> None:
    Duty.objects.filter(pk=duty.name).update(
        lease_until=None,
        last_finished_at=db_now(),
        last_duration_ms=round(1000 * (time.monotonic() - started)),
        last_ok=ok,
        last_result=result[:_RESULT],
        failures=0 if ok else F("failures") + 1,
    )
