"""The only writer of Run, Suspect and SpooledRow: starting, claiming, advancing and ending runs.

Guarantees: one run per resource at a time (a constraint says so, too); one slice at a time works on a run, and whatever
a slice that lost its lease still writes is rolled back by `advance`, which is called last in its transaction.
Does not: compare anything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Max, Q

from reconciliation import states
from reconciliation.models import Run, SpooledRow, Suspect
from reconciliation.states import Kind, Origin, Phase, RunState, Scope
from syncportal.kernel import correlation

LEASE_S = 60.0
COUNTS = (
    "checked", "matched", "busy", *Kind.values, "fixed", "planned", "ignored", "closed", "needing_action",
    "remote_rows",
)  # fmt: skip


class AlreadyRunning(Exception):
    """The resource is being reconciled right now; look at that run, or try again when it is done."""

    def __init__(self, run_id: int | None) -> None:
        super().__init__("The resource is being reconciled right now.")
        self.run_id = run_id


class Fenced(Exception):
    """Another worker took this run over; what this one was about to write is rolled back."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run starts with. record_ids: of a selection or sample, frozen now."""

    resource_id: int
    scope: Scope = Scope.ALL
    origin: Origin = Origin.PERSON
    user_id: int | None = None
    dry_run: bool = False
    record_ids: tuple[int, ...] = ()
    phase: Phase = Phase.LISTING
    expected: int | None = None


@dataclass(slots=True)
class Progress:
    """What a slice did since it last wrote: counts to add, and where the next slice goes on."""

    counts: Counter[str] = field(default_factory=Counter)
    phase: Phase | None = None
    cursor: Mapping[str, Any] | None = None
    expected: int | None = None


def insert(new: NewRun, *, now: datetime) -> Run:
    """Begin a run; raises AlreadyRunning."""
    try:
        with transaction.atomic():
            return Run.objects.create(
                resource_id=new.resource_id, scope=new.scope, origin=new.origin, started_by_id=new.user_id,
                dry_run=new.dry_run, record_ids=list(new.record_ids), phase=new.phase, expected=new.expected,
                correlation_id=correlation.current(), started_at=now, progress_at=now,
            )  # fmt: skip
    except IntegrityError:
        running = Run.objects.running().filter(resource_id=new.resource_id)
        raise AlreadyRunning(running.values_list("pk", flat=True).first()) from None


def claim(run_id: int, *, now: datetime) -> Run | None:
    """Take a run for one slice; None when another worker has it or it is at its end."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    until = now + timedelta(seconds=LEASE_S)
    taken = Run.objects.running().filter(free, pk=run_id)
    if not taken.update(claim_no=F("claim_no") + 1, lease_until=until):
        return None
    return Run.objects.select_related("resource__remote").get(pk=run_id)


def advance(run: Run, progress: Progress, *, now: datetime, worked_ms: int = 0) -> None:
    """Add to the counts, move the cursor and prolong the lease; raises Fenced. Call last in the transaction.

    `run` is brought up to date as well.
    """
    changes: dict[str, Any] = {
        "lease_until": now + timedelta(seconds=LEASE_S), "progress_at": now, "worked_ms": F("worked_ms") + worked_ms,
        "problem": run.problem, "tries": 0,
    }  # fmt: skip
    changes |= {name: F(name) + count for name, count in progress.counts.items()}
    changes["suspected"] = Suspect.objects.filter(run_id=run.pk).count() if progress.counts else F("suspected")
    if progress.phase is not None:
        changes["phase"] = progress.phase
    if progress.cursor is not None:
        changes["cursor"] = dict(progress.cursor)
    if progress.expected is not None:
        changes["expected"] = progress.expected
    if not _mine(run).update(**changes):
        raise Fenced
    for name, count in progress.counts.items():
        setattr(run, name, getattr(run, name) + count)
    run.tries, run.phase = 0, progress.phase or run.phase
    run.cursor = dict(progress.cursor) if progress.cursor is not None else run.cursor
    run.expected = progress.expected if progress.expected is not None else run.expected


def is_last_try(run: Run, *, most: int) -> bool:
    """Tell whether the remote failed the run so often in a row that nothing waits for another answer."""
    return run.tries + 1 >= most


def leave(run: Run, *, now: datetime, problem: str | None = None, pause_s: float = 0.0, failed: bool = False) -> None:
    """Give the run back; the next slice starts after `pause_s`. failed: the remote failed it, which is counted."""
    changes: dict[str, Any] = {"lease_until": now + timedelta(seconds=pause_s) if pause_s else None}
    changes |= {"tries": F("tries") + 1} if failed else {}
    if problem is not None:
        changes["problem"] = problem
    _mine(run).update(**changes)


def end(run: Run, state: RunState, *, problem: str, now: datetime) -> None:
    """End a run and forget what it was working with; raises Fenced."""
    verb = states.FAIL if state == RunState.FAILED else states.FINISH
    if state not in verb.targets:
        raise ValueError(f"a run does not end as {state}")
    moved = _mine(run).update(
        state=state, phase=Phase.DONE, problem=problem, cursor={}, suspected=0, lease_until=None, finished_at=now,
        progress_at=now,
    )  # fmt: skip
    if not moved:
        raise Fenced
    Suspect.objects.filter(run_id=run.pk).delete()
    forget_spool(run.pk)


def cancel(run_id: int, *, problem: str, now: datetime) -> bool:
    """End a running run early; False when it is at its end. A slice that works on it finds itself fenced."""
    moved = Run.objects.running().filter(pk=run_id).update(
        state=RunState.CANCELLED, phase=Phase.DONE, problem=problem, cursor={}, suspected=0, lease_until=None,
        finished_at=now, progress_at=now,
    )  # fmt: skip
    if moved:
        Suspect.objects.filter(run_id=run_id).delete()
        forget_spool(run_id)
    return bool(moved)


def mark_applied(run_id: int, *, user_id: int | None, now: datetime) -> bool:
    """Note that a dry run's plan is carried out; False when it was already."""
    rows = Run.objects.filter(pk=run_id, dry_run=True, state=RunState.FINISHED, applied_at__isnull=True)
    return bool(rows.update(applied_at=now, applied_by_id=user_id))


