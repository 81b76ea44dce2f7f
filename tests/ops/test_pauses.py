"""Lines of the timetable that people run, pause and resume, and what was missed."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from reconciliation import timetable
from reconciliation.models import Run
from syncportal.demo import DemoMaster
from syncportal.ops import duties, ticks
from syncportal.ops.alerts import observing
from syncportal.ops.alerts.judging import Rule, judge
from syncportal.ops.alerts.kinds import Kind
from syncportal.ops.duties import DutySpec
from syncportal.ops.models import Duty
from syncportal.remote.models import Resource
from syncportal.sync.events import Actor
from syncportal.sync.models import Event
from tests.reconciliation.conftest import loopback_is_allowed, master, running_master
from tests.reconciliation.scene import agreed, to_the_end

__all__ = ["loopback_is_allowed", "master", "running_master"]
pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
PAT = Actor("user", label="pat")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Make a timetable of one duty that notes when it ran."""
    times: list[datetime] = []

    def work(now: datetime) -> str:
        times.append(now)
        return f"{len(times)} times"

    monkeypatch.setattr(duties, "DUTIES", (DutySpec("probe", 300, "For the test.", work),))
    return times


def behind(now: datetime) -> list[str]:
    """Return what the alert rule about the timetable finds."""
    rule = Rule(1, Kind.SCHEDULE_NOT_RUN.value, "all", "warning", threshold=15)
    return [found.summary.split()[0] for found in judge([rule], observing.observe([rule], now=now)).findings]


def at(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    monkeypatch.setattr(duties, "db_now", lambda: now)


def test_what_was_missed_is_made_up_for_once(ran: list[datetime], monkeypatch: pytest.MonkeyPatch) -> None:
    begun = timezone.now()
    at(monkeypatch, begun)
    duties.run("probe")
    assert duties.overdue(begun + timedelta(minutes=9)) == []
    late = begun + timedelta(days=3)
    assert duties.overdue(late) == ["probe"]
    at(monkeypatch, late)
    for _ in range(3):
        for name in duties.overdue(late):
            duties.run(name)
    assert ran == [begun, late]


def test_a_paused_duty_rests_raises_no_alert_and_goes_on(ran: list[datetime], monkeypatch: pytest.MonkeyPatch) -> None:
    begun = timezone.now()
    at(monkeypatch, begun)
    duties.run("probe")
    assert duties.pause("probe", reason="The disk is full", actor=PAT, now=begun)
    assert not duties.pause("probe", reason="Again", actor=PAT, now=begun)
    late = begun + timedelta(days=1)
    at(monkeypatch, late)
    duties.run("probe")
    assert (len(ran), duties.overdue(late)) == (1, [])
    assert behind(late) == []
    row = Duty.objects.get()
    assert (row.paused_by, row.pause_reason, row.last_result) == ("pat", "The disk is full", "1 times")
    assert duties.resume("probe", actor=PAT, now=late)
    assert not duties.resume("probe", actor=PAT, now=late)
    assert behind(late) == ["probe"]
    assert duties.overdue(late) == ["probe"]
    duties.run("probe")
    assert ran == [begun, late]
    acts = Event.objects.filter(kind__startswith="duty.").order_by("pk").values_list("kind", "actor_label", "data")
    assert list(acts) == [
        ("duty.paused", "pat", {"duty": "probe", "reason": "The disk is full"}),
        ("duty.resumed", "pat", {"duty": "probe"}),
    ]


def test_asking_for_a_duty_rings_and_is_an_act(ran: list[datetime]) -> None:
    assert duties.ask_for("probe", actor=PAT, now=timezone.now())
    assert OrmQ.objects.count() == 1
    assert Event.objects.get(kind="duty.asked_for").actor_label == "pat"


def test_the_tick_leaves_a_paused_duty_alone(ran: list[datetime]) -> None:
    duties.pause("probe", reason="x", actor=PAT, now=timezone.now())
    ticks.Ticker("host", 1).tick(ticks.PoolNews(ticks.WorkerState.RUNNING, 1.0, 0))
    assert OrmQ.objects.count() == 0


def test_paused_comparisons_start_nothing_and_are_made_up_for_once(master: DemoMaster, settings: object) -> None:
    settings.TIME_ZONE = "UTC"  # type: ignore[attr-defined]
    resource, _ = agreed(master)
    Resource.objects.update(created_at=datetime(2030, 6, 1, 12, tzinfo=UTC))
    sunday = datetime(2030, 6, 2, 2, tzinfo=UTC)
    both = {timetable.line_of(resource.pk), timetable.SAMPLES}
    later = sunday + timedelta(days=9)
    assert timetable.start_due(later, paused=both) == []
    [run] = timetable.start_due(later, paused={timetable.SAMPLES})
    assert run.scope == "all"
    to_the_end(run)
    Run.objects.update(started_at=later)
    assert timetable.start_due(later + timedelta(minutes=1), paused={timetable.SAMPLES}) == []
    compared, samples = timetable.lines(later)
    assert (compared.last, compared.next_at) == (run, sunday + timedelta(days=14))
    assert (samples.last, samples.next_at) == (None, datetime(2030, 6, 11, 3, 30, tzinfo=UTC))
    [sampled] = timetable.start_samples(actor=PAT)
    assert (sampled.scope, sampled.origin) == ("sample", "person")
