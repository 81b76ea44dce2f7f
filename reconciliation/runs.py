"""Starting runs, on demand for one resource, all, a selection or one record, and applying a dry run's plan.

Guarantees: one run per resource at a time; the records of a selection are frozen when it starts; a plan is applied
once, and only while no later complete look at the resource has replaced it. Does not: compare; `scan.py` and
`confirm.py` do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reconciliation import findings, journal
from reconciliation.journal import AlreadyRunning, NewRun
from reconciliation.models import Discrepancy, Run
from reconciliation.states import Origin, Phase, RunState, Scope
from reconciliation.tasks import RECONCILE, REPAIR
from syncportal.kernel import doorbell
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import events
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import Record

MOST_SELECTED = 10_000
_ORIGINS = {"user": Origin.PERSON, "api_key": Origin.PROGRAM}


class NotPossible(Exception):
    """What was asked for cannot be done now; nothing was changed. `code` is stable, the message is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def start(
    resource: Resource,
    *,
    actor: Actor,
    dry_run: bool = False,
    record_ids: Sequence[int] | None = None,
    origin: Origin | None = None,
    scope: Scope = Scope.SELECTION,
) -> Run:
    """Begin a run in the background; raises AlreadyRunning or NotPossible.

    record_ids: only these records of the resource (scope: whether they are a selection or a sample).
    """
    return atomic_retry(
        partial(_start, resource, actor=actor, dry_run=dry_run, record_ids=record_ids, origin=origin, scope=scope)
    )


def _start(
    resource: Resource,
    *,
    actor: Actor,
    dry_run: bool,
    record_ids: Sequence[int] | None,
    origin: Origin | None,
    scope: Scope,
) -> Run:
    new = NewRun(resource.pk, origin=origin or _ORIGINS.get(actor.kind, Origin.SCHEDULE), user_id=actor.user_id,
                 dry_run=dry_run)  # fmt: skip
    rows = Record.objects.filter(resource=resource, external_id__isnull=False)
    if record_ids is None:
        phase = Phase.LISTING if spec_for(resource).has_list else Phase.READING
        new = NewRun(**_fields(new) | {"phase": phase, "expected": rows.filter(deleted_at__isnull=True).count()})
    else:
        ids = tuple(rows.filter(pk__in=list(record_ids)).order_by("pk").values_list("pk", flat=True))
        if len(ids) > MOST_SELECTED:
            raise NotPossible("too_many", f"A selection holds at most {MOST_SELECTED} records; compare everything.")
        if not ids:
            raise NotPossible("nothing_selected", "None of these records of the resource was ever sent.")
        new = NewRun(**_fields(new) | {"scope": scope, "phase": Phase.READING, "record_ids": ids, "expected": len(ids)})
    run = journal.insert(new, now=db_now())
    data = {"run": run.pk, "scope": run.scope, "dry_run": dry_run, "records": len(run.record_ids) or None}
    events.write(
        [Fact(Kind.RECONCILIATION_STARTED, None, resource.pk, resource.remote_id, actor=actor, data=data)],
        now=run.started_at,
    )
    doorbell.ring(RECONCILE)
    return run


def _fields(new: NewRun) -> dict:
    return {name: getattr(new, name) for name in NewRun.__slots__}


@dataclass(frozen=True, slots=True)
class StartedAll:
    """The runs that began, and the resources that are being reconciled already."""

    runs: tuple[Run, ...]
    running: tuple[Resource, ...]


def start_all(*, actor: Actor, dry_run: bool = False) -> StartedAll:
    """Begin a run of every resource; those that are running already go on."""
    begun, busy = [], []
    for resource in Resource.objects.select_related("remote"):
        try:
            begun.append(start(resource, actor=actor, dry_run=dry_run))
        except AlreadyRunning:
            busy.append(resource)
    return StartedAll(tuple(begun), tuple(busy))


def cancel(run_id: int, *, actor: Actor) -> None:
    """End a running run early; what it found and repaired so far stays. Raises NotPossible."""
    atomic_retry(partial(_cancel, run_id, actor=actor))


def _cancel(run_id: int, *, actor: Actor) -> None:
    run = Run.objects.select_related("resource").get(pk=run_id)
    now = db_now()
    if not journal.cancel(run_id, problem="Somebody ended it early.", now=now):
        raise NotPossible("not_running", "The run is at its end already.")
    data = {"run": run_id, "scope": run.scope, "dry_run": run.dry_run, "checked": run.checked}
    events.write(
        [Fact(Kind.RECONCILIATION_CANCELLED, None, run.resource_id, run.resource.remote_id, actor=actor, data=data)],
        now=now,
    )


def plan_of(run: Run) -> dict[str, int]:
    """Return how many repairs a dry run plans, by direction; only those that nothing has settled since."""
    rows = Discrepancy.objects.open().filter(run=run).exclude(planned="")
    found: dict[str, int] = {}
    for planned in rows.values_list("planned", flat=True):
        found[planned] = found.get(planned, 0) + 1
    return found


def apply_plan(run_id: int, *, actor: Actor) -> int:
    """Ask for exactly the repairs that a dry run planned and return how many; raises NotPossible.

    The worker skips rows that moved since: revision, version, status and the remote's content are the finding's.
    """
    return atomic_retry(partial(_apply_plan, run_id, actor=actor))


def _apply_plan(run_id: int, *, actor: Actor) -> int:
    run = Run.objects.select_related("resource").select_for_update(of=("self",)).get(pk=run_id)
    why = refusal_to_apply(run)
    if why is not None:
        raise why
    now = db_now()
    journal.mark_applied(run_id, user_id=actor.user_id, now=now)
    rows = Discrepancy.objects.open().filter(run_id=run_id)
    wanted = 0
    for direction in ("take_remote", "push_local"):
        ids = list(rows.filter(planned=direction).values_list("pk", flat=True))
        wanted += len(findings.want(ids, direction=direction, actor=actor, now=now))
    data = {"run": run_id, "repairs": wanted}
    events.write(
        [Fact(Kind.RECONCILIATION_APPLIED, None, run.resource_id, run.resource.remote_id, actor=actor, data=data)],
        now=now,
    )
    doorbell.ring(REPAIR)
    return wanted


def refusal_to_apply(run: Run) -> NotPossible | None:
    """Say why a run's plan cannot be applied, None when it can."""
    if not run.dry_run:
        return NotPossible("not_a_dry_run", "Only the plan of a dry run can be applied; this run made its repairs.")
    if run.state == RunState.RUNNING:
        return NotPossible("still_running", "The dry run is not finished; its plan is not complete.")
    if run.state == RunState.BRAKED:
        return NotPossible("braked", "The brake held: there are more differences than the policy lets repair at once. "
                           "Look at them, and repair what is right by selecting it.")  # fmt: skip
    if run.state == RunState.FAILED:
        return NotPossible("failed", "The run could not look at everything, so it has no plan.")
    if run.state == RunState.CANCELLED:
        return NotPossible("cancelled", "The run was ended early, so its plan is not complete.")
    if run.applied_at is not None:
        return NotPossible("already_applied", "The plan of this run was applied already.")
    later = Run.objects.filter(resource_id=run.resource_id, scope=Scope.ALL, pk__gt=run.pk)
    if later.running().exists():
        return NotPossible("superseded", "The resource is being compared again right now; see what that run finds.")
    if later.filter(state__in=(RunState.FINISHED, RunState.BRAKED)).exists():
        return NotPossible("superseded", "A later run looked at the resource again; apply the plan of that one.")
    return None
