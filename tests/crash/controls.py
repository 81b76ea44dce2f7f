"""Protocols that are known to be wrong; the same checker must find out.

Each replaces a part of a run: the whole protocol by the source document's (snapshot, write, blind rollback in reverse,
a task saved only when the rollback failed), or one rule of ours. What a naive protocol saves is a list in memory that
survives a crash, with a point to die on each side of saving.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from django.db import transaction

from rollback import decide, groups, holding, journal, undo
from rollback.models import CompensatingTask, Group
from rollback.states import GroupStatus
from syncportal.remote.client import Deadline
from syncportal.remote.errors import RemoteError
from syncportal.sync.local import merge_patch
from tests.crash import checker, matrix
from tests.crash.checker import Evidence
from tests.crash.scenario import WANTED, Scenario, variant
from tests.crash.world import Base, World

MAX_ATTEMPTS = 10


@dataclass(slots=True)
class NaiveTask:
    """What the source document saves: the snapshot, and how often it was tried."""

    object_id: str
    snapshot: dict[str, Any]
    version: str | None
    due: datetime
    attempts: int = 0
    status: str = "pending"


class Naive(World):
    """The protocol of the source document."""

    if_match = False

    def __init__(self, base: Base, scenario: Scenario) -> None:
        super().__init__(base, scenario)
        self.saved: list[NaiveTask] = []
        self.status: str | None = None

    def _put(self, object_id: str, data: dict[str, Any], version: str | None) -> str | None:
        result = self.client.update(
            object_id, data=data, base={}, expected_version=version if self.if_match else None, idempotency_key="",
            deadline=Deadline(10),
        )  # fmt: skip
        return result.version

    def perform(self) -> None:
        """Read all, write in order; at the first failure write the snapshots back and say how that went."""
        try:
            seen = {name: self.client.read(name, purpose="read", deadline=Deadline(10)).object for name in self.objects}
        except RemoteError:
            self._answer("rejected", True)
            return
        done: list[tuple[str, str | None]] = []
        try:
            for name in self.objects:
                wanted = merge_patch(seen[name].data, WANTED[name])
                done.append((name, self._put(name, wanted, seen[name].version)))
        except RemoteError:
            failed = [name for name, version in reversed(done) if not self._rolled_back(seen[name].data, name, version)]
            self._answer("compensating" if failed else "rolled_back", not failed)
            return
        self._answer("applied", None)

    def _rolled_back(self, snapshot: dict[str, Any], name: str, version: str | None) -> bool:
        try:
            self._put(name, snapshot, version)
        except RemoteError:
            self.tracker.point("commit before")
            self.saved.append(NaiveTask(name, snapshot, version, self.clock()))
            self.tracker.point("commit after")
            return False
        return True

    def _answer(self, status: str, rolled_back: bool | None) -> None:
        self.status = status
        self.note(rolled_back, status)

    def sweep(self) -> None:
        """Write the snapshots of saved tasks back, each until it succeeds."""
        for task in self.saved:
            if task.status != "pending" or task.due > self.clock():
                continue
            task.attempts += 1
            try:
                self._put(task.object_id, task.snapshot, task.version)
            except RemoteError:
                task.due = self.clock() + timedelta(seconds=5 * 2**task.attempts)
                task.status = "failed_permanent" if task.attempts >= MAX_ATTEMPTS else "pending"
            else:
                task.status = "succeeded"

    def next_due(self) -> datetime | None:
        """Return when the next saved task is due."""
        return min((task.due for task in self.saved if task.status == "pending"), default=None)

    def say(self) -> None:
        """Nothing: the naive protocol has no resource to ask later."""

    def evidence(self) -> Evidence:
        """Return what the protocol's books say."""
        status = self.status if self.status == "applied" else None
        return Evidence(status, frozenset(task.object_id for task in self.saved if task.status != "succeeded"))


class NaiveIfMatch(Naive):
    """The same, every write under the version that its writer knows."""

    if_match = True


class Ours(World):
    """Our protocol, judged only by what stands at the remote."""

    def evidence(self) -> Evidence:
        """Return what our books say."""
        return checker.books(self)[0]


class NoFence(Ours):
    """Ours without the fence: an object that stands at its snapshot counts as undone."""

    def run(self) -> World:
        """Run with nothing ever counting as still on its way."""
        with patch.object(undo, "unfenced", lambda outstanding, version, spec: ()):
            return super().run()


class LateTasks(Ours):
    """Ours, but a task is saved only when its undo has failed."""

    def run(self) -> World:
        """Run with tasks that are born late."""
        with _late_tasks(self):
            return super().run()


@dataclass(slots=True)
class _Unsaved:
    """What a process remembers and loses when it dies."""

    tasks: dict[int, list[CompensatingTask]] = field(default_factory=dict)


