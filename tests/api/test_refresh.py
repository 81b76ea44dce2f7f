"""Reading again over HTTP, against a running demo master."""

from collections.abc import Iterator

import pytest
from django.conf import settings

from syncportal.demo import DemoMaster, accounts
from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.sync.models import Record
from tests.api.world import ROLES, caller, person, put_into
from tests.factories import NEW_ACCOUNT, create, make_resource, take

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def master() -> Iterator[DemoMaster]:
    running = DemoMaster((accounts(3),)).start()
    yield running
    running.stop()


@pytest.fixture
def record(master: DemoMaster, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr(settings, "REMOTE_ALLOWED_NETWORKS", ["127.0.0.0/8"])
    resource = make_resource(master)
    external_id = "ACC-0001"
    return take(master, resource, external_id, owner=person("owner", ROLES["owner"]))[0]


def refresh(record: Record):
    return caller(record.owner).post(f"/api/v1/records/{record.pk}/refresh/")


def test_what_the_master_says_now_is_taken(record: Record, master: DemoMaster) -> None:
    master.edit("accounts", record.external_id, city="Oslo")
    answer = refresh(record)
    assert answer.status_code == 200, answer.content
    assert (answer.json()["data"]["city"], answer.json()["status"]) == ("Oslo", "SYNCED")


def test_a_busy_record_is_409(record: Record) -> None:
    put_into(record, "SYNCED", held_by="group 1")
    answer = refresh(record)
    assert (answer.status_code, answer.json()["code"]) == (409, "record_busy")
    assert answer["Retry-After"]


def test_a_record_never_sent_has_nothing_to_read(record: Record) -> None:
    new = create(record.resource, NEW_ACCOUNT)
    Record.objects.filter(pk=new.pk).update(owner=record.owner)
    new.refresh_from_db()
    assert refresh(new).json()["code"] == "not_sent_yet"


def test_a_paused_remote_is_not_asked(record: Record, master: DemoMaster) -> None:
    limits.pause(record.resource.remote_id, reason="by_hand", detail="", now=db_now())
    answer = refresh(record)
    assert (answer.status_code, answer.json()["code"]) == (503, "remote_unavailable")
    assert answer["Retry-After"]


def test_a_master_that_is_down_is_502_and_changes_nothing(record: Record, master: DemoMaster) -> None:
    master.stop()
    answer = refresh(record)
    assert (answer.status_code, answer.json()["code"]) == (502, "remote_failed")
    record.refresh_from_db()
    assert record.revision == 1
