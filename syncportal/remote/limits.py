"""What all workers share about a remote: slots, rate, breaker, pause.

Owns every write of Gate and SlotLease. Guarantees, for any number of processes on both databases: leased slots never
exceed the remote's concurrency; tokens granted never exceed its rate, and calls
beyond them are paid before the next is granted; one probe at a time while the breaker is open;
of two callers that pause, close or open, exactly one is told that it did. Each function is one short transaction and
takes `now` (the database's time); the gate's row lock comes first and is the only one. Does not call the remote.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, models
from django.db.models import F, Q

from syncportal.kernel.bulk import insert_rows, read_rows
from syncportal.kernel.tx import atomic_retry
from syncportal.remote import breaker as arithmetic
from syncportal.remote.breaker import BreakerChange, CallResult, Tally
from syncportal.remote.knobs import BreakerSpec
from syncportal.remote.models import Breaker, Gate, Remote, SlotLease

__all__ = ["Blocked", "BreakerChange", "CallResult", "Grant", "UNLIMITED", "blocked", "calm", "extend", "lease",
           "pause", "probe_result", "record_check", "release", "report", "resume", "shrink", "try_probe",
           "why_shut"]  # fmt: skip

UNLIMITED: Final = 1_000_000
PROBE_S: Final = 15.0
WISH_S: Final = 3.0
LONGEST_LOOK_S: Final = 5.0  # how long ago the time may have been read when a lock is taken; else it was set back
LONGEST_LEASE: Final = timedelta(minutes=10)
PAUSED: Final = "paused"
BREAKER_OPEN: Final = "breaker_open"
RATE: Final = "rate"
_GATE: Final = tuple(field.attname for field in Gate._meta.concrete_fields)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a holder may use until it asks again: calls at once, calls to start.

    `blocked` is "" or paused, breaker_open, rate; `until` is when asking again makes sense, None when unknown.
    `waiting` counts others that found no slot and wait for one.
    """

    slots: int
    tokens: int
    blocked: str = ""
    until: datetime | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why no call may start: `reason` is paused or breaker_open, `until` None when only a person can end it."""

    reason: str
    until: datetime | None
    detail: str


def lease(
    remote_id: int,
    *,
    holder: str,
    want: int,
    cap: int,
    per_second: float | None,
    now: datetime,
    ttl_s: float = 30.0,
    unspent: int = 0,
    most: int | None = None,
    waits: bool = False,
) -> Grant:
    """Lease slots and tokens for a holder, or renew them.

    Grants at most `want` slots and what other live leases leave of `cap`; tokens are shared in proportion to the slots.
    `unspent` gives tokens of the last grant back, or, below zero, owes calls beyond it. `most` leaves tokens to
    others. While blocked, a lease already held stays until it expires. One that `waits` and gets none is counted in the
    grants of the others for a few seconds, so that they can make room; those that wait share what is free.
    """
    return atomic_retry(
        lambda: _lease(
            remote_id,
            holder=holder,
            want=want,
            cap=cap,
            per_second=per_second,
            now=now,
            ttl_s=ttl_s,
            unspent=unspent,
            most=most,
            waits=waits,
        ),
        durable=False,
    )


def _lease(
    remote_id: int,
    *,
    holder: str,
    want: int,
    cap: int,
    per_second: float | None,
    now: datetime,
    ttl_s: float,
    unspent: int,
    most: int | None,
    waits: bool,
) -> Grant:
    gate = _locked(remote_id)
    block = _block(gate, now=now)
    if block is not None:
        _give_back(remote_id, unspent)
        return Grant(0, 0, block.reason, block.until)
    leases = SlotLease.objects.filter(remote_id=remote_id)
    rows = read_rows(SlotLease, [remote_id], ("pk", "holder", "slots", "expires_at"), by="remote")
    mine = next((pk for pk, its_holder, _, _ in rows if its_holder == holder), None)
    beside = [row for row in rows if row[0] != mine]
    # One that ends further away than any lease lasts was written before the clock was set back.
    live = [its_slots for _, _, its_slots, expires_at in beside if now < expires_at <= now + LONGEST_LEASE]
    if len(live) < len(beside):
        ended = Q(expires_at__lte=now) | Q(expires_at__gt=now + LONGEST_LEASE)
        leases.filter(ended, pk__in=[row[0] for row in beside]).delete()
    others, waiting = sum(live), live.count(0)
    share = 1 + waiting if waits else 1
    slots = max(0, min(want, -((others - cap) // share)))
    if slots == 0:
        _give_back(remote_id, unspent)
        _wish(leases, remote_id=remote_id, holder=holder, waits=waits, now=now)
        return Grant(0, 0, waiting=waiting)
    expires_at = now + timedelta(seconds=ttl_s)
    if mine is None:
        insert_rows(SlotLease, [{"remote_id": remote_id, "holder": holder, "slots": slots, "expires_at": expires_at}])
    else:
        leases.filter(pk=mine).update(slots=slots, expires_at=expires_at)
    grant = _take_tokens(
        gate, slots=slots, share=slots / (slots + others), per_second=per_second, now=now, unspent=unspent, most=most
    )
    return replace(grant, waiting=waiting)


def _wish(leases: models.QuerySet[SlotLease], *, remote_id: int, holder: str, waits: bool, now: datetime) -> None:
    """Leave a lease of no slots where the holder waits for one; whoever polls writes about once a second."""
    mine = leases.filter(holder=holder)
    if not waits:
        mine.delete()
    elif not mine.filter(slots=0, expires_at__gt=now + timedelta(seconds=WISH_S / 2)).exists():
        SlotLease.objects.update_or_create(
            remote_id=remote_id, holder=holder, defaults={"slots": 0, "expires_at": now + timedelta(seconds=WISH_S)}
        )


def _take_tokens(
    gate: Gate, *, slots: int, share: float, per_second: float | None, now: datetime, unspent: int, most: int | None
) -> Grant:
    if not per_second or per_second <= 0:
        return Grant(slots, UNLIMITED)
    burst = max(1.0, per_second)
    # A clock that jumped back refills nothing; one that jumped forward fills the bucket once. Who read the time before
    # another took the lock refills nothing either, and leaves the other's time, or the same moments would count twice.
    elapsed_s = (now - gate.tokens_at).total_seconds() if gate.tokens_at is not None else math.inf
    filled_at = gate.tokens_at if -LONGEST_LOOK_S < elapsed_s < 0 else now
    elapsed_s = max(0.0, elapsed_s)
    filled = min(burst, gate.tokens + unspent + elapsed_s * per_second)
    # A hair is added because sums of floats may end just below the whole number they mean.
    whole = max(0, math.floor(filled + 1e-9))
    taken = min(whole, max(1, math.ceil(whole * share)), whole if most is None else most)
    left = filled - taken
    Gate.objects.filter(pk=gate.pk).update(tokens=left, tokens_at=filled_at)
    if taken == 0:
        return Grant(slots, 0, RATE, now + timedelta(seconds=(1 - left) / per_second))
    return Grant(slots, taken)


def extend(remote_id: int, *, holder: str, now: datetime, ttl_s: float = 30.0) -> bool:
    """Prolong a lease that has not expired; False means that the slots are lost."""
    expires_at = now + timedelta(seconds=ttl_s)
    return atomic_retry(
        lambda: bool(
            SlotLease.objects.filter(remote_id=remote_id, holder=holder, expires_at__gt=now).update(
                expires_at=expires_at
            )
        ),
        durable=False,
    )


def shrink(remote_id: int, *, holder: str, slots: int) -> None:
    """Give back what a lease holds beyond `slots`; may be part of a larger transaction, as it waits for no other."""
    SlotLease.objects.filter(remote_id=remote_id, holder=holder, slots__gt=slots).update(slots=slots)


def release(holder: str, *, remote_id: int, unspent: int = 0) -> None:
    """Give a holder's slots back, and the tokens not used; below zero those of calls beyond the grant are owed."""

    def work() -> None:
        _give_back(remote_id, unspent)
        SlotLease.objects.filter(remote_id=remote_id, holder=holder).delete()

    atomic_retry(work, durable=False)


