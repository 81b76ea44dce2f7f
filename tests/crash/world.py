"""One run of a grouped update: request, crash, recovery until nothing is open, and what was said on the way.

Everything runs on this thread: the pool is inline, time is a virtual clock, doorbells are silent.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import MagicMock, patch

from django.contrib.auth.models import User

from rollback import accept, answers, compensate, holding, service
from rollback.budget import Budget
from rollback.holding import RecordBusy
from rollback.models import GroupedUpdate
from rollback.plan import Plan, PlannedGroup, PlannedStep
from syncportal.remote.models import Remote, Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import local, records, transitions
from syncportal.sync.events import Actor
from syncportal.sync.models import Record
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from tests.crash import database
from tests.crash.points import Crash, Tracker
from tests.crash.remote import FakeClient, FakeRemote, Stored, ThirdParty
from tests.crash.scenario import BY_NAME, MODES, OBJECTS, START, WANTED, Mode, Scenario

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SETTLE_S = 30.0
SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}, "version": {"type": "integer"}, "x": {}, "y": {}}}
MAX_ROUNDS = 80


@dataclass(frozen=True, slots=True)
class Said:
    """One answer: what `rolledBack` said, and the length of the remote's log then."""

    rolled_back: bool | None
    status: str
    position: int
    fields: Mapping[tuple[str, str], Any]


class Clock:
    """Virtual time: a millisecond passes with every look."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def to(self, moment: datetime) -> None:
        """Let time pass until a moment, if it lies ahead."""
        self.now = max(self.now, moment)


class Inline(Executor):
    """Runs what is submitted at once; a Crash goes straight through."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass(slots=True)
class Base:
    """What all runs share: the resources, a user, and the clock that patched modules read."""

    user_id: int
    resources: dict[str, Resource]
    tracker: Tracker
    clock: list[Clock] = field(default_factory=lambda: [Clock()])
    rows: dict[str, database.Kept] = field(default_factory=dict)

    def now(self) -> datetime:
        """Return the time of the run that is under way."""
        return self.clock[0]()

    def remove(self) -> None:
        """Remove what was made; the tables of runs must be empty."""
        remote_id = next(iter(self.resources.values())).remote_id
        Resource.objects.filter(remote_id=remote_id).delete()
        Remote.objects.filter(pk=remote_id).delete()
        User.objects.filter(pk=self.user_id).delete()


_CONFIG: dict[str, Any] = {
    "detail": {"path": "/things/{0}"},
    "id": ["/id"],
    "version": {"from": "body", "pointer": "/version"},
    "schema": SCHEMA,
}


def _config(mode: Mode) -> dict[str, Any]:
    config = dict(_CONFIG)
    config["update"] = {"method": "PATCH", "semantics": "merge"} if mode.merge else {"method": "PUT"}
    if mode.conditional:
        config["precondition"] = {"send": "if_match", "format": '"{}"'}
    config["policy"] = {"settle_s": SETTLE_S, "parallel": mode.parallel}
    return config


@contextmanager
def prepared() -> Iterator[Base]:
    """Make what all runs share, patch time and noise out of the engine, and hook the connection."""
    user, _ = User.objects.get_or_create(username=f"crash-{uuid.uuid4().hex[:8]}")
    breaker = {"unreachable": 100_000, "failures": 100_000}
    remote = Remote.objects.create(
        slug=uuid.uuid4().hex, name="r", base_url="http://127.0.0.1:1", config={"breaker": breaker}
    )
    resources = {
        mode.name: Resource.objects.create(remote=remote, slug=uuid.uuid4().hex, config=_config(mode)) for mode in MODES
    }
    base = Base(user.pk, resources, Tracker())
    with ExitStack() as stack:
        for name, replacement in {
            "rollback.compensate.slots": lambda remote, client, want: nullcontext(1),
            "rollback.compensate.log": MagicMock(),
            "syncportal.remote.limits.report": lambda *a, **k: None,
            "syncportal.remote.limits.blocked": lambda now: {},
            "syncportal.kernel.doorbell.ring": lambda *a: True,
        }.items():
            stack.enter_context(patch(name, replacement))
        stack.enter_context(base.tracker.hooked())
        yield base


