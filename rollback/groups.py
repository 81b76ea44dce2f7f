"""Carries out an accepted grouped update: snapshots, steps, one decision per group, and the inline undo.

The forward phase ends at 60 % of the budget; the rest is for undoing. Before each call the intent
and a renewed lease are committed; a lease that cannot be renewed means that recovery took over, so
nothing more is sent. HTTP runs in pool threads, everything else on the caller's thread.
"""

import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field, replace
from datetime import datetime

from rollback import calls, compensate, decide, journal, reporting
from rollback.budget import Budget
from rollback.calls import Read, Sent, Target, problem
from rollback.journal import Snapshot, StepEnd
from rollback.models import Group, GroupedUpdate, Step
from rollback.reporting import Called
from rollback.states import StepStatus
from rollback.undo import Client
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction, atomic_retry
from syncportal.remote.payloads import RemoteObject
from syncportal.sync import records


@dataclass(slots=True)
class Running:
    """One group under way: its row, its steps in order, and what was read for them."""

    group: Group
    steps: list[Step]
    reads: dict[int, Read] = field(default_factory=dict)
    ends: dict[int, Sent] = field(default_factory=dict)
    error: dict | None = None
    by_id: dict[int, Step] = field(init=False)

    def __post_init__(self) -> None:
        self.by_id = {step.pk: step for step in self.steps}


class Lost(Exception):
    """Recovery took the group over; nothing more may be sent for it here."""


def carry_out(
    request: GroupedUpdate,
    clients: Mapping[int, Client],
    *,
    budget: Budget,
    pool: Executor,
    clock: Callable[[], datetime] = db_now,
) -> None:
    """Carry out every group of a fresh request. clients: by resource id, prepared outside any transaction."""
    assert_outside_transaction()
    _CarryOut(clients, budget=budget, pool=pool, clock=clock).run(request)


