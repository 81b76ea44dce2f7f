"""What people do to discrepancies: preview a repair, ask for it, ignore. All on explicit ids, with a result per row.

Guarantees: a moving filter never widens an act; what is left out is named with its reason; each act is in the history.
Does not: carry a repair out; `fixing.py` does, after reading the object once more.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reconciliation import findings
from reconciliation.models import Discrepancy
from reconciliation.states import DIRECTIONS, UNSETTLED, Direction, Kind, State
from reconciliation.tasks import REPAIR
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.sync import events
from syncportal.sync import states as record_states
from syncportal.sync.events import Actor, Fact
from syncportal.sync.models import SyncJob
from syncportal.sync.states import Status


@dataclass(frozen=True, slots=True)
class Preview:
    """Which rows a repair would touch, by kind, and which it leaves out for which reason."""

    ids: tuple[int, ...]
    by_kind: dict[str, int]
    left_out: dict[int, str]

    @property
    def reasons(self) -> dict[str, int]:
        """Return how many rows are left out for each reason."""
        return dict(Counter(self.left_out.values()))


def preview(discrepancy_ids: Sequence[int], *, direction: str) -> Preview:
    """Say what asking for a repair of these rows would do; nothing is changed and the remote is not asked."""
    rows = list(Discrepancy.objects.select_related("record", "record__job").filter(pk__in=list(discrepancy_ids)))
    left_out = {pk: "not found" for pk in set(discrepancy_ids) - {row.pk for row in rows}}
    kinds: Counter[str] = Counter()
    ids = []
    for row in sorted(rows, key=lambda row: row.pk):
        why = obstacle(row, direction=direction)
        if why:
            left_out[row.pk] = why
        else:
            ids.append(row.pk)
            kinds[row.kind] += 1
    return Preview(tuple(ids), dict(kinds), left_out)


def obstacle(row: Discrepancy, *, direction: str) -> str:
    """Say in a few words why a row cannot be repaired in this direction; "" when it can, as far as we know here."""
    if row.state not in UNSETTLED:
        return f"already {State(row.state).label.lower()}"
    if row.wanted_at is not None:
        return "already asked for"
    if direction not in directions_of(row):
        return f"{Kind(row.kind).label.lower()} cannot be repaired this way"
    if row.record is None:
        return ""
    job: SyncJob = row.record.job
    if job.held_by:
        return "held by a group or an undo"
    if job.in_doubt:
        return "a write of ours is in doubt"
    if job.status not in record_states.AGREED:
        return Status(job.status).label.lower()
    if (row.record.revision, row.record.version) != (row.revision, row.local_version):
        return "changed since it was found"
    return ""


def directions_of(row: Discrepancy) -> tuple[Direction, ...]:
    """Return the repairs that make sense for a row at all; a deletion here may be pushed again."""
    if row.kind == Kind.MISSING_LOCAL and row.record_id is not None:
        return (Direction.TAKE_REMOTE, Direction.PUSH_LOCAL)
    return DIRECTIONS[Kind(row.kind)]


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking came to: the rows taken, and the others with their reasons."""

    ids: tuple[int, ...]
    left_out: dict[int, str]


def request(discrepancy_ids: Sequence[int], *, direction: str, actor: Actor) -> Asked:
    """Have the worker repair these rows; each keeps what it came to in `outcome`."""
    return atomic_retry(partial(_request, discrepancy_ids, direction=direction, actor=actor))


def _request(discrepancy_ids: Sequence[int], *, direction: str, actor: Actor) -> Asked:
    seen = preview(discrepancy_ids, direction=direction)
    taken = findings.want(seen.ids, direction=direction, actor=actor, now=db_now())
    if taken:
        doorbell.ring(REPAIR)
    raced = {pk: "somebody else was faster" for pk in set(seen.ids) - taken}
    return Asked(tuple(sorted(taken)), seen.left_out | raced)


def ignore(discrepancy_ids: Sequence[int], *, reason: str, actor: Actor) -> set[int]:
    """Accept these differences until they change, with a reason, and return the rows that were open."""
    return atomic_retry(partial(_ignore, discrepancy_ids, reason=reason, actor=actor))


def _ignore(discrepancy_ids: Sequence[int], *, reason: str, actor: Actor) -> set[int]:
    now = db_now()
    taken = findings.ignore(discrepancy_ids, reason=reason, user_id=actor.user_id, now=now)
    rows = Discrepancy.objects.filter(pk__in=taken).order_by("pk")
    events.write(
        (
            Fact(events.Kind.DISCREPANCY_IGNORED, row.record_id, row.resource_id, actor=actor,
                 data={"discrepancy": row.pk, "kind": row.kind, "external_id": row.external_id, "reason": reason})
            for row in rows
        ),
        now=now,
    )  # fmt: skip
    return taken
