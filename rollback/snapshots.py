"""Reads the objects of a request: ahead of its holds where that proves as good, else while they are held.

Storing a request and holding its records takes some milliseconds; reads that begin before hide them. Such a read counts
only where the remote refuses stale writes and it shows exactly what the record agreed on, content and version, when it
was taken: a read under the hold shows the same, or the object has moved since and the step is refused. Whatever shows
anything else is read again. An object that could not be read rejects its group either way. HTTP in the pool's threads;
no database.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace

from rollback import calls
from rollback.budget import Budget
from rollback.calls import Read, Target, problem
from rollback.models import Step
from rollback.plan import Plan
from rollback.turns import Turns
from rollback.undo import Client
from syncportal.remote.models import Resource
from syncportal.sync.records import RecordState

Place = tuple[int, str]
"""One object of a request: its resource's id, and its own."""


@dataclass(slots=True)
class Snapshots:
    """The snapshots of one request. clients: by resource id."""

    clients: Mapping[int, Client]
    budget: Budget
    pool: Executor
    turns: Turns
    _ahead: dict[Place, Future[Read]] = field(default_factory=dict)

    def begin(self, plan: Plan, resources: Mapping[str, Resource], *, free: Mapping[Place, str]) -> None:
        """Begin to read the objects that seem free before they are held. free: their versions as known here."""
        for step in (step for group in plan.groups for step in group.steps):
            place = (resources[step.resource].pk, step.occurrence_id)
            if place in free and self.clients[place[0]].spec.conditional:
                if not self.turns.may_start(place[0]):
                    break
                target = Target(0, 0, step.occurrence_id, step.changes, step.expected_version, free[place])
                self._ahead[place] = self._ask(target, place)

    def read(self, steps: Sequence[Step], *, held: Mapping[int, RecordState]) -> dict[int, Read]:
        """Return every step's snapshot by its id, in order. held: the records as they were when they were taken."""
        found: dict[int, Read] = {}
        waiting: dict[int, Future[Read]] = {}
        ahead = {step.pk: self._ahead.get((step.resource_id, step.occurrence_id)) for step in steps}
        for step in sorted(steps, key=lambda step: ahead[step.pk] is not None):  # what is not asked for yet goes first
            begun, state = ahead[step.pk], held.get(step.record_id or 0)
            target = _target(step, state)
            read = begun.result() if begun is not None else None
            if read is not None and (read.shown is None or read.shows(state)):
                found[step.pk] = replace(read, target=target)
            elif self.turns.may_start(step.resource_id, wait_s=self.budget.forward_left()):
                waiting[step.pk] = self._ask(target, (step.resource_id, step.occurrence_id))
            else:
                late = problem("deadline", "The request's time was over before every object was read.")
                found[step.pk] = Read(target, error=late)
        return {step.pk: found[step.pk] if step.pk in found else waiting[step.pk].result() for step in steps}

    def _ask(self, target: Target, place: Place) -> Future[Read]:
        return self.pool.submit(self._read, target, self.clients[place[0]])

    def _read(self, target: Target, client: Client) -> Read:
        """Read one object, in a pool thread: its time begins when the call does, however long it was queued."""
        return calls.read_snapshot(target, client, deadline=self.budget.deadline(self.budget.forward_left()))


def _target(step: Step, state: RecordState | None) -> Target:
    return Target(
        step_id=step.pk,
        record_id=step.record_id or 0,
        occurrence_id=step.occurrence_id,
        changes=step.changes,
        expected_version=step.expected_version,
        known_version=state.version if state is not None else None,
    )
