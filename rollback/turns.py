"""A grouped update's turn at its remotes: the slots it holds at each, and the pace of its calls.

Guarantees: at most as many calls at once as every remote granted; no call starts before the rate allows it,
where one step's calls beyond the first are paid before the next step's. Does not: call anything.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime

from rollback.budget import FORWARD_SHARE, Budget
from rollback.plan import Plan
from rollback.undo import Client
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync.slots import NoSlot, Turn, turn
from syncportal.sync.validation import Problem

THREADS = 16
SLOT_WAIT_S = 8.0  # many requests at once share a remote's slots; the rest of the budget is for the work
SLOT_PAUSE_S = 0.05


class Turns:
    """The turns of one request, by resource id; resources without one may be called at any time."""

    def __init__(self, held: Mapping[int, Turn]) -> None:
        self._held = held

    @property
    def width(self) -> int:
        """Return how many calls may be under way at once."""
        return min(held.slots for held in self._held.values())

    def may_start(self, resource_id: int, *, wait_s: float = 0.0) -> bool:
        """Tell whether one more call of a resource may start, and count it; waits outside of transactions only."""
        held = self._held.get(resource_id)
        return held is None or held.may_start(wait_s=max(0.0, wait_s))

    def keep(self, most: int) -> None:
        """Give the slots beyond so many back; part of the caller's transaction."""
        for held in set(self._held.values()):
            held.keep(most)


FREE = Turns({})


@contextmanager
def take_turns(
    clients: Mapping[int, Client],
    *,
    steps: int,
    budget: Budget,
    clock: Callable[[], datetime],
    refused: Callable[[], bool],
) -> Iterator[Turns | None]:
    """Take a turn at every remote, in the same order in every request so that none waits for another; raises NoSlot.

    clients: by resource id. refused: asked while there is no slot yet; True gives up, and yields None.
    """
    remotes: dict[int, list[Client]] = {}
    for client in clients.values():
        remotes.setdefault(client.spec.remote.remote_id, []).append(client)
    held: dict[int, Turn] = {}
    with ExitStack() as stack:
        for remote_id, its in sorted(remotes.items()):
            while remote_id not in held:
                try:
                    its_turn = turn(its[0].spec.remote, *its, want=min(THREADS, steps), clock=clock)
                    held[remote_id] = stack.enter_context(its_turn)
                except NoSlot:
                    if refused():
                        yield None
                        return
                    if budget.waited() > SLOT_WAIT_S:
                        raise
                    time.sleep(SLOT_PAUSE_S)
        yield Turns({pk: held[client.spec.remote.remote_id] for pk, client in clients.items()})


def too_many(plan: Plan, resources: Mapping[str, Resource], *, budget: Budget) -> list[Problem]:
    """Say so when a remote's rate cannot do the plan's calls in the time there is, however idle the remote is."""
    calls: dict[int, int] = {}
    rates: dict[int, float] = {}
    for slug in (step.resource for group in plan.groups for step in group.steps if step.resource):
        spec = spec_for(resources[slug])
        if spec.remote.limits.per_second:
            rates[spec.remote.remote_id] = spec.remote.limits.per_second
            calls[spec.remote.remote_id] = calls.get(spec.remote.remote_id, 0) + (2 if spec.conditional else 3)
    time_s = budget.request_s * FORWARD_SHARE
    slowest = max((((calls[pk] - max(1.0, rate)) / rate, rate, calls[pk]) for pk, rate in rates.items()), default=None)
    if slowest is None or slowest[0] <= time_s:
        return []
    detail = (
        f"The remote takes {slowest[1]:g} calls a second, too few for these {slowest[2]} calls in the {time_s:g} s "
        "that there are: send fewer updates at once."
    )
    return [Problem("/groups", "too_many_for_rate", detail)]
