"""When runs start by themselves: once for each passed time, at most one at a time, and a daily sample."""

from datetime import UTC, datetime, timedelta

import pytest

from reconciliation import timetable
from reconciliation.models import Run
from syncportal.demo import DemoMaster
from syncportal.remote.models import Resource
from tests.reconciliation.scene import agreed, to_the_end

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
SATURDAY = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
SUNDAY_2 = datetime(2030, 6, 2, 2, 0, tzinfo=UTC)


def scheduled(resource: Resource, *, began: datetime) -> None:
    """Leave runs of the timetable that began at a time."""
    for run in Run.objects.filter(resource=resource):
        to_the_end(run)
    Run.objects.filter(resource=resource).update(started_at=began)


def test_everything_is_compared_on_sunday_night_once(master: DemoMaster, settings) -> None:
    settings.TIME_ZONE = "UTC"
    resource, _ = agreed(master)
    Resource.objects.update(created_at=SATURDAY)
    assert timetable.next_time(resource, SATURDAY) == SUNDAY_2
    assert timetable.start_due(SUNDAY_2 - timedelta(seconds=1)) == []
    [run] = timetable.start_due(SUNDAY_2)
    assert (run.scope, run.origin) == ("all", "schedule")
    assert timetable.start_due(SUNDAY_2 + timedelta(minutes=1)) == []
    scheduled(resource, began=SUNDAY_2)
    assert timetable.start_due(SUNDAY_2 + timedelta(minutes=2)) == []
    late = SUNDAY_2 + timedelta(days=20)
    assert [run.scope for run in timetable.start_due(late)] == ["all"]


def test_a_schedule_of_its_own_or_none_at_all(master: DemoMaster, settings) -> None:
    settings.TIME_ZONE = "UTC"
    monthly, _ = agreed(master, policy={"schedule": "0 4 1 * *"})
    assert timetable.next_time(monthly, SATURDAY) == datetime(2030, 7, 1, 4, 0, tzinfo=UTC)


def test_a_sample_of_synced_records_is_read_daily(master: DemoMaster, settings) -> None:
    settings.TIME_ZONE = "UTC"
    resource, records = agreed(master)
    Resource.objects.update(created_at=SATURDAY)
    Run.objects.create(
        resource=resource, origin="schedule", state="finished", started_at=SUNDAY_2, progress_at=SUNDAY_2
    )
    [run] = timetable.start_due(datetime(2030, 6, 4, 3, 30, tzinfo=UTC))
    assert (run.scope, set(run.record_ids) <= {record.pk for record in records.values()}) == ("sample", True)
    assert to_the_end(run).matched == len(run.record_ids) > 0
    assert len(timetable.sample(resource, size=5)) <= 5
