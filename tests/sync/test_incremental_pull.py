"""Where the remote can list what changed, a pull asks for that only; everything can still be asked for."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts
from syncportal.remote.models import Resource
from syncportal.sync import pull, refresh
from syncportal.sync.models import Conflict, Pull, Record, SyncJob
from tests.factories import ACCOUNTS, edit, make_resource

pytestmark = pytest.mark.django_db(transaction=True)
SINCE = {"param": "updated_since", "overlap_s": 5}


@pytest.fixture
def resource(master: DemoMaster) -> Resource:
    """Return accounts that were changed long ago, whatever this machine's clock says."""
    rows = tuple({**row, "updated_at": "2001-01-01T00:00:00Z"} for row in accounts(10).rows)
    master.reset((accounts(rows=rows),))
    return make_resource(master, ACCOUNTS, modified_since=SINCE)


def pulled(resource: Resource, *, full: bool = False) -> Pull:
    resource.refresh_from_db()
    return pull.run(pull.start(resource, full=full).pk)


def test_the_first_pull_reads_everything_and_later_ones_what_changed(master: DemoMaster, resource: Resource) -> None:
    first = pulled(resource)
    assert (first.seen, first.created, first.since) == (10, 10, None)
    master.edit("accounts", "ACC-0003", {"city": "Lund"})
    second = pulled(resource)
    assert (second.seen, second.updated, second.since) == (1, 1, first.started_at)
    assert Record.objects.get(external_id="ACC-0003").data["city"] == "Lund"


def test_what_changed_shortly_before_is_read_once_more(master: DemoMaster, resource: Resource) -> None:
    master.edit("accounts", "ACC-0003", {"city": "Lund"})
    pulled(resource)
    again = pulled(resource)
    assert (again.seen, again.unchanged) == (1, 1), "the overlap covers clocks that differ"


def test_everything_is_read_again_when_asked_for(master: DemoMaster, resource: Resource) -> None:
    pulled(resource)
    assert pulled(resource, full=True).seen == 10
    out = StringIO()
    call_command("pull", resource.slug, stdout=out, stderr=StringIO())
    assert "0 seen" in out.getvalue()
    call_command("pull", resource.slug, "--full", stdout=out, stderr=StringIO())
    assert "10 seen" in out.getvalue()


def test_a_pull_that_left_something_out_is_not_built_on(master: DemoMaster, resource: Resource) -> None:
    first = pulled(resource)
    record = Record.objects.get(external_id="ACC-0002")
    edit(record, city="Malmö")
    master.edit("accounts", "ACC-0002", {"name": "Theirs"})
    assert pulled(resource).busy == 1
    SyncJob.objects.filter(pk=record.pk).update(status="SYNCED", due_at=None)
    third = pulled(resource)
    assert (third.since, third.seen) == (first.started_at, 1)


@pytest.mark.parametrize("change", ["the resource", "the remote"])
def test_another_configuration_reads_everything(master: DemoMaster, resource: Resource, change: str) -> None:
    pulled(resource)
    changed = resource if change == "the resource" else resource.remote
    type(changed).objects.filter(pk=changed.pk).update(updated_at=timezone.now())
    assert pulled(Resource.objects.get(pk=resource.pk)).since is None


def test_a_pull_that_was_broken_off_keeps_asking_from_the_same_time(master: DemoMaster, resource: Resource) -> None:
    first = pulled(resource)
    begun = pull.start(Resource.objects.get(pk=resource.pk))
    assert pull.start(resource, full=True) == begun, "one pull of a resource at a time"
    assert pull.run(begun.pk).since == first.started_at


def test_without_the_parameter_every_pull_reads_everything(master: DemoMaster) -> None:
    plain = make_resource(master, ACCOUNTS)
    assert [pulled(plain).seen, pulled(plain).seen] == [10, 10]


def test_an_object_that_the_list_shows_as_deleted_is_read_before_anybody_is_asked(master: DemoMaster) -> None:
    master.reset((accounts(3, tombstone=("deleted", True), list_tombstones=True),))
    grave = make_resource(master, ACCOUNTS, modified_since=SINCE, tombstone={"/deleted": True})
    pulled(grave)
    master.delete("accounts", "ACC-0002")
    pulled(grave)
    record = Record.objects.get(external_id="ACC-0002")
    assert not Conflict.objects.exists()
    assert SyncJob.objects.get(refresh_requested_at__isnull=False).pk == record.pk
    refresh.refresh_requested()
    assert Conflict.objects.get(record=record).reason == Conflict.Reason.DELETED_REMOTE
