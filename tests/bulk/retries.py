"""A group of failed records to retry, and the books: what the operation says, what the jobs say, what the master saw.

Owns: making many failed records quickly. Does not: judge beyond `Books`; tests do.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from syncportal.bulk import journal, work
from syncportal.bulk.models import BulkOperation
from syncportal.demo import DemoMaster
from syncportal.remote.models import Resource
from syncportal.sync import error_groups, records, transitions
from syncportal.sync.causes import Cause, cause_of
from syncportal.sync.models import Event, Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from tests.factories import make_remote, make_resource

CHUNK = 2_000


@dataclass
class Retries:
    """Records that failed for one cause, edited here and not there; `later` ones are meant to join the group."""

    master: DemoMaster
    resource: Resource
    cause: Cause
    ids: list[int]
    later: list[int]

    def start(self) -> int:
        """Freeze what is in the group now and let the operation begin; return its id."""
        user, _ = User.objects.get_or_create(username="ops", defaults={"is_superuser": True, "is_staff": True})
        chosen = Record.objects.filter(job__error_group=self.cause.id).order_by("pk").values_list("pk", flat=True)
        parameters = {"error_group": str(self.cause.id)}
        new = journal.NewOperation("records.requeue", list(chosen), user.pk, "ops", ramp=True, parameters=parameters)
        pk = journal.prepare(new, now=timezone.now()).pk
        assert work.begin(pk, parameters=parameters)
        return pk

    def widen(self) -> None:
        """Let more records fail for the cause, as happens behind an open tab."""
        SyncJob.objects.filter(pk__in=self.later).update(status="ERROR", due_at=None, error_group=self.cause.id)

    def writes(self) -> Counter[str]:
        """Return how often each object was written at the master."""
        return Counter(write.object_id for write in self.master.writes())

    def check(self, operation_id: int) -> BulkOperation:
        """Compare the operation's counts with its rows, the jobs, the history and the master's write log."""
        operation = BulkOperation.objects.get(pk=operation_id)
        rows = Counter(operation.rows.values_list("state", flat=True))
        told = (operation.done, operation.skipped, operation.failed, operation.handed_over, operation.waiting)
        assert told == tuple(rows[state] for state in ("done", "skipped", "failed", "handed_over", "waiting"))
        let_go = set(operation.rows.exclude(state__in=["waiting", "skipped"]).values_list("target_id", flat=True))
        requeued = Counter(Event.objects.filter(kind="job.requeued").values_list("record_id", flat=True))
        assert set(requeued) == let_go and set(requeued.values()) <= {1}, "each was requeued once"
        written = self.writes()
        assert set(written.values()) <= {1}, "nothing was sent twice"
        names = dict(Record.objects.filter(pk__in=let_go).values_list("pk", "external_id"))
        agreed = set(SyncJob.objects.filter(pk__in=let_go, status="SYNCED").values_list("pk", flat=True))
        assert set(written) == {names[pk] for pk in agreed}
        assert SyncJob.objects.filter(pk__in=self.later, status="ERROR").count() == len(self.later), "not widened"
        untouched = operation.rows.filter(state="waiting").values_list("target_id", flat=True)
        assert SyncJob.objects.filter(pk__in=list(untouched), status="ERROR").count() == operation.waiting
        return operation


def failed_records(master: DemoMaster, count: int, *, later: int) -> Retries:
    """Make records that failed for one cause, and some that agree and may fail for it later."""
    limits = {"concurrency": 8, "total_timeout_s": 10, "connect_timeout_s": 3}
    resource = make_resource(make_remote(master.api_url, limits=limits))
    cause = cause_of(remote_id=resource.remote_id, kind="rejected", code="http_422", message="The remote refused it.")
    documents = sorted(master.store.all("accounts"), key=lambda row: str(row["id"]))[: count + later]
    now = timezone.now() - timedelta(hours=1)
    ids: list[int] = []
    for start in range(0, len(documents), CHUNK):
        states = [
            RecordState(0, resource.pk, row["id"], {**row, "notes": "Retried."}, row, str(row["version"]), 2,
                        Intent.UPDATE, None, None)
            for row in documents[start : start + CHUNK]
        ]  # fmt: skip
        made = records.insert(states, now=now)
        transitions.insert([transitions.NewJob(pk, resource.remote_id, False, 4) for pk in made], now=now)
        ids += made
    error_groups.add([cause] * count, now=now)
    retries = Retries(master, resource, cause, ids[:count], ids[count:])
    for start in range(0, count, CHUNK):
        failed = SyncJob.objects.filter(pk__in=ids[start : min(start + CHUNK, count)])
        failed.update(status="ERROR", due_at=None, error_group=cause.id, attempts=1)
    return retries