class World:
    """One run."""

    def __init__(self, base: Base, scenario: Scenario) -> None:
        self.base, self.scenario, self.mode = base, scenario, BY_NAME[scenario.mode]
        self.clock = base.clock[0] = Clock()
        self.tracker = base.tracker
        self.tracker.stop()
        self.resource = base.resources[scenario.mode]
        self.objects = OBJECTS[: scenario.steps]
        self.remote = FakeRemote(
            {name: Stored({"id": name, **START}, 1) for name in self.objects},
            merge=self.mode.merge, conditional=self.mode.conditional, bumps=self.mode.bumps, shows=self.mode.shows,
            faults=dict(scenario.faults), thirds=scenario.thirds, deliver_after=scenario.deliver_after,
            point=self._edge, now=lambda: self.clock.now, settle_s=SETTLE_S - 1,
        )  # fmt: skip
        self.client = FakeClient(self.remote, spec_for(self.resource))
        self.clients = {self.resource.pk: self.client}
        self.pool: Executor = Inline()
        self.budget: Budget | None = None
        self.edited: dict[str, str] = {}
        self.said: list[Said] = []
        self.answer: dict[str, Any] | None = None
        self.problems: list[str] = []
        self.edges = 0
        self.raced = self.crashed = self.refused = False
        self.on_death: Callable[[], None] = lambda: None
        self.points: list[str] = []
        self.recovery_points: list[str] = []
        database.empty()
        database.execute("UPDATE remote_resource SET guarantees = '{}' WHERE id = %s", self.resource.pk)
        self._insert()

    def _insert(self) -> None:
        """Store records that agree with the remote, from rows that the product's own writers made once."""
        made = self.base.rows.get(self.scenario.mode)
        if made is None:
            self._make()
            made = self.base.rows[self.scenario.mode] = database.keep(("sync_record", "sync_syncjob"))
            database.empty()
        database.restore(made, limit=len(self.objects))

    def _make(self) -> None:
        states = []
        for name in OBJECTS:
            shown = {"id": name, **START, "version": 1}
            states.append(
                RecordState(
                    id=0,
                    resource_id=self.resource.pk,
                    external_id=name,
                    data=shown,
                    base=shown,
                    version="1",
                    revision=1,
                    intent=Intent.UPDATE,
                    owner_id=None,
                    deleted_at=None,
                )  # fmt: skip
            )
        ids = records.insert(states, now=T0)
        transitions.insert([transitions.NewJob(pk, self.resource.remote_id, False, 4) for pk in ids], now=T0)

    def _edge(self, label: str) -> None:
        """One edge of an HTTP call: a point to die at, or the moment when recovery races the live request."""
        if self.scenario.race is not None and not self.raced and label.startswith("http"):
            if self.edges == self.scenario.race:
                self.raced = True
                sending, self.remote.sending = self.remote.sending, None
                self.clock.to(self.clock.now + timedelta(seconds=120))
                self.recover()
                self.remote.sending = sending
            self.edges += 1
        self.tracker.point(label)

    def _died(self) -> None:
        """A process is gone with all that it remembered; what it was sending may still arrive."""
        self.remote.crashed()
        self.on_death()

    # --- the request

    def request(self) -> None:
        """Carry the request out; it may die on the way, or be refused because of an edit."""
        self.tracker.start(crash_at=self.scenario.crash)
        try:
            self.perform()
        except RecordBusy:
            self.refused = True
        except Crash:
            self.crashed = True
            self._died()
        self.tracker.stop()
        self.points = self.tracker.labels
        self.say()

    def perform(self, request_id: str = "request") -> None:
        """Look, accept and carry out; the negative controls replace this."""
        steps = tuple(
            PlannedStep(self.resource.slug, name, WANTED[name], None, f"/groups/0/updates/{n}")
            for n, name in enumerate(self.objects)
        )
        plan = Plan(request_id, (PlannedGroup("g", steps),), False, "hash")
        resources, user_id = {self.resource.slug: self.resource}, self.base.user_id
        with patch.object(accept, "take", self._take):
            service.carry_out(
                plan, resources, accept.look(plan, resources, sees_all=True, user_id=user_id), self.clients,
                actor=Actor("user", user_id, "user"), budget=self.budget or Budget(call_s=10, request_s=25),
                pool=self.pool, clock=self.clock,
            )  # fmt: skip

    def _take(self, *args: Any, **kwargs: Any) -> Any:
        """Let happen what happens between the reads that run ahead and the hold, then hold."""
        if self.scenario.between:
            self.remote.interfere(ThirdParty(0, "A", "y"))
        if self.scenario.between and self.scenario.pushed:
            shown = self.remote.shown("A")
            [state] = records.lock(Record.objects.filter(external_id="A").values_list("pk", flat=True)).values()
            moved = replace(state.with_data(shown), base=shown, version=str(shown["version"]))
            active, self.tracker.active = self.tracker.active, False
            records.write([moved], now=self.clock())
            self.tracker.active = active
        return holding.take(*args, **kwargs)

    def edit(self, name: str) -> None:
        """Let a person edit a record's y, whoever holds the record."""
        row = Record.objects.get(external_id=name)
        value = f"edit-{len(self.edited)}-{row.revision}"
        local.save(local.Edit(row.pk, {"y": value}), actor=Actor("user", self.base.user_id, "user"))
        self.edited[name] = value

    # --- recovery

    def recover(self) -> None:
        """Let sweep and worker run until nothing is open; time passes as far as it has to."""
        for _ in range(MAX_ROUNDS):
            due = self.next_due()
            if due is None:
                return
            self.clock.to(due + timedelta(seconds=1))
            self.remote.time_passes(self.clock.now)
            self.sweep()
            self.say()
        self.problems.append("recovery never ends")

    def sweep(self) -> None:
        """Run the worker's entry once; the negative controls replace this."""
        compensate.recover(clock=self.clock)
        compensate.run_due(seconds=10_000, clock=self.clock, client_of=lambda resource: self.client)

    def next_due(self) -> datetime | None:
        """Return when something open is due next, None when nothing is open."""
        found = database.rows(
            "SELECT lease_until AS due FROM rollback_group WHERE status = 'running' UNION ALL "
            "SELECT CASE WHEN status = 'pending' THEN next_attempt_at ELSE lease_until END AS due "
            "FROM rollback_compensatingtask WHERE status IN ('pending', 'processing')"
        )
        times = [_time(row["due"]) for row in found]
        return min(times) if times else None

    def run(self) -> "World":
        """Run the whole scenario, then let everything late arrive and look again."""
        self.request()
        return self.run_on()

    def run_on(self) -> "World":
        """Run what follows the request."""
        if self.scenario.again is not None:
            self.tracker.start(crash_at=self.scenario.again)
            try:
                self.recover()
            except Crash:
                self._died()
            self.tracker.stop()
            self.recovery_points = self.tracker.labels
        self.recover()
        self.clock.to(self.clock.now + timedelta(hours=2))
        self.remote.time_passes(self.clock.now)
        self.remote.deliver()
        self.recover()
        self.say()
        return self

    # --- what is said

    def say(self) -> None:
        """Answer a client who asks now; nothing new is said while the group's status stays."""
        found = database.rows("SELECT status, request_id FROM rollback_group")
        if not found or (self.said and self.said[-1].status == found[0]["status"]):
            return
        self.answer = answers.render(GroupedUpdate.objects.get(pk=found[0]["request_id"]))
        self.note(self.answer["rolledBack"], self.answer["status"])

    def note(self, rolled_back: bool | None, status: str) -> None:
        """Remember what was said, and how the remote stood then."""
        fields = {
            (name, key): value for name, stored in self.remote.objects.items() for key, value in stored.data.items()
        }
        self.said.append(Said(rolled_back, status, len(self.remote.log), fields))


def _time(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def during(world: World, call: int, act: Callable[[], Any]) -> None:
    """Do something at the moment when call number `call` begins."""
    begin = world.remote.begin

    def begun(kind: str, object_id: str) -> Any:
        if len(world.remote.calls) == call:
            act()
        return begin(kind, object_id)

    world.remote.begin = begun  # type: ignore[method-assign]