class _CarryOut:
    """One request's forward phase, decisions and inline undo."""

    def __init__(
        self, clients: Mapping[int, Client], *, budget: Budget, pool: Executor, clock: Callable[[], datetime]
    ) -> None:
        self.clients, self.budget, self.pool, self.clock = clients, budget, pool, clock
        self.specs = {resource_id: client.spec for resource_id, client in clients.items()}

    def run(self, request: GroupedUpdate) -> None:
        groups = [Running(group, list(group.steps.all())) for group in request.groups.order_by("position")]
        self._read_all(groups)
        live = atomic_retry(lambda: self._keep_snapshots(groups))
        for running in live:
            try:
                self._apply(running)
            except Lost:
                continue
        reporting.report(self._calls(groups), now=self.clock())
        for running in live:
            compensate.run_inline(running.group.pk, self.clients, budget=self.budget, clock=self.clock)

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

    def _read_all(self, groups: Sequence[Running]) -> None:
        """Read every object of the request, concurrently; no transaction is open."""
        versions = records.versions_of(step.record_id for running in groups for step in running.steps if step.record_id)
        waiting: dict[Future[Read], tuple[Running, int]] = {}
        for running in groups:
            for step in running.steps:
                target = _target(step, known_version=versions.get(step.record_id or 0))
                client = self.clients[step.resource_id]
                waiting[self.pool.submit(self._read, target, client)] = (running, step.pk)
        for future, (running, step_id) in waiting.items():
            running.reads[step_id] = future.result()

    def _read(self, target: Target, client: Client) -> Read:
        """Read one object, in a pool thread: its time begins when the call does, however long it was queued."""
        return calls.read_snapshot(target, client, deadline=self.budget.deadline(self.budget.forward_left()))

    def _keep_snapshots(self, groups: Sequence[Running]) -> list[Running]:
        """Commit all snapshots; a group with one that failed is rejected at once. Returns the groups that go on."""
        now = self.clock()
        locked = records.lock(step.record_id for running in groups for step in running.steps if step.record_id)
        live = []
        for running in groups:
            failed = next((read for read in running.reads.values() if read.error is not None), None)
            if failed is not None:
                error = (failed.error or {}) | {"occurrenceId": failed.target.occurrence_id}
                decide.reject(running.group, running.steps, error=error, reads=running.reads, now=now)
                continue
            if not journal.renew(running.group, now=now):
                continue
            decide.take_snapshots(running.steps, running.reads, self.specs, locked=locked, now=now)
            journal.keep_snapshots(
                [
                    Snapshot(step_id, read.shown.data, read.shown.version, read.intended)
                    for step_id, read in running.reads.items()
                    if read.shown is not None and read.intended is not None
                ]
            )
            live.append(running)
        return live

    # --- applying

    def _apply(self, running: Running) -> None:
        """Send the steps in order, at most `parallel` at once, and decide."""
        if self.budget.forward_left() <= 0:
            error = problem("deadline", "The request's time was over before this group was begun.")
            atomic_retry(
                lambda: decide.reject(running.group, running.steps, error=error, reads=running.reads, now=self.clock())
            )
            return
        parallel = min(self.clients[step.resource_id].spec.policy.parallel for step in running.steps)
        waiting = deque(running.steps)
        under_way: dict[Future[Sent], Target] = {}
        unwritten: list[StepEnd] = []
        while waiting or under_way:
            starting = self._next(running, waiting, room=parallel - len(under_way))
            if starting:
                self._write_ahead(running, starting, unwritten)
                unwritten = []
                for target in starting:
                    under_way[self._send(running, target)] = target
            if not under_way:
                break
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                sent = future.result()
                running.ends[under_way.pop(future).step_id] = sent
                unwritten.append(_end(sent))
                if sent.status is not StepStatus.APPLIED and running.error is None:
                    running.error = (sent.error or {}) | {"occurrenceId": sent.target.occurrence_id}
        self._decide(running, unwritten)

    def _next(self, running: Running, waiting: deque[Step], *, room: int) -> list[Target]:
        """Return the steps to start now: none after a failure or past the forward deadline."""
        if running.error is None and waiting and self.budget.forward_left() <= 0:
            running.error = problem("deadline", "The request's time was over before every step was sent.")
        if running.error is not None:
            waiting.clear()
            return []
        chosen = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        return [replace(running.reads[step.pk].target, key=str(uuid.uuid4())) for step in chosen]

    def _write_ahead(self, running: Running, starting: Sequence[Target], ended: Sequence[StepEnd]) -> None:
        """Commit "applied k, sent k+1, lease renewed" before step k+1 is called."""

        def work() -> bool:
            now = self.clock()
            if not journal.renew(running.group, now=now):
                return False
            journal.mark_ended(ended)
            journal.mark_sent({target.step_id: target.key for target in starting}, now=now)
            return True

        if not atomic_retry(work):
            raise Lost

    def _send(self, running: Running, target: Target) -> "Future[Sent]":
        read = running.reads[target.step_id]
        step = running.by_id[target.step_id]
        snapshot, intended = read.shown, read.intended
        if snapshot is None or intended is None:
            raise ValueError("a step is sent only after its snapshot")
        known = RemoteObject(target.occurrence_id, snapshot.data, snapshot.version)
        client = self.clients[step.resource_id]

        def send() -> Sent:
            deadline = self.budget.deadline(self.budget.left())
            return calls.send_step(target, client, intended=intended, snapshot=known, deadline=deadline)

        return self.pool.submit(send)

    def _decide(self, running: Running, unwritten: Sequence[StepEnd]) -> None:
        error = running.error
        if error is None:
            atomic_retry(lambda: decide.apply(running.group, unwritten, running.ends, self.specs, now=self.clock()))
            return
        atomic_retry(
            lambda: decide.abort(
                running.group, unwritten, self.specs, error=error, now=self.clock(), inline=True, ends=running.ends
            )
        )


def _target(step: Step, *, known_version: str | None) -> Target:
    return Target(
        step_id=step.pk,
        record_id=step.record_id or 0,
        occurrence_id=step.occurrence_id,
        changes=step.changes,
        expected_version=step.expected_version,
        known_version=known_version,
    )


def _end(sent: Sent) -> StepEnd:
    shown = sent.shown
    return StepEnd(
        sent.target.step_id, sent.status, shown.data if shown else None, shown.version if shown else None, sent.error
    )
