"""Groups under everything at once, as Hypothesis plays it; at the end faults stop and everything converges."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from rollback.holding import RecordBusy
from tests.crash import database
from tests.crash.checker import violations
from tests.crash.points import Crash
from tests.crash.remote import Fault, ThirdParty
from tests.crash.scenario import AT_END, MODES, OBJECTS, Scenario
from tests.crash.world import Base, World

CALLS = st.integers(0, 15)
FIELDS = st.sampled_from(("x", "y", "z"))


class Groups(RuleBasedStateMachine):
    """One group of one to four objects, from its request to its end."""

    base: Base
    world: World

    @initialize(
        mode=st.sampled_from([mode.name for mode in MODES]),
        steps=st.integers(1, 4),
        faults=st.dictionaries(CALLS, st.sampled_from(Fault), max_size=5),
        thirds=st.lists(st.tuples(CALLS, st.sampled_from(OBJECTS), FIELDS), max_size=3),
        edits=st.dictionaries(CALLS, st.sampled_from(OBJECTS), max_size=2),
        crash=st.none() | st.integers(0, 90),
        deliver_after=st.sampled_from((1, 2, 4, AT_END)),
        between=st.sampled_from(({}, {"between": True}, {"between": True, "pushed": True})),
    )
    def request(
        self, mode: str, steps: int, faults: dict, thirds: list, edits: dict, crash: int | None, deliver_after: int,
        between: dict,
    ) -> None:  # fmt: skip
        """Send the request into all that."""
        objects = OBJECTS[:steps]
        scenario = Scenario(
            mode=mode, steps=steps, faults=tuple(faults.items()), crash=crash, deliver_after=deliver_after,
            thirds=tuple(ThirdParty(*third) for third in thirds if third[1] in objects), **between,
        )  # fmt: skip
        self.world = World(self.base, scenario)
        begin = self.world.remote.begin

        def begun(kind: str, object_id: str) -> Any:
            name = edits.get(len(self.world.remote.calls))
            if name in objects:
                self.world.tracker.active, active = False, self.world.tracker.active
                self.world.edit(name)
                self.world.tracker.active = active
            return begin(kind, object_id)

        self.world.remote.begin = begun  # type: ignore[method-assign]
        self.world.request()

    @rule(crash=st.none() | st.integers(0, 40))
    def sweep(self, crash: int | None) -> None:
        """Let the worker run once, to its end or to its death."""
        self.world.tracker.start(crash_at=crash)
        try:
            self.world.sweep()
        except Crash:
            self.world._died()
        self.world.tracker.stop()
        self.world.say()

    @rule(share=st.floats(0.1, 1.5))
    def time_passes(self, share: float) -> None:
        """Let time pass, up to or past the moment when something is due."""
        due = self.world.next_due()
        if due is not None and due > self.world.clock.now:
            self.world.clock.to(self.world.clock.now + (due - self.world.clock.now) * share)
            self.world.remote.time_passes(self.world.clock.now)

    @rule()
    def something_late_arrives(self) -> None:
        """Deliver the oldest write that is still on its way."""
        if self.world.remote.late:
            oldest = self.world.remote.late[0]
            self.world.remote.deliver(lambda late: late is oldest)

    @rule(name=st.sampled_from(OBJECTS), field=FIELDS)
    def somebody_writes(self, name: str, field: str) -> None:
        """Let a third party write between two calls."""
        if name in self.world.objects:
            self.world.remote.interfere(ThirdParty(0, name, field))

    @rule(name=st.sampled_from(OBJECTS))
    def somebody_edits(self, name: str) -> None:
        """Let a person edit a record, held or not."""
        if name in self.world.objects:
            self.world.edit(name)

    @precondition(lambda self: database.rows("SELECT 1 AS n FROM sync_syncjob WHERE held_by <> ''"))
    @rule()
    def another_request_is_refused(self) -> None:
        """Held records are nobody else's."""
        with pytest.raises(RecordBusy):
            self.world.perform("another")

    def teardown(self) -> None:
        """Faults stop; everything converges."""
        if not hasattr(self, "world"):
            return
        self.world.tracker.stop()
        self.world.remote.faults, self.world.remote.thirds = {}, ()
        self.world.run_on()
        assert violations(self.world) == []


def test_whatever_happens_groups_converge_once_the_faults_stop(base: Base) -> None:
    Groups.base = base
    quietly = settings(
        max_examples=120,
        stateful_step_count=10,
        derandomize=True,
        report_multiple_bugs=False,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Groups, settings=quietly)
