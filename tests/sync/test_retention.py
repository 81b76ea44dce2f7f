"""Old history is forgotten, never the last of a record, never an act of a person."""

from datetime import timedelta

import pytest
from django.utils import timezone

from syncportal.demo import DemoMaster
from syncportal.sync import audit, retention
from syncportal.sync.models import Event, Record, SyncLog
from syncportal.sync.screens.timeline import timeline
from tests.factories import drain, edit, make_resource, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]


@pytest.fixture
def record(master: DemoMaster) -> Record:
    """Make a record with an old history: 30 exchanges and 30 events of the machine, and a sealed act of a person."""
    record = take(master, make_resource(master), "ACC-0001")[0]
    edit(record, city="Lund")
    drain()
    log, event = SyncLog.objects.get(), Event.objects.get(kind="sync.succeeded")
    for row in (log, event):
        for _ in range(29):
            row.pk = None
            row.save()
    audit.seal(timezone.now())
    return record


def left() -> tuple[int, int]:
    return SyncLog.objects.count(), Event.objects.filter(kind="sync.succeeded").count()


def test_young_history_stays(record: Record) -> None:
    assert (retention.prune(timezone.now()), left()) == (0, (30, 30))


def test_a_record_keeps_its_last_entries_and_the_chain_holds(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 7)
    newest = set(SyncLog.objects.order_by("-pk").values_list("pk", flat=True)[:20])
    later = timezone.now() + timedelta(days=91)
    assert (retention.prune(later), left()) == (20, (20, 20))
    assert set(SyncLog.objects.values_list("pk", flat=True)) == newest
    assert retention.prune(later) == 0
    assert Event.objects.filter(kind="record.edited").exists() and audit.verify() is None


def test_a_slice_goes_on_where_the_last_one_stopped(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 4)
    later = timezone.now() + timedelta(days=91)
    assert retention.prune(later, seconds=0) == 8
    assert retention.prune(later, seconds=0) == 8
    assert retention.prune(later) == 4


def test_the_timeline_says_when_older_entries_were_removed(record: Record) -> None:
    retention.prune(timezone.now())
    record.refresh_from_db()
    assert record.history_removed_at is None and timeline(record, size=200).removed_at is None
    later = timezone.now() + timedelta(days=91)
    retention.prune(later)
    retention.prune(later + timedelta(days=1))
    record.refresh_from_db()
    assert record.history_removed_at == later, "nothing went the second time"
    assert (timeline(record, size=200).removed_at, timeline(record, size=5).removed_at) == (later, None)
