"""What happens to records of the demo master, each in a word: quiet, a dead worker, a read, a conflict."""

from syncportal.demo import DemoMaster
from syncportal.remote import limits
from syncportal.remote.models import Resource
from syncportal.sync import refresh, transitions
from syncportal.sync.models import Conflict, Record, SyncJob
from tests.factories import PERSON, Clock, drain, edit, job_of


def until_quiet(clock: Clock, *, most: int = 30) -> None:
    """Drain again and again, letting time pass until the next due job, until nothing waits."""
    for _ in range(most):
        drain(clock)
        waiting = SyncJob.objects.claimable().order_by("due_at").first()
        if waiting is None:
            return
        clock.to(waiting.due_at)
        for block in limits.blocked(clock.now).values():
            if block.until is not None:
                clock.to(block.until)
    raise AssertionError("it never became quiet")


def die_over(record: Record, clock: Clock) -> None:
    """Let a worker claim the record and die before it sends anything."""
    claims = transitions.claim_many(
        job_of(record).remote_id, limit=9, holder="dead", now=clock.now, lease_s=90, record_ids=[record.pk]
    )
    assert len(claims) == 1
    clock.forward(91)
    assert len(transitions.rescue(now=clock.now)) == 1


def read(record: Record) -> str:
    """Refresh a record and return what came of it."""
    return refresh.refresh(record.pk, resource=Resource.objects.get(pk=record.resource_id), actor=PERSON).outcome.value


# --- a person decides


def disputed(master: DemoMaster, record: Record) -> Conflict:
    """Let both sides change the city of account 1 and return the conflict."""
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", city="Turku", notes="theirs")
    drain()
    return Conflict.objects.get(record=record)