def prune(*, before: datetime, limit: int = 200) -> int:
    """Forget runs that ended before a time, a slice at a time; each resource keeps its last."""
    last = Run.objects.order_by().values("resource_id").annotate(last=Max("pk")).values("last")
    old = Run.objects.filter(finished_at__lt=before).exclude(pk__in=last)
    return Run.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()[0]


def _mine(run: Run) -> Any:
    return Run.objects.running().filter(pk=run.pk, claim_no=run.claim_no)


# --- differences to be confirmed -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A difference that one look showed. pages: where, if only looking there again can confirm it."""

    external_id: str
    kind: str = ""
    pages: tuple[str, ...] = ()


def suspect(run_id: int, found: Iterable[Suspicion]) -> None:
    """Keep differences for confirmation; a duplicate key outweighs what was noted of the same object before."""
    rows = [Suspect(run_id=run_id, external_id=s.external_id, kind=s.kind, pages=list(s.pages)) for s in found]
    strong = [row for row in rows if row.pages]
    weak = [row for row in rows if not row.pages]
    Suspect.objects.bulk_create(weak, ignore_conflicts=True, batch_size=500)
    Suspect.objects.bulk_create(
        strong, update_conflicts=True, unique_fields=["run", "external_id"], update_fields=["kind", "pages"],
        batch_size=500,
    )  # fmt: skip


def suspects(run_id: int, *, limit: int) -> list[Suspect]:
    """Return the next differences to confirm."""
    return list(Suspect.objects.filter(run_id=run_id).order_by("tries", "pk")[:limit])


def suspected_as(run_id: int, external_ids: Iterable[str]) -> dict[str, str]:
    """Return as what those of the ids are suspected that are."""
    rows = Suspect.objects.filter(run_id=run_id, external_id__in=list(external_ids))
    return dict(rows.values_list("external_id", "kind"))


def try_again(run_id: int, external_ids: Iterable[str]) -> None:
    """Count a read that failed; the suspicion stays, behind those not read yet."""
    rows = Suspect.objects.filter(run_id=run_id, external_id__in=list(external_ids))
    rows.update(tries=F("tries") + 1)


def acquit(run_id: int, external_ids: Iterable[str]) -> int:
    """Forget suspicions that were looked into or turned out to be nothing."""
    return Suspect.objects.filter(run_id=run_id, external_id__in=list(external_ids)).delete()[0]


def suspected_of(run_id: int, kinds: Sequence[str]) -> int:
    """Count the differences of some kinds that wait for confirmation."""
    return Suspect.objects.filter(run_id=run_id, kind__in=kinds).count()


# --- rows that came out of order -------------------------------------------------------------------------------------


def spool(run_id: int, rows: Iterable[SpooledRow]) -> None:
    """Keep rows of the list; one that is there already with this content is the same row shown twice."""
    SpooledRow.objects.bulk_create(list(rows), ignore_conflicts=True, batch_size=500)


def forget_spool(run_id: int, *, batch: int = 5_000) -> None:
    """Remove what was kept of an unordered list."""
    while True:
        rows = SpooledRow.objects.filter(run_id=run_id).values_list("pk", flat=True)[:batch]
        if not SpooledRow.objects.filter(pk__in=list(rows)).delete()[0]:
            return
