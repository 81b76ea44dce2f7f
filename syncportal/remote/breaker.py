"""When a remote is considered down: the pure arithmetic of the circuit breaker.

Guarantees: the same results in the same order always lead to the same state. No clock, no database: limits.py keeps the
state and passes the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from syncportal.remote.errors import ErrorKind
from syncportal.remote.knobs import BreakerSpec

LONGEST_OPEN_FACTOR: Final = 10
NO_RECORD: Final = -1
_MOST_RECORDS: Final = 50
_FAULTS: Final = frozenset({ErrorKind.timeout, ErrorKind.server_fault})


class BreakerChange(StrEnum):
    """What a report or a probe did to the breaker."""

    OPENED = "opened"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class CallResult:
    """How one call ended: `kind` is None when the remote answered well; `record_id` is the record it was for.

    `code` says more closely what was wrong, such as http_503.
    """

    kind: ErrorKind | None
    record_id: int | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """What has gone wrong in a row so far. fault_records: each record once, and a -1 for each call about none."""

    unreachable: int = 0
    faults: int = 0
    fault_records: tuple[int, ...] = ()

    def reason(self, spec: BreakerSpec, *, last: str = "") -> str:
        """Say why the breaker has to open, "" while it need not; `last` is the code of the last call."""
        ending = f", the last with {last}." if last else "."
        if self.unreachable >= spec.unreachable:
            return f"{self.unreachable} calls in a row could not reach the remote{ending}"
        if self.faults >= spec.failures and len(self.fault_records) >= spec.records:
            records = len(self.fault_records) - self.fault_records.count(NO_RECORD)
            on = f" on {records} records" if records else ""
            return f"{self.faults} calls in a row{on} timed out or met a server fault{ending}"
        return ""


def count(tally: Tally, results: Iterable[CallResult], *, spec: BreakerSpec) -> tuple[Tally, str]:
    """Add results in their order; return the tally and, if the breaker has to open, why.

    Being asked to wait proves that the remote is there but not that it is well; every other answer proves both.
    """
    for result in results:
        tally = _add(tally, result)
        reason = tally.reason(spec, last=result.code)
        if reason:
            return tally, reason
    return tally, ""


def _add(tally: Tally, result: CallResult) -> Tally:
    if result.kind is ErrorKind.unreachable:
        return replace(tally, unreachable=tally.unreachable + 1)
    if result.kind in _FAULTS:
        records = tally.fault_records
        # What a page of a list or a sign-in meets is not the fault of one sick record, so each counts as another one.
        known = result.record_id in records or len(records) >= _MOST_RECORDS
        grown = records if known else (*records, NO_RECORD if result.record_id is None else result.record_id)
        return Tally(faults=tally.faults + 1, fault_records=grown)
    if result.kind is ErrorKind.throttled:
        return replace(tally, unreachable=0)
    return Tally()


def longest_open_s(spec: BreakerSpec) -> float:
    """Return for how many seconds at most a breaker waits before the next probe."""
    return spec.open_s * LONGEST_OPEN_FACTOR


def open_again_until(*, opened_at: datetime | None, now: datetime, spec: BreakerSpec) -> datetime:
    """Return until when a breaker stays open after a failed probe.

    The wait grows with the length of the outage: 1, 2, 4, 8 and at most 10 times `open_s` when probes are prompt.
    """
    outage_s = max(0.0, (now - opened_at).total_seconds()) if opened_at is not None else 0.0
    return now + timedelta(seconds=min(longest_open_s(spec), outage_s + spec.open_s))
