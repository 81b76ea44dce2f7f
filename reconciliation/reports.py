"""Numbers about runs and discrepancies for pages: groups by kind and cause, and how runs went over time.

Owns: how they are counted. Guarantees: a fixed number of queries whatever the size. Does not: decide who may see them.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, QuerySet

from reconciliation.models import Discrepancy, Run
from reconciliation.states import Cause, Kind, RunState

_KINDS = tuple(Kind.values)


@dataclass(frozen=True, slots=True)
class Group:
    """How many discrepancies share a kind and a cause, and in how many resources."""

    kind: Kind
    cause: Cause
    count: int
    resources: int


def by_kind_and_cause(rows: QuerySet[Discrepancy]) -> list[Group]:
    """Return the groups among some discrepancies, the largest first."""
    counted = (
        rows.order_by()
        .values_list("kind", "cause")
        .annotate(number=Count("pk"), resources=Count("resource_id", distinct=True))
    )
    groups = [Group(Kind(kind), Cause(cause), number, resources) for kind, cause, number, resources in counted]
    return sorted(groups, key=lambda group: (-group.count, group.kind, group.cause))


@dataclass(frozen=True, slots=True)
class Point:
    """One run in a chart: when, how long, how fast, and how far apart both sides were."""

    run_id: int
    at: datetime
    duration_s: float
    rows_per_s: float
    checked: int
    differing: int
    fixed: int
    state: str

    @property
    def label(self) -> str:
        """Return the state in words."""
        return str(RunState(self.state).label)


def over_time(rows: QuerySet[Run], *, limit: int = 30) -> list[Point]:
    """Return the last finished runs among some, oldest first."""
    last = rows.exclude(state=RunState.RUNNING).order_by("-id")[:limit]
    return [_point(run) for run in reversed(list(last))]


def _point(run: Run) -> Point:
    return Point(run.pk, run.started_at, duration_s(run), rows_per_s(run), run.checked, differing(run), run.fixed,
                 run.state)  # fmt: skip


def differing(run: Run) -> int:
    """Return how many differences a run confirmed."""
    return sum(counts(run).values())


def counts(run: Run) -> dict[str, int]:
    """Return how many differences of each kind a run confirmed."""
    return {kind: getattr(run, kind) for kind in _KINDS}


def duration_s(run: Run) -> float:
    """Return how long a run took, or has taken so far, in seconds."""
    return max(0.0, ((run.finished_at or run.progress_at) - run.started_at).total_seconds())


def rows_per_s(run: Run) -> float:
    """Return how many rows a run compared a second while it worked; waiting for its turn is left out."""
    return run.checked / (run.worked_ms / 1000) if run.worked_ms else 0.0


def percent_done(run: Run) -> int | None:
    """Return how far a running run has come, None when nobody knows how much there is."""
    if run.state != RunState.RUNNING:
        return 100
    return min(99, 100 * run.checked // run.expected) if run.expected else None


def last_runs(rows: QuerySet[Run]) -> dict[int, Run]:
    """Return each resource's newest run among some, by resource."""
    newest = rows.order_by().values("resource_id").annotate(last=Max("pk")).values("last")
    return {run.resource_id: run for run in Run.objects.filter(pk__in=newest).select_related("resource")}
