"""Pulls that meet trouble: seen by the breaker, ended where trying again is no use, and forgotten when old."""

from datetime import timedelta

import pytest
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.errors import Forbidden, Misconfiguration, ServerFault
from syncportal.remote.models import Gate, Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import pull, refresh, retention, transitions
from syncportal.sync.models import Event, Pull, Record, SyncJob
from syncportal.sync.pull import PullRefused
from syncportal.sync.refresh import Refreshed
from tests.factories import ACCOUNTS, PERSON, make_remote, make_resource, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]
LOGIN = {"kind": "login", "credential": "env:PULL_CREDENTIAL", "token_path": "/nowhere", "token_body": {},
         "token_pointer": "/token"}  # fmt: skip


def test_a_list_that_keeps_failing_opens_the_breaker_and_tells(master: DemoMaster, resource: Resource) -> None:
    rule = master.faults.add("status", status=500, phase="list")
    running = pull.start(resource)
    for _ in range(5):
        with pytest.raises(ServerFault):
            pull.run(running.pk)
    assert Gate.objects.get().breaker == "open" and Event.objects.filter(kind="breaker.opened").count() == 1
    calls = len(master.requests())
    with pytest.raises(PullRefused, match="breaker is open"):
        pull.run(running.pk)
    assert len(master.requests()) == calls
    master.faults.remove(rule.number)
    Gate.objects.update(breaker="closed", open_until=None)
    assert pull.run(running.pk).created == 10


def test_pages_that_come_between_keep_the_breaker_closed(master: DemoMaster, resource: Resource) -> None:
    for _ in range(3):
        rule = master.faults.add("status", status=500, phase="list", times=2)
        running = pull.start(resource)
        for _ in range(2):
            with pytest.raises(ServerFault):
                pull.run(running.pk)
        master.faults.remove(rule.number)
        pull.run(running.pk)
    assert Gate.objects.get().breaker == "closed"


def test_a_list_that_is_forbidden_ends_the_pull(master: DemoMaster, resource: Resource) -> None:
    master.faults.add("status", status=403, phase="list")
    with pytest.raises(Forbidden):
        pull.run(pull.start(resource).pk)
    ended = Pull.objects.get()
    assert (ended.state, "403" in ended.problem) == ("failed", True)
    assert pull.run_waiting(seconds=1) == 0 and len(master.requests()) == 1


def test_a_refused_credential_pauses_the_remote_once(master: DemoMaster, resource: Resource) -> None:
    master.faults.add("status", status=401, phase="list")
    pull.start(resource)
    for _ in range(3):
        pull.run_waiting(seconds=1)
        Pull.objects.update(lease_until=None)
    assert (len(master.requests()), Gate.objects.get().paused) == (1, True)
    assert Event.objects.filter(kind="remote.paused").count() == 1


def test_a_pull_that_lacks_its_credential_ends_and_keeps_nobody_waiting(master: DemoMaster) -> None:
    auth = {"kind": "basic", "credential": "env:NO_SUCH_CREDENTIAL"}
    broken = make_resource(make_remote(master.api_url, auth=auth), ACCOUNTS)
    running = pull.start(broken)
    with pytest.raises(Misconfiguration):
        pull.run(running.pk)
    ended = Pull.objects.get()
    assert (ended.state, ended.lease_until, ended.holder) == ("failed", None, "") and ended.problem
    pull.start(broken)
    well = pull.start(make_resource(master))
    pull.run_waiting(seconds=5)
    assert Pull.objects.get(pk=well.pk).state == "done"


def test_reads_alone_open_the_breaker_as_well(master: DemoMaster, resource: Resource) -> None:
    rows = take(master, resource, *[f"ACC-000{number}" for number in range(1, 7)])
    master.faults.add("status", status=500, phase="detail")
    for row in rows[:5]:
        assert refresh.refresh(row.pk, resource=resource, actor=PERSON).outcome is Refreshed.FAILED
    assert Gate.objects.get().breaker == "open"


