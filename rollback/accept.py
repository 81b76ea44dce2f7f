"""Takes a grouped update in: one transaction for the request, its groups, steps and holds, or nothing."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from django.db import IntegrityError

from rollback import journal
from rollback.holding import RecordBusy, Taken, take
from rollback.models import Group, GroupedUpdate, Step
from rollback.plan import Json, Plan, PlannedStep
from rollback.states import GroupStatus
from syncportal.kernel import correlation
from syncportal.kernel.tx import atomic_retry
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import transitions
from syncportal.sync.events import Actor
from syncportal.sync.local import merge_patch
from syncportal.sync.models import Record
from syncportal.sync.records import RecordState
from syncportal.sync.states import AGREED
from syncportal.sync.validation import Problem, edit_problems


class KeyReused(Exception):
    """The requestId was used for another request; use a new one."""


class StillRunning(Exception):
    """The same request is being carried out; ask again in a moment."""


class RemoteUnavailable(Exception):
    """A remote of this request does not answer or is paused; nothing was written."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request on file. fresh: it was taken in just now and is to be carried out, with what was stored for it.

    groups: each with its steps in order. held: the records as they were when they were taken, by id.
    """

    request: GroupedUpdate
    fresh: bool
    groups: tuple[tuple[Group, list[Step]], ...] = ()
    held: Mapping[int, RecordState] = field(default_factory=dict)


def earlier(plan: Plan, *, actor: Actor) -> GroupedUpdate | None:
    """Return the request that already has this requestId; raises KeyReused or StillRunning."""
    found = GroupedUpdate.objects.filter(user_id=actor.user_id or 0, request_id=plan.request_id).first()
    if found is None:
        return None
    if found.body_hash != plan.body_hash:
        raise KeyReused
    if found.groups.filter(status=GroupStatus.RUNNING).exists():
        raise StillRunning
    return found


@dataclass(frozen=True, slots=True)
class Look:
    """What the records of a request look like before anything is held.

    problems: what their schemas refuse, and records outside the caller's scope. free: the versions of objects by
    resource id and occurrence id; empty when a record is in use, because the request will be refused then.
    """

    problems: list[Problem]
    free: Mapping[tuple[int, str], str]


def look(plan: Plan, resources: Mapping[str, Resource], *, sees_all: bool, user_id: int | None) -> Look:
    """Look at the records that are known; takes no locks, and skips steps that could not be read."""
    steps = [step for group in plan.groups for step in group.steps if step.resource and step.occurrence_id]
    wanted: dict[int, list[str]] = {}
    for step in steps:
        wanted.setdefault(resources[step.resource].pk, []).append(step.occurrence_id)
    known = {
        (row[0], str(row[1])): _Known(*row[2:])
        for resource_id, external_ids in wanted.items()
        for row in Record.objects.filter(resource_id=resource_id, external_id__in=external_ids).order_by().values_list(
            "resource_id", "external_id", "data", "version", "owner_id", "deleted_at", "job__status", "job__held_by",
            "job__in_doubt",
        )
    }  # fmt: skip
    problems: list[Problem] = []
    for step in steps:
        resource = resources[step.resource]
        record = known.get((resource.pk, step.occurrence_id))
        if not sees_all and (record is None or record.owner_id != user_id):
            problems.append(Problem(f"{step.at}/occurrenceId", "not_found", "There is no such record."))
        elif record is not None and record.deleted_at is None and step.changes:
            merged = merge_patch(record.data, step.changes)
            problems += [
                Problem(f"{step.at}/changes{problem.pointer}", problem.code, problem.detail)
                for problem in edit_problems(merged, spec=spec_for(resource), before=record.data)
            ]
    if any(record.in_use for record in known.values()):
        return Look(problems, {})
    return Look(problems, {place: record.version for place, record in known.items() if record.version is not None})


class _Known(NamedTuple):
    """One record as it is seen before anything is held."""

    data: Json
    version: str | None
    owner_id: int | None
    deleted_at: datetime | None
    status: str
    held_by: str
    in_doubt: bool

    @property
    def in_use(self) -> bool:
        return bool(self.held_by) or self.in_doubt or self.status not in AGREED


def check_remotes(plan: Plan, resources: Mapping[str, Resource], blocked: Mapping[int, str]) -> None:
    """Raise RemoteUnavailable when a remote of the plan may not be called. blocked: why, by the remote's id."""
    for slug in {step.resource for group in plan.groups for step in group.steps}:
        reason = blocked.get(resources[slug].remote_id)
        if reason:
            raise RemoteUnavailable(f"The remote of {slug} is unavailable ({reason}).")


def accept(plan: Plan, resources: Mapping[str, Resource], *, actor: Actor, clock: Callable[[], datetime]) -> Accepted:
    """Store and hold everything, or nothing; raises RecordBusy, KeyReused or StillRunning."""
    request_id = plan.request_id or uuid.uuid4().hex

    def store() -> Accepted:
        # The first durable commit is the one before the first write, and takes this one to the disk with it: a power
        # cut between the two forgets a request that has sent nothing.
        return atomic_retry(
            lambda: _store(plan, resources, request_id=request_id, actor=actor, now=clock()), durable=False
        )

    try:
        return store()
    except (IntegrityError, RecordBusy) as refused:
        # The same request may just have been stored by somebody faster, who now holds its records.
        found = earlier(plan, actor=actor)
        if found is not None:
            return Accepted(found, fresh=False)
        if isinstance(refused, RecordBusy):
            raise
    # Another request made the record of an unknown object at the same moment: it is known, and held, now.
    return store()


def _store(plan: Plan, resources: Mapping[str, Resource], *, request_id: str, actor: Actor, now: datetime) -> Accepted:
    wanted: dict[int, list[str]] = {}
    for step in (step for group in plan.groups for step in group.steps):
        wanted.setdefault(resources[step.resource].pk, []).append(step.occurrence_id)
    by_id = {resource.pk: resource for resource in resources.values()}
    taken = take(wanted, by_id, now=now)
    request, groups = journal.insert_request(
        plan, request_id=request_id, actor=actor, correlation_id=correlation.current(), now=now
    )
    stored = []
    for planned, group in zip(plan.groups, groups, strict=True):
        steps = journal.insert_steps(
            _step(group, position, resources[step.resource], step, taken) for position, step in enumerate(planned.steps)
        )
        transitions.hold([step.record_id for step in steps if step.record_id], holder=holder_of(group), now=now)
        stored.append((group, steps))
    return Accepted(request, True, tuple(stored), {found.state.id: found.state for found in taken.values()})


def _step(
    group: Group, position: int, resource: Resource, step: PlannedStep, taken: Mapping[tuple[int, str], Taken]
) -> Step:
    found = taken[(resource.pk, step.occurrence_id)]
    return Step(
        group=group, position=position, record_id=found.state.id, resource=resource, occurrence_id=step.occurrence_id,
        changes=step.changes, expected_version=step.expected_version, placeholder=found.placeholder,
    )  # fmt: skip


def holder_of(group: Group) -> str:
    """Return the name under which a group holds its records."""
    return f"group:{group.pk}"