def _give_back(remote_id: int, unspent: int) -> None:
    """Change the tokens left; the next lease cuts them to what may gather."""
    if unspent:
        Gate.objects.filter(pk=remote_id).update(tokens=F("tokens") + unspent)


def report(
    remote_id: int, results: Sequence[CallResult], *, breaker: BreakerSpec, now: datetime
) -> BreakerChange | None:
    """Tell the breaker how calls ended, in their order; return OPENED to the one caller whose report opened it.

    Nothing is written while all is well. An open breaker is closed by a probe only, so late results leave it alone.
    """
    if not results:
        return None
    gate = Gate.objects.filter(pk=remote_id).first()
    known = _tally(gate) if gate is not None else Tally()
    if (gate is not None and gate.breaker == Breaker.OPEN) or arithmetic.count(known, results, spec=breaker)[
        0
    ] == known:
        return None
    return atomic_retry(lambda: _report(remote_id, results, breaker=breaker, now=now))


def _report(
    remote_id: int, results: Sequence[CallResult], *, breaker: BreakerSpec, now: datetime
) -> BreakerChange | None:
    gate = _locked(remote_id)
    if gate.breaker == Breaker.OPEN:
        return None
    tally, reason = arithmetic.count(_tally(gate), results, spec=breaker)
    gate.consecutive_unreachable = tally.unreachable
    gate.consecutive_faults = tally.faults
    gate.fault_records = list(tally.fault_records)
    changed = ["consecutive_unreachable", "consecutive_faults", "fault_records", "updated_at"]
    if reason:
        gate.breaker = Breaker.OPEN
        gate.opened_at = now
        gate.open_until = now + timedelta(seconds=breaker.open_s)
        gate.probe_holder, gate.probe_until = "", None
        gate.last_error = reason
        changed += ["breaker", "opened_at", "open_until", "probe_holder", "probe_until", "last_error"]
    gate.save(update_fields=changed)
    return BreakerChange.OPENED if reason else None


