"""A list that shows a date interval only: what is in it is pulled, what left it is not taken for missing."""

from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from reconciliation import engine, runs
from reconciliation.models import Discrepancy
from syncportal.demo import DemoMaster, shifts
from syncportal.demo.seed import shift_rows
from syncportal.remote import listing
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Rejected
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Resource
from syncportal.sync import pull
from syncportal.sync.events import WORKER
from syncportal.sync.models import Record
from tests.factories import SHIFTS, drain, edit, job_of, make_resource

pytestmark = pytest.mark.django_db(transaction=True)
DAYS_FROM_TODAY = (-9, -7, -1, 0, 2, 7, 9)
TODAY = datetime(2026, 3, 2, 23, 59, tzinfo=UTC)


class OneDay(datetime):
    """A clock that stands still: no midnight comes between what the master holds and what is asked for."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return TODAY.astimezone(tz)


@pytest.fixture
def resource(master: DemoMaster, monkeypatch: pytest.MonkeyPatch) -> Resource:
    """Return shifts on a master whose list wants dates; seven begin around today, the window is a week each way."""
    monkeypatch.setattr(listing, "datetime", OneDay)
    rows = list(shift_rows(len(DAYS_FROM_TODAY)))
    for row, days in zip(rows, DAYS_FROM_TODAY, strict=True):
        row["starts_at"] = f"{(TODAY + timedelta(days=days)).date()}T08:00:00Z"
    master.reset((shifts(rows=tuple(rows), window=("starts_at", "from", "to")),))
    window = {"param": "from,to", "days": 7}
    return make_resource(master, SHIFTS, window=window, policy={"lag_s": 0})


def begins_in(master: DemoMaster, external_id: str, days: int) -> None:
    day = (TODAY + timedelta(days=days)).date()
    master.edit("shifts", external_id, starts_at=f"{day}T08:00:00Z", title="Moved")


def pulled(resource: Resource) -> set[str]:
    assert pull.run(pull.start(resource).pk).state == "done"
    return set(Record.objects.values_list("external_id", flat=True))


def test_only_what_begins_within_the_window_is_pulled_and_pushed(master: DemoMaster, resource: Resource) -> None:
    assert pulled(resource) == {f"SH-{number:04d}" for number in (2, 3, 4, 5, 6)}, "both ends included"
    record = Record.objects.get(external_id="SH-0003")
    edit(record, title="Ours")
    drain()
    assert (job_of(record).status, master.get("shifts", "SH-0003")["title"]) == ("SYNCED", "Ours")


def test_a_list_without_its_window_is_refused_by_this_master(master: DemoMaster, resource: Resource) -> None:
    resource.config.pop("window")
    with pytest.raises(Rejected):
        client_for(resource).list_page(None, deadline=Deadline(5))


def test_what_left_the_window_is_compared_by_single_reads_and_holds_no_brake(
    master: DemoMaster, resource: Resource
) -> None:
    pulled(resource)
    for number in (2, 3, 4, 5):
        begins_in(master, f"SH-{number:04d}", 30)
    run = runs.start(resource, actor=WORKER)
    while engine.run_slice(run.pk, seconds=20).goes_on:
        pass
    run.refresh_from_db()
    assert (run.state, run.problem, run.missing_remote, run.fixed) == ("finished", "", 0, 4)
    assert Record.objects.filter(data__title="Moved").count() == 4
    assert not Discrepancy.objects.filter(state="open").exists()
