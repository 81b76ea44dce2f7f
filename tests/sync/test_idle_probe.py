"""An open breaker closes although no job is due: undos, groups and pulls wait behind it too."""

from datetime import timedelta

import pytest
from django.utils import timezone

from syncportal.demo import DemoMaster
from syncportal.remote import limits
from syncportal.remote.errors import ErrorKind
from syncportal.remote.limits import CallResult
from syncportal.remote.spec import spec_for
from syncportal.sync.drain import due_remotes
from tests.factories import Clock, drain, make_remote, make_resource

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_drain_probes_a_remote_that_nobody_has_a_job_for(master: DemoMaster) -> None:
    resource = make_resource(master)
    make_remote(master.api_url)  # one without resources, whose breaker is never asked about
    remote, clock = spec_for(resource).remote, Clock(timezone.now())
    failure = CallResult(kind=ErrorKind.unreachable)
    limits.report(remote.remote_id, [failure] * 10, breaker=remote.breaker, now=clock())
    block = limits.blocked(clock())[remote.remote_id]
    assert due_remotes(clock()) == []
    clock.to(block.until)
    assert due_remotes(clock()) == [remote.remote_id]
    drain(clock)
    assert limits.blocked(clock()) == {}
    assert [request.method for request in master.requests()] == ["GET"]
    assert due_remotes(clock.now + timedelta(hours=1)) == []
