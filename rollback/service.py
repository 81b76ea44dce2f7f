"""The one entry for a grouped update: from the request's JSON to rows that say what became of it."""

from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from rollback import accept, groups, plan
from rollback.budget import Budget
from rollback.models import GroupedUpdate
from rollback.snapshots import Snapshots
from rollback.turns import FREE, Turns, take_turns, too_many
from rollback.undo import Client
from syncportal.kernel.clock import running_clock
from syncportal.kernel.crew import Crew
from syncportal.remote import limits
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync.events import Actor
from syncportal.sync.slots import NoSlot
from syncportal.sync.validation import Problem


@dataclass(frozen=True, slots=True)
class Performed:
    """A request on file. replayed: it was there before; request None: it was only validated."""

    request: GroupedUpdate | None
    replayed: bool = False


def perform(
    body: Any,
    *,
    actor: Actor,
    sees_all: bool,
    client_of: Callable[[Resource], Client] = client_for,
    extra_problems: Sequence[Problem] = (),
) -> Performed:
    """Carry out a grouped update and return it; see the exceptions of `plan.examine` and `accept`.

    extra_problems: what the caller found wrong; listed with the rest. Raises InvalidPlan with all problems, or
    RemoteUnavailable when a remote cannot be called and Misconfiguration when one is not set up, in each case with
    nothing written.
    """
    budget = Budget(call_s=settings.CALL_TOTAL_S, request_s=settings.GROUP_BUDGET_S)
    resources = {resource.slug: resource for resource in Resource.objects.select_related("remote__gate")}
    planned, problems = plan.examine(body, specs={slug: spec_for(resource) for slug, resource in resources.items()})
    problems += extra_problems
    if not extra_problems and not planned.validate_only:
        # What is on file was in order when it was sent, whatever the configuration says of it by now.
        found = _earlier(planned, actor=actor, same_only=bool(problems))
        if found is not None:
            return Performed(found, replayed=True)
    look = accept.look(planned, resources, sees_all=sees_all, user_id=actor.user_id)
    problems += look.problems + too_many(planned, resources, budget=budget)
    if problems:
        raise plan.InvalidPlan(plan.in_order(problems))
    if planned.validate_only:
        return Performed(None)
    shut = {resource.remote_id: limits.why_shut(resource.remote) for resource in resources.values()}
    accept.check_remotes(planned, resources, shut)
    used = {resources[step.resource] for group in planned.groups for step in group.steps}
    clients = {resource.pk: client_of(resource) for resource in used}
    calm = {resource.remote_id for resource in used if limits.calm(resource.remote)}
    return _in_turn(planned, resources, look, clients, actor=actor, budget=budget, calm=calm)


def _earlier(planned: plan.Plan, *, actor: Actor, same_only: bool = False) -> GroupedUpdate | None:
    """Return the request on file. same_only: say nothing of another payload, its problems will be told."""
    try:
        return accept.earlier(planned, actor=actor) if planned.request_id else None
    except accept.KeyReused:
        if same_only:
            return None
        raise


def _in_turn(
    planned: plan.Plan,
    resources: Mapping[str, Resource],
    look: accept.Look,
    clients: Mapping[int, Client],
    *,
    actor: Actor,
    budget: Budget,
    calm: Container[int],
) -> Performed:
    """Take a turn at every remote used, then store and carry out the request."""
    clock = running_clock()

    def refused() -> bool:
        blocked = limits.blocked(clock())
        accept.check_remotes(planned, resources, {pk: found.reason for pk, found in blocked.items()})
        return _earlier(planned, actor=actor) is not None

    steps = sum(len(group.steps) for group in planned.groups)
    with ExitStack() as stack:
        try:
            turns = stack.enter_context(take_turns(clients, steps=steps, budget=budget, clock=clock, refused=refused))
        except NoSlot as no_slot:
            raise accept.RemoteUnavailable(str(no_slot)) from None
        if turns is None:
            return Performed(_earlier(planned, actor=actor), replayed=True)
        pool = Crew(turns.width)
        stack.callback(pool.shutdown, cancel_futures=True)  # a request that is refused has no more use for its reads
        accepted = carry_out(
            planned, resources, look, clients, actor=actor, budget=budget, pool=pool, clock=clock, turns=turns,
            calm=calm,
        )  # fmt: skip
    return Performed(accepted.request, replayed=not accepted.fresh)


def carry_out(
    planned: plan.Plan,
    resources: Mapping[str, Resource],
    look: accept.Look,
    clients: Mapping[int, Client],
    *,
    actor: Actor,
    budget: Budget,
    pool: Executor,
    clock: Callable[[], datetime],
    turns: Turns = FREE,
    calm: Container[int] = (),
) -> accept.Accepted:
    """Begin to read, store and hold everything or nothing, and carry it out; see `accept.accept` for refusals.

    calm: the ids of remotes of which good calls are no news.
    """
    snapshots = Snapshots(clients, budget, pool, turns)
    snapshots.begin(planned, resources, free=look.free)
    accepted = accept.accept(planned, resources, actor=actor, clock=clock)
    if accepted.fresh:
        groups.carry_out(
            accepted, clients, snapshots=snapshots, budget=budget, pool=pool, clock=clock, turns=turns, calm=calm
        )
    return accepted
