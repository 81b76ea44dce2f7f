"""Opening conflicts: one statement each way however many records, and one open row for each."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from syncportal.demo import DemoMaster
from syncportal.sync import conflict_store
from syncportal.sync.conflict_store import Opening
from syncportal.sync.models import Conflict, Record
from tests.factories import T0, make_resource, take

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


def opening(record: Record, **changes: Any) -> Opening:
    return Opening(
        **{
            "record_id": record.pk, "resource_id": record.resource_id, "reason": "concurrent_edit", "base": {"a": 1},
            "local": {"a": 2}, "remote": {"a": 3}, "fields": ("/a",), "revision": 2, "remote_version": "7", **changes,
        }
    )  # fmt: skip


def test_many_are_opened_or_renewed_in_a_fixed_number_of_statements(master: DemoMaster) -> None:
    resource = make_resource(master)
    records = take(master, resource, *(f"ACC-{number:04}" for number in range(1, 11)))
    counted = []
    for few in (records[:1], records[1:], records):
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            conflict_store.open_or_renew([opening(record) for record in few], now=T0)
        counted.append(len(queries))
    assert counted[0] == counted[1] and max(counted) <= 4, counted
    assert Conflict.objects.count() == 10


def test_a_record_keeps_one_open_conflict_with_the_newest_values(master: DemoMaster) -> None:
    resource = make_resource(master)
    one, other = take(master, resource, "ACC-0001", "ACC-0002")
    with transaction.atomic():
        first = conflict_store.open_or_renew([opening(one)], now=T0)
    gone = opening(one, reason="deleted_remote", base=None, remote=None, fields=(), revision=3, remote_version=None)
    with transaction.atomic():
        found = conflict_store.open_or_renew([gone, opening(other)], now=T0)
    assert found == {one.pk: first[one.pk], other.pk: Conflict.objects.get(record=other).pk}
    row = Conflict.objects.get(record=one)
    assert (row.reason, row.base, row.remote, row.fields, row.revision) == ("deleted_remote", None, None, [], 3)
    assert Conflict.objects.filter(record=one, base__isnull=True, remote__isnull=True).exists(), "absent, not JSON null"
    conflict_store.close(row.pk, resolution="use_remote", choices={}, user_id=None, now=T0)
    with transaction.atomic():
        again = conflict_store.open_or_renew([opening(one)], now=T0)
    assert again[one.pk] != row.pk and Conflict.objects.filter(record=one).count() == 2
