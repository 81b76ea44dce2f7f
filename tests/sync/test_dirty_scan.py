"""The dirty scan: changes that bypassed saving are found, pushed, and seen by whoever decides."""

import pytest
from django.db import connection

from syncportal.demo import DemoMaster
from syncportal.sync import sweep
from syncportal.sync.models import Event, Record
from syncportal.sync.states import Status
from tests.factories import drain, job_of
from tests.sync.scene import disputed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.db
def test_a_change_that_bypassed_saving_is_found_and_pushed(master: DemoMaster, record: Record) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "UPDATE sync_record SET data = jsonb_set(data, '{city}', '\"Lund\"') WHERE id = %s", [record.pk]
            )
        else:
            cursor.execute("UPDATE sync_record SET data = json_set(data, '$.city', 'Lund') WHERE id = %s", [record.pk])
    assert sweep.sweep().dirty == 1
    assert sweep.sweep().dirty == 0
    record.refresh_from_db()
    assert (record.revision, job_of(record).status) == (2, Status.PENDING)
    drain()
    assert master.get("accounts", "ACC-0001")["city"] == "Lund"
    assert sweep.sweep().dirty == 0
    assert Event.objects.filter(kind="record.found_dirty").count() == 1


def test_a_change_that_bypassed_saving_during_a_conflict_is_seen_by_whoever_decides(
    master: DemoMaster, record: Record
) -> None:
    conflict = disputed(master, record)
    Record.objects.filter(pk=record.pk).update(data={**record.base, "city": "Oulu"})
    assert sweep.sweep().dirty == 1
    conflict.refresh_from_db()
    record.refresh_from_db()
    assert (conflict.local["city"], conflict.revision) == ("Oulu", record.revision)
    assert job_of(record).status == Status.VERSION_CONFLICT