def try_probe(remote_id: int, *, holder: str, now: datetime, breaker: BreakerSpec | None = None) -> bool:
    """Take the one probe of a breaker whose waiting time is over; True means: ask the remote, then `probe_result`.

    An end further away than any wait may last was written before the clock was set back, and is over.
    """
    until = now + timedelta(seconds=PROBE_S)
    longest = now + timedelta(seconds=arithmetic.longest_open_s(breaker or BreakerSpec()))
    free = Q(probe_holder="") | Q(probe_until__isnull=True) | Q(probe_until__lte=now) | Q(probe_until__gt=until)
    over = Q(open_until__lte=now) | Q(open_until__gt=longest)
    due = Gate.objects.filter(free, over, pk=remote_id, breaker=Breaker.OPEN, paused=False)
    return atomic_retry(lambda: bool(due.update(probe_holder=holder, probe_until=until, updated_at=now)))


def probe_result(
    remote_id: int, *, holder: str, ok: bool, now: datetime, breaker: BreakerSpec | None = None
) -> BreakerChange | None:
    """Close the breaker after a good probe, or keep it open for longer; ignored when the probe was not the holder's."""
    return atomic_retry(
        lambda: _probe_result(remote_id, holder=holder, ok=ok, now=now, breaker=breaker or BreakerSpec())
    )


