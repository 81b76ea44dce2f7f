"""Carries out an accepted grouped update: snapshots, steps, one decision per group, and the inline undo.

The forward phase ends at 60 % of the budget; the rest is for undoing. Before each call the intent
and a renewed lease are committed; a lease that cannot be renewed means that recovery took over, so
nothing more is sent. Where several steps may be under way, one wave of them is written ahead while
another is called. The database is used on the caller's thread only.
"""

import uuid
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from rollback import calls, compensate, decide, journal
from rollback.accept import Accepted
from rollback.budget import Budget
from rollback.calls import Read, Sent, Target, problem
from rollback.journal import Snapshot, StepEnd
from rollback.lanes import Lanes
from rollback.models import Group, Step
from rollback.snapshots import Snapshots
from rollback.states import StepStatus
from rollback.turns import FREE, Turns
from rollback.undo import Client
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote.payloads import RemoteObject
from syncportal.sync import call_reports, records
from syncportal.sync.call_reports import Called
from syncportal.sync.records import RecordState


@dataclass(slots=True)
class Running:
    """One group under way: its row, its steps in order, what was read for them, and the calls of those written ahead.

    first: the steps that were written ahead together with the snapshots.
    """

    group: Group
    steps: list[Step]
    lanes: Lanes = field(init=False)
    reads: dict[int, Read] = field(default_factory=dict)
    first: list[Target] = field(default_factory=list)
    ends: dict[int, Sent] = field(default_factory=dict)
    error: dict | None = None
    by_id: dict[int, Step] = field(init=False)

    def __post_init__(self) -> None:
        self.by_id = {step.pk: step for step in self.steps}

    @property
    def failed(self) -> Read | None:
        """Return the first snapshot that the group cannot go on with."""
        return next((read for read in self.reads.values() if read.error is not None), None)


class Lost(Exception):
    """Recovery took the group over; nothing more may be sent for it here."""


def carry_out(
    accepted: Accepted,
    clients: Mapping[int, Client],
    *,
    snapshots: Snapshots,
    budget: Budget,
    pool: Executor,
    clock: Callable[[], datetime],
    turns: Turns = FREE,
    calm: Container[int] = (),
) -> None:
    """Carry out every group of a request just accepted.

    clients: by resource id, prepared outside any transaction. calm: remotes of which good calls are no news.
    """
    assert_outside_transaction()
    _CarryOut(clients, budget=budget, pool=pool, turns=turns, clock=clock).run(accepted, snapshots, calm=calm)


