"""What is counted over indexes is what counting row by row says."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from syncportal.demo import DemoMaster
from syncportal.remote.models import Resource
from syncportal.sync import record_counts
from syncportal.sync.models import Record, RecordCount, SyncJob
from syncportal.sync.states import CLAIMABLE, Status
from tests.factories import make_resource, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]

NOW = timezone.now()


def naive() -> dict[int, tuple[Counter, int, object]]:
    found = {pk: (Counter(), 0, None) for pk in Resource.objects.values_list("pk", flat=True)}
    for job in SyncJob.objects.select_related("record"):
        counts, due, oldest = found[job.record.resource_id]
        if job.record.deleted_at is None:
            counts[job.status] += 1
        if job.status in CLAIMABLE and not job.held_by and job.due_at <= NOW:
            due, oldest = due + 1, min(oldest or job.due_at, job.due_at)
        found[job.record.resource_id] = (counts, due, oldest)
    return found


def counted() -> dict[int, tuple[Counter, int, object]]:
    rows = record_counts.where_they_stand(now=NOW).items()
    return {pk: (+Counter(row.counts), row.due, row.oldest_due_at) for pk, row in rows}


def scatter(jobs: list[SyncJob], plan: list[tuple[str, int, bool, bool]]) -> None:
    """Put jobs where the plan says: status, due in so many seconds, held, record deleted."""
    for job, (status, due_s, held, deleted) in zip(jobs, plan, strict=False):
        due = NOW + timedelta(seconds=due_s) if status in CLAIMABLE else None
        lease = NOW if status == Status.PROCESSING else None
        held_by = "group:1" if held and status != Status.PROCESSING else ""
        SyncJob.objects.filter(pk=job.pk).update(status=status, due_at=due, lease_until=lease, held_by=held_by)
        gone = deleted and status not in CLAIMABLE
        Record.objects.filter(pk=job.pk).update(deleted_at=NOW if gone else None)


PLANS = st.lists(
    st.tuples(st.sampled_from([str(status) for status in Status]), st.integers(-50, 50), st.booleans(), st.booleans()),
    max_size=12,
)


@hypothesis(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=PLANS, stored=st.booleans())
def test_any_mix_is_counted_as_it_stands(
    master: DemoMaster, monkeypatch: pytest.MonkeyPatch, plan: list, stored: bool
) -> None:
    if Resource.objects.count() < 2:
        for number in range(2):
            take(master, make_resource(master), *(f"ACC-{i:04d}" for i in range(1 + 3 * number, 7)))
        make_resource(master)
    scatter(list(SyncJob.objects.order_by("?")), plan)
    RecordCount.objects.all().delete()
    monkeypatch.setattr(record_counts, "LARGE", 0 if stored else 10**9)
    record_counts.recount(NOW)
    assert RecordCount.objects.exists() is stored
    assert counted() == naive()


def test_records_made_after_the_count_are_counted_too(master: DemoMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_counts, "LARGE", 0)
    resource = make_resource(master)
    take(master, resource, "ACC-0001", "ACC-0002")
    assert record_counts.recount(NOW) == 2
    take(master, resource, "ACC-0003")
    take(master, make_resource(master), "ACC-0004")
    assert counted() == naive()
    assert record_counts.recount(NOW) == 4
    assert counted() == naive()


def test_agreed_records_are_never_read(master: DemoMaster, django_assert_num_queries: object) -> None:
    take(master, make_resource(master), *(f"ACC-{i:04d}" for i in range(1, 10)))
    with django_assert_num_queries(7):  # type: ignore[operator]
        record_counts.where_they_stand(now=NOW)
    if connection.vendor == "sqlite":
        assert "COVERING INDEX job_remarkable" in record_counts._remarkable(NOW).explain()