def _probe_result(
    remote_id: int, *, holder: str, ok: bool, now: datetime, breaker: BreakerSpec
) -> BreakerChange | None:
    gate = _locked(remote_id)
    if gate.breaker != Breaker.OPEN or not holder or gate.probe_holder != holder:
        return None
    gate.probe_holder, gate.probe_until = "", None
    changed = ["probe_holder", "probe_until", "open_until", "updated_at"]
    if ok:
        gate.breaker, gate.opened_at, gate.open_until = Breaker.CLOSED, None, None
        gate.consecutive_unreachable, gate.consecutive_faults, gate.fault_records = 0, 0, []
        gate.last_error = ""
        changed += ["breaker", "opened_at", "consecutive_unreachable", "consecutive_faults", "fault_records",
                    "last_error"]  # fmt: skip
    else:
        gate.open_until = arithmetic.open_again_until(opened_at=gate.opened_at, now=now, spec=breaker)
    gate.save(update_fields=changed)
    return BreakerChange.CLOSED if ok else None


def pause(remote_id: int, *, reason: str, detail: str, now: datetime) -> bool:
    """Stop all calls to a remote until somebody resumes it; True to the one caller that paused it."""

    def work() -> bool:
        _ensure(remote_id)
        running = Gate.objects.filter(pk=remote_id, paused=False)
        return bool(
            running.update(paused=True, pause_reason=reason[:64], pause_detail=detail, paused_at=now, updated_at=now)
        )

    return atomic_retry(work)


def resume(remote_id: int, *, now: datetime) -> bool:
    """Let calls start again; True to the one caller that ended the pause."""
    paused = Gate.objects.filter(pk=remote_id, paused=True)
    return atomic_retry(
        lambda: bool(paused.update(paused=False, pause_reason="", pause_detail="", paused_at=None, updated_at=now))
    )


def record_check(remote_id: int, *, status: str, ms: int, error: str, now: datetime) -> None:
    """Keep the outcome of a connection test for the admin."""

    def work() -> None:
        _ensure(remote_id)
        Gate.objects.filter(pk=remote_id).update(
            last_check=status, last_check_at=now, last_check_ms=ms, last_error=error, updated_at=now
        )

    atomic_retry(work)


def blocked(now: datetime) -> dict[int, Blocked]:
    """Return every remote to which no call may start, by its id."""
    found = {}
    for gate in Gate.objects.filter(Q(paused=True) | Q(breaker=Breaker.OPEN)):
        block = _block(gate, now=now)
        if block is not None:
            found[gate.pk] = block
    return found


def why_shut(remote: Remote) -> str:
    """Return paused, breaker_open, or "" by the remote's gate as it was loaded with it."""
    gate: Gate | None = getattr(remote, "gate", None)
    if gate is None:
        return ""
    return PAUSED if gate.paused else BREAKER_OPEN if gate.breaker == Breaker.OPEN else ""


def calm(remote: Remote) -> bool:
    """Tell whether the remote's gate counted no failure when it was loaded with it: good calls change nothing then."""
    gate: Gate | None = getattr(remote, "gate", None)
    return gate is None or (gate.breaker == Breaker.CLOSED and _tally(gate) == Tally())


def _block(gate: Gate, *, now: datetime) -> Blocked | None:
    if gate.paused:
        return Blocked(PAUSED, None, gate.pause_detail or gate.pause_reason)
    if gate.breaker == Breaker.OPEN:
        probing = gate.probe_holder and gate.probe_until is not None and gate.probe_until > now
        return Blocked(BREAKER_OPEN, gate.probe_until if probing else gate.open_until, gate.last_error)
    return None


def _tally(gate: Gate) -> Tally:
    return Tally(
        unreachable=gate.consecutive_unreachable,
        faults=gate.consecutive_faults,
        fault_records=tuple(gate.fault_records),
    )


def _ensure(remote_id: int) -> None:
    Gate.objects.bulk_create([Gate(remote_id=remote_id)], ignore_conflicts=True)


def _locked(remote_id: int) -> Gate:
    """Return the gate under its row lock, making it first if need be; SQLite's transaction is the lock there."""
    found = read_rows(Gate, [remote_id], _GATE, lock=True)
    if not found:
        _ensure(remote_id)
        found = read_rows(Gate, [remote_id], _GATE, lock=True)
    return Gate.from_db(connection.alias, _GATE, found[0])