@contextmanager
def _late_tasks(world: World) -> Iterator[None]:
    memory = _Unsaved()
    real_abort, real_recover = decide.abort, groups.compensate.recover

    def abort(group: Group, *args: Any, **kwargs: Any) -> bool:
        if not real_abort(group, *args, **kwargs):
            return False
        rows = CompensatingTask.objects.filter(step__group_id=group.pk)
        memory.tasks[group.pk] = list(rows.select_related("step").order_by("-step__position"))
        rows.delete()
        return True

    def run_inline(group_pk: int, clients: Any, *, clock: Callable[[], datetime], **unused: Any) -> None:
        failed = [task for task in memory.tasks.pop(group_pk, []) if not undone(task, clock)]
        with transaction.atomic():
            if failed:
                for task in failed:
                    task.pk = None
                    task.next_attempt_at = clock()
                journal.insert_tasks(failed)
            else:
                rows = Group.objects.filter(pk=group_pk, status=GroupStatus.COMPENSATING)
                rows.update(status=GroupStatus.ROLLED_BACK)

    def undone(task: CompensatingTask, clock: Callable[[], datetime]) -> bool:
        wanted = undo.Wanted(
            external_id=task.occurrence_id,
            snapshot=task.snapshot,
            snapshot_version=task.snapshot_version,
            sent=task.step.intended or task.applied,
            answered=task.applied,
            outstanding=tuple(undo.Outstanding.from_json(o) for o in task.outstanding),
        )
        result = undo.undo(wanted, world.client, deadline=Deadline(10), now=clock, key=lambda: "key")
        if result.ending is undo.Ending.DONE:
            with transaction.atomic():
                holding.release([task.record_id], holder=f"task:{task.task_id}", now=clock())
        return result.ending is undo.Ending.DONE

    def recover(*, clock: Callable[[], datetime]) -> int:
        taken = real_recover(clock=clock)
        for group_pk in list(memory.tasks):
            run_inline(group_pk, {}, clock=clock)
        return taken

    def died() -> None:
        memory.tasks.clear()

    world.on_death = died
    with (
        patch.object(decide, "abort", abort),
        patch.object(groups.compensate, "run_inline", run_inline),
        patch.object(groups.compensate, "recover", recover),
    ):
        yield


CONTROLS: dict[str, type[Any]] = {
    "naive (source document)": Naive,
    "naive + If-Match": NaiveIfMatch,
    "tasks only after a failed rollback": LateTasks,
    "no fence": NoFence,
}


def judged(kind: type[Any], base: Base, scenario: Scenario) -> list[str]:
    """Run one scenario under a control and return what the checker finds."""
    world = kind(base, scenario)
    world.run()
    found = checker.judge(world.remote, world.objects, world.evidence(), world.said, world.mode)
    return [*world.problems, *found]


@dataclass(frozen=True, slots=True)
class Row:
    """One protocol's figures. wrong: whether it is known to break promises."""

    name: str
    runs: int
    bad: int
    alive: int
    bad_alive: int
    wrong: bool


def scenarios(base: Base, *, seed: int, count: int, steps: int = 2) -> list[Scenario]:
    """Return runs at the best kind of remote, where nothing but the protocol can be at fault."""
    found = matrix.sample(seed, count, steps=steps)
    return [variant(scenario, mode="merge" if number % 3 == 0 else "replace") for number, scenario in enumerate(found)]


def table(base: Base, *, seed: int, count: int, steps: int = 2) -> list[Row]:
    """Judge every control, and ours, by the same runs; a death is put where the protocol has a point."""
    rows = []
    chosen = scenarios(base, seed=seed, count=count, steps=steps)
    for name, kind in {**CONTROLS, "ours": Ours}.items():
        bad = alive = bad_alive = 0
        for scenario in chosen:
            if scenario.crash is not None:
                whole = kind(base, variant(scenario, crash=None, again=None))
                whole.request()
                scenario = variant(scenario, crash=scenario.crash % max(1, len(whole.points)))
            is_bad = bool(judged(kind, base, scenario))
            is_alive = scenario.crash is None and scenario.race is None
            bad, alive, bad_alive = bad + is_bad, alive + is_alive, bad_alive + (is_bad and is_alive)
        rows.append(Row(name, len(chosen), bad, alive, bad_alive, kind is not Ours))
    return rows


def printed(rows: list[Row]) -> str:
    """Return the table as text."""
    head = f"{'protocol':<36} {'runs':>6} {'violations':>10}   {'without a crash':>16}"
    lines = [f"{row.name:<36} {row.runs:>6} {row.bad:>10}   {row.bad_alive:>7} of {row.alive:>5}" for row in rows]
    return "\n".join([head, *lines])