class _CarryOut:
    """One request's forward phase, decisions and inline undo."""

    def __init__(
        self,
        clients: Mapping[int, Client],
        *,
        budget: Budget,
        pool: Executor,
        turns: Turns,
        clock: Callable[[], datetime],
    ) -> None:
        self.clients, self.budget, self.pool, self.turns, self.clock = clients, budget, pool, turns, clock
        self.specs = {resource_id: client.spec for resource_id, client in clients.items()}

    def run(self, accepted: Accepted, snapshots: Snapshots, *, calm: Container[int]) -> None:
        groups = [self._running(group, steps) for group, steps in accepted.groups]
        reads = snapshots.read([step for running in groups for step in running.steps], held=accepted.held)
        for running in groups:
            running.reads = {step.pk: reads[step.pk] for step in running.steps}
        begun = next((running for running in groups if not running.failed), None)
        if begun is not None:
            begun.first = self._next(begun)
        live = atomic_retry(lambda: self._keep_snapshots(groups, accepted.held))
        undone = [running for running in live if not self._applied(running)]
        call_reports.report(self._calls(groups), now=self.clock(), calm=calm)
        for running in undone:
            compensate.run_inline(
                running.group.pk, self.clients, budget=self.budget, turns=self.turns, clock=self.clock
            )

    def _running(self, group: Group, steps: list[Step]) -> Running:
        running = Running(group, steps)
        running.lanes = Lanes(
            partial(self._send, running),
            pool=self.pool,
            width=min(self.clients[step.resource_id].spec.policy.parallel for step in steps),
            time_is_left=lambda: self.budget.forward_left() > 0,
        )
        return running

    def _applied(self, running: Running) -> bool:
        """Send a group's steps and decide; False when something may be left to undo."""
        try:
            return self._apply(running)
        except Lost:
            return False

    def _calls(self, groups: Sequence[Running]) -> list[Called]:
        """Return how every call went, reads before writes."""
        return [
            Called(
                self.specs[running.by_id[end.target.step_id].resource_id].remote, end.target.record_id, end.error_kind,
                (end.error or {}).get("detail", ""),
            )
            for ends in ("reads", "ends") for running in groups for end in getattr(running, ends).values()
        ]  # fmt: skip

    # --- snapshots

    def _keep_snapshots(self, groups: Sequence[Running], held: Mapping[int, RecordState]) -> list[Running]:
        """Commit all snapshots, and the first group's first steps as sent; returns the groups that go on.

        A group with a snapshot that failed is rejected at once. Records of which the snapshot shows nothing new need no
        look: what they agree on stands still while they are held.
        """
        now = self.clock()
        locked = records.lock(
            step.record_id for running in groups for step in running.steps
            if step.record_id and (running.failed or not running.reads[step.pk].shows(held.get(step.record_id)))
        )  # fmt: skip
        live: list[Running] = []
        for running in groups:
            failed = running.failed
            if failed is not None:
                error = (failed.error or {}) | {"occurrenceId": failed.target.occurrence_id}
                decide.reject(running.group, running.steps, error=error, reads=running.reads, now=now)
                continue
            keys = {target.step_id: target.key for target in running.first}
            snapshots = [
                Snapshot(step_id, read.shown.data, read.shown.version, read.intended, keys.get(step_id, ""))
                for step_id, read in running.reads.items()
                if read.shown is not None and read.intended is not None
            ]
            if journal.keep_snapshots(running.group, snapshots, now=now):
                decide.take_snapshots(running.steps, running.reads, self.specs, locked=locked, now=now)
                live.append(running)
        self.turns.keep(max((running.lanes.width for running in live), default=1))
        return live

    # --- applying

    def _apply(self, running: Running) -> bool:
        """Send the steps in order, at most `parallel` at once, and decide; True when all is applied."""
        if not running.first and self.budget.forward_left() <= 0:
            error = problem("deadline", "The request's time was over before this group was begun.")
            atomic_retry(
                lambda: decide.reject(running.group, running.steps, error=error, reads=running.reads, now=self.clock())
            )
            return True
        lanes, begun = running.lanes, len(running.first)
        lanes.start(running.first)
        unwritten: list[StepEnd] = []
        while True:
            starting = self._next(running, begun)
            if starting:
                self._write_ahead(running, starting, unwritten)
                unwritten, begun = [], begun + len(starting)
                lanes.start(starting)
            ended = lanes.ended()
            if not ended and not starting:
                break
            for sent in ended:
                running.ends[sent.target.step_id] = sent
                unwritten.append(_end(sent))
                if sent.status is not StepStatus.APPLIED and running.error is None:
                    running.error = (sent.error or {}) | {"occurrenceId": sent.target.occurrence_id}
        if running.error is None and len(running.ends) < len(running.steps):
            running.error = problem("deadline", "The request's time was over before every step was sent.")
        unwritten += [StepEnd(target.step_id, StepStatus.UNTOUCHED) for target in lanes.ready]
        return self._decide(running, unwritten)

    def _next(self, running: Running, begun: int = 0) -> list[Target]:
        """Return the steps to send next, each with its key: as many as there is room for, and the rate allows.

        It is waited for while nothing else is under way.
        """
        chosen: list[Target] = []
        for step in running.steps[begun : begun + running.lanes.room] if self.budget.forward_left() > 0 else ():
            wait_s = self.budget.forward_left() if running.lanes.idle and not chosen else 0.0
            if not self.turns.may_start(step.resource_id, wait_s=wait_s):
                break
            chosen.append(replace(running.reads[step.pk].target, key=str(uuid.uuid4())))
        return chosen

    def _write_ahead(self, running: Running, starting: Sequence[Target], ended: Sequence[StepEnd]) -> None:
        """Commit "applied k, sent k+1, lease renewed" before step k+1 is called."""

        def work() -> bool:
            keys = {target.step_id: target.key for target in starting}
            return journal.advance_steps(ended, keys=keys, group=running.group, now=self.clock())

        if not atomic_retry(work):
            running.lanes.stopped = True
            raise Lost

    def _send(self, running: Running, target: Target) -> Sent:
        read = running.reads[target.step_id]
        snapshot, intended = read.shown, read.intended
        if snapshot is None or intended is None:
            raise ValueError("a step is sent only after its snapshot")
        known = RemoteObject(target.occurrence_id, snapshot.data, snapshot.version)
        client = self.clients[running.by_id[target.step_id].resource_id]
        deadline = self.budget.deadline(self.budget.left())
        return calls.send_step(target, client, intended=intended, snapshot=known, deadline=deadline)

    def _decide(self, running: Running, unwritten: Sequence[StepEnd]) -> bool:
        group, error = running.group, running.error
        if error is None:
            return atomic_retry(
                lambda: decide.apply(group, running.steps, unwritten, running.ends, self.specs, now=self.clock())
            )
        atomic_retry(
            lambda: decide.abort(
                group, unwritten, self.specs, error=error, now=self.clock(), inline=True, ends=running.ends
            )
        )
        return False


def _end(sent: Sent) -> StepEnd:
    shown = sent.shown
    return StepEnd(
        sent.target.step_id, sent.status, shown.data if shown else None, shown.version if shown else None, sent.error
    )
