"""Changes that bypass saving are not lost to the next writer, and deletions meet changes as conflicts."""

from typing import Any

import pytest

from syncportal.demo import DemoMaster
from syncportal.remote.models import Resource
from syncportal.sync import drain as drains
from syncportal.sync import pull, sweep
from syncportal.sync.models import Conflict, Record
from syncportal.sync.states import Status
from tests.factories import delete, drain, edit, job_of
from tests.sync.scene import read

pytestmark = pytest.mark.django_db(transaction=True)


def past_us(record: Record, **fields: Any) -> None:
    """Change a record's data as a bulk update does."""
    now = Record.objects.get(pk=record.pk)
    Record.objects.filter(pk=record.pk).update(data={**now.data, **fields})


def during_settle(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Run `act` once between the answer of the master and its being written back."""
    real, acts = drains.settle, [act]

    def late(*args: Any, **particulars: Any) -> int:
        if acts:
            acts.pop()()
        return real(*args, **particulars)

    monkeypatch.setattr(drains, "settle", late)


@pytest.mark.db
@pytest.mark.parametrize("reading", ["pull", "refresh"])
def test_a_read_does_not_swallow_a_change_that_bypassed_saving(
    master: DemoMaster, resource: Resource, record: Record, reading: str
) -> None:
    past_us(record, city="Oulu")
    master.edit("accounts", "ACC-0001", notes="theirs")
    if reading == "pull":
        assert pull.run(pull.start(resource).pk).busy == 1
    else:
        assert read(record) == "moved"
    assert job_of(record).status == Status.PENDING
    drain()
    shown = master.get("accounts", "ACC-0001")
    assert (shown["city"], shown["notes"], job_of(record).status) == ("Oulu", "theirs", Status.SYNCED)
    assert sweep.sweep().dirty == 0


@pytest.mark.db
def test_a_change_that_bypassed_saving_during_a_push_is_pushed_next(
    master: DemoMaster, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(record, city="Lund")
    during_settle(monkeypatch, lambda: past_us(record, notes="by SQL"))
    drain()
    shown = master.get("accounts", "ACC-0001")
    assert (shown["city"], shown["notes"], job_of(record).status) == ("Lund", "by SQL", Status.SYNCED)
    assert sweep.sweep().dirty == 0


def test_a_refresh_of_a_deletion_that_was_not_sent_yet_asks_about_what_changed_there(
    master: DemoMaster, record: Record
) -> None:
    delete(record)
    assert read(record) == "unchanged"
    master.edit("accounts", "ACC-0001", notes="theirs")
    assert read(record) == "conflict"
    drain()
    assert Conflict.objects.get().reason == "deleted_local"
    assert master.get("accounts", "ACC-0001")["notes"] == "theirs", "nothing is deleted over a change nobody read"


def test_a_deletion_during_a_push_that_meets_a_change_asks_too(
    master: DemoMaster, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", notes="theirs")
    during_settle(monkeypatch, lambda: delete(record))
    drain()
    assert Conflict.objects.get().reason == "deleted_local"
    assert master.get("accounts", "ACC-0001")["notes"] == "theirs"
