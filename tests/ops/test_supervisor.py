"""The supervisor's decisions, with a clock and a pool that the test moves."""

from dataclasses import dataclass, field

from syncportal.ops.models import WorkerState
from syncportal.ops.supervisor import SILENCE_S, STOP_PATIENCE_S, PoolNews, Supervisor


@dataclass
class FakeGroup:
    pid: int
    alive: bool = True
    answers: bool = False
    obedient: bool = True
    asked: bool = False
    killed: bool = False

    def running(self) -> bool:
        return self.alive

    def heard(self) -> bool:
        found, self.answers = self.answers, False
        return found

    def ask_to_end(self) -> None:
        self.asked = True
        if self.obedient:
            self.alive = False

    def kill(self) -> None:
        self.alive, self.killed = False, True


@dataclass
class Stage:
    """A supervisor with a fake clock, fake pools and a list of what it told."""

    now: float = 100.0
    groups: list[FakeGroup] = field(default_factory=list)
    told: list[PoolNews] = field(default_factory=list)
    cannot_start: bool = False

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(
            start_group=self.start,
            tick=self.told.append,
            wait=lambda seconds: False,
            clock=lambda: self.now,
            sleep=self.forward,
        )

    def start(self) -> FakeGroup:
        if self.cannot_start:
            raise OSError("no more processes")
        self.groups.append(FakeGroup(len(self.groups)))
        return self.groups[-1]

    def forward(self, seconds: float) -> None:
        self.now += seconds

    def live(self, seconds: float, *, answering: bool) -> None:
        """Let time pass in half seconds; the newest pool answers or stays silent."""
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            if self.groups:
                self.groups[-1].answers = answering
            self.supervisor.step()


def test_a_pool_that_answers_is_left_alone_and_every_step_ticks() -> None:
    stage = Stage()
    stage.live(300, answering=True)
    assert len(stage.groups) == 1
    assert len(stage.told) == 600
    assert stage.told[-1].state == WorkerState.RUNNING
    assert stage.told[-1].canary_age_s == 0


def test_a_pool_that_falls_silent_is_killed_and_replaced_within_a_minute() -> None:
    stage = Stage()
    stage.live(20, answering=True)
    stage.live(SILENCE_S + 1, answering=False)
    assert [group.killed for group in stage.groups] == [True, False]
    assert stage.told[-1].state == WorkerState.RESTARTING
    assert stage.told[-1].restarts == 1
    assert SILENCE_S < 55
    stage.live(1, answering=True)
    assert stage.told[-1].state == WorkerState.RUNNING


def test_a_pool_that_never_answers_is_replaced_as_well() -> None:
    stage = Stage()
    stage.live(SILENCE_S + 2, answering=False)
    assert len(stage.groups) == 2


def test_a_pool_that_is_gone_is_replaced_at_once_and_its_group_killed() -> None:
    stage = Stage()
    stage.live(30, answering=True)
    stage.groups[0].alive = False
    stage.live(0.5, answering=True)
    assert len(stage.groups) == 2
    assert stage.groups[0].killed


def test_a_pool_that_dies_at_every_start_is_started_ever_more_slowly_and_ticks_go_on() -> None:
    stage = Stage()
    for _ in range(240):
        stage.now += 0.5
        stage.supervisor.step()
        if stage.groups:
            stage.groups[-1].alive = False
    assert 8 <= len(stage.groups) <= 25
    assert len(stage.told) == 240


def test_a_machine_that_starts_no_process_is_asked_again_later() -> None:
    stage = Stage(cannot_start=True)
    stage.live(5, answering=False)
    assert stage.told
    stage.cannot_start = False
    stage.live(12, answering=True)
    assert len(stage.groups) == 1


def test_stopping_asks_first_and_tells_the_end() -> None:
    stage = Stage()
    stage.live(5, answering=True)
    stage.supervisor.stop()
    assert stage.groups[0].asked
    assert [news.state for news in stage.told[-2:]] == [WorkerState.STOPPING, WorkerState.STOPPED]


def test_a_pool_that_cannot_end_is_killed_after_its_patience() -> None:
    stage = Stage()
    stage.live(5, answering=True)
    stage.groups[0].obedient = False
    before = stage.now
    stage.supervisor.stop()
    assert stage.groups[0].killed
    assert STOP_PATIENCE_S <= stage.now - before < STOP_PATIENCE_S + 1