def test_a_sign_in_that_fails_is_told_and_keeps_the_wish(
    master: DemoMaster, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = take(master, resource, "ACC-0001")[0]
    monkeypatch.setenv("PULL_CREDENTIAL", "pat:secret")
    resource.remote.config["auth"] = LOGIN
    resource.remote.save()
    rule = master.faults.add("status", status=503)
    told = refresh.refresh(row.pk, resource=resource, actor=PERSON)
    assert told.outcome is Refreshed.FAILED and "Signing in" in told.detail
    transitions.request_refresh([row.pk], now=timezone.now())
    refresh.refresh_requested()
    assert SyncJob.objects.get().refresh_requested_at is not None
    master.faults.remove(rule.number)
    refresh.refresh_requested()
    assert SyncJob.objects.get().refresh_requested_at is None, "refused for good: not asked again for ever"
    assert Record.objects.get().data == row.data


def test_old_pulls_are_forgotten_but_never_what_the_next_builds_on(master: DemoMaster, resource: Resource) -> None:
    whole = pull.run(pull.start(resource).pk)
    now = timezone.now()
    for _ in range(25):
        Pull.objects.create(resource=resource, state="failed", started_at=now, finished_at=now)
    running = pull.start(resource)
    retention.prune(now)
    assert Pull.objects.count() == 27, "young ones stay"
    retention.prune(now + timedelta(days=91))
    left = list(Pull.objects.order_by("pk").values_list("pk", flat=True))
    assert (len(left), left[0], left[-1]) == (21, whole.pk, running.pk)


def turn(*, breaker_closes: bool = True) -> Pull:
    """Let the worker take a turn after its pause; a remote that answers its probe closes its breaker."""
    Pull.objects.update(lease_until=None)
    if breaker_closes:
        Gate.objects.update(breaker="closed", open_until=None)
    pull.run_waiting(seconds=5)
    return Pull.objects.get()


def test_a_page_that_always_fails_ends_the_pull_and_a_person_lets_it_go_on_there(master: DemoMaster) -> None:
    master.reset((accounts(120), shifts(1)))
    page = {"style": "offset", "param": "offset", "size_param": "limit", "size": 50}
    resource = make_resource(master, list={"path": "/accounts", "items": "/items", "page": page})
    rule = master.faults.add("status", status=500, phase="list", skip=1)
    pull.start(resource)
    most = spec_for(resource).most_reads
    assert most == 9
    states = [turn().state for _ in range(most)]
    assert states == ["running"] * (most - 1) + ["failed"]
    ended = Pull.objects.get()
    assert f"the next page failed {most} times in a row" in ended.problem and "500" in ended.problem
    assert (ended.seen, len(master.requests())) == (50, 1 + most)
    told = Event.objects.get(kind="pull.finished")
    assert (told.data["state"], told.data["seen"]) == ("failed", 50)
    assert (turn().state, len(master.requests())) == ("failed", 1 + most), "nothing is asked any more"
    master.faults.remove(rule.number)
    assert pull.request_going_on(resource) and not pull.request_going_on(resource)
    assert turn().state == "done"
    assert (Pull.objects.get().created, Pull.objects.get().seen) == (120, 120), "the first page is not read again"
    assert not pull.request_going_on(resource)


def test_an_outage_of_any_length_ends_no_pull(master: DemoMaster, resource: Resource) -> None:
    pull.start(resource)
    rule = master.faults.add("status", status=503)
    for _ in range(40):
        assert turn(breaker_closes=False).state == "running"
    assert Pull.objects.get().tries == 5 and Gate.objects.get().breaker == "open"
    master.faults.remove(rule.number)
    assert turn().state == "done"


def test_a_page_that_comes_after_all_starts_the_counting_anew(master: DemoMaster, resource: Resource) -> None:
    master.faults.add("status", status=500, phase="list", times=8)
    pull.start(resource)
    for _ in range(8):
        turn()
    assert Pull.objects.get().tries == 8
    assert (turn().state, Pull.objects.get().tries) == ("done", 0)


def test_being_asked_to_wait_is_no_failure(master: DemoMaster, resource: Resource) -> None:
    master.faults.add("status", status=429, phase="list", times=20)
    pull.start(resource)
    for _ in range(20):
        assert turn().state == "running"
    assert Pull.objects.get().tries == 0
    assert turn().state == "done"
