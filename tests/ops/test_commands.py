"""The commands: what they print, and exit codes that scripts can use."""

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.ops import heartbeat
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState
from syncportal.sync import audit, events
from syncportal.sync.events import Fact, Kind
from syncportal.sync.models import Event, Pull, Record
from syncportal.sync.states import Status
from tests import factories

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def loopback_is_allowed(settings: Any) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture
def master() -> Iterator[DemoMaster]:
    with DemoMaster((accounts(120), shifts(10))) as running:
        yield running


def run(name: str, *arguments: str) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def code_of(name: str, *arguments: str) -> tuple[int, str]:
    """Return the exit code a command ends with, and its message."""
    try:
        return 0, run(name, *arguments)
    except CommandError as error:
        return error.returncode, str(error)
    except SystemExit as ending:
        return int(ending.code or 0), ""


@pytest.mark.parametrize(
    "command", ["runworker", "drain", "pull", "sync_status", "doctor", "demo", "configure", "probe", "create_api_key"]
)
def test_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        call_command(command, "--help")
    assert ending.value.code == 0
    assert f"manage.py {command}" in capsys.readouterr().out.lower().partition("example")[2]


def test_pull_counts_what_it_saw_and_a_second_one_changes_nothing(master: DemoMaster) -> None:
    resource = factories.make_resource(master)
    first = json.loads(run("pull", resource.slug, "--json"))
    assert first == {"seen": 120, "created": 120, "updated": 0, "unchanged": 0, "busy": 0, "invalid": 0}
    assert json.loads(run("pull", resource.slug, "--json")) == first | {"created": 0, "unchanged": 120}


def test_a_pull_that_was_broken_off_goes_on_where_it_stopped(master: DemoMaster) -> None:
    resource = factories.make_resource(master)
    master.faults.add("status", collection="accounts", phase="list", status=503, skip=1)
    code, message = code_of("pull", resource.slug)
    assert code == 2
    assert "again" in message
    assert 0 < Pull.objects.get().seen < 120
    master.faults.clear()
    assert json.loads(run("pull", resource.slug, "--json"))["seen"] == 120
    assert Record.objects.count() == 120


def test_an_unknown_resource_is_named_with_those_that_exist(master: DemoMaster) -> None:
    resource = factories.make_resource(master)
    code, message = code_of("pull", "nope")
    assert code == 2
    assert "nope" in message and resource.slug in message


def test_a_pull_that_runs_elsewhere_is_refused(master: DemoMaster) -> None:
    resource = factories.make_resource(master)
    later = timezone.now() + timedelta(minutes=1)
    Pull.objects.create(resource=resource, started_at=timezone.now(), holder="x", lease_until=later)
    assert code_of("pull", resource.slug)[0] == 2


def test_drain_pushes_what_is_due(master: DemoMaster) -> None:
    record = factories.take(master, factories.make_resource(master), "ACC-0001")[0]
    factories.edit(record, city="Porto")
    assert "1 complete" in run("drain", "--once")
    assert master.get("accounts", "ACC-0001")["city"] == "Porto"
    assert run("drain").startswith("0 attempts")


def test_runworker_once_works_off_everything_due(master: DemoMaster) -> None:
    resource = factories.make_resource(master)
    records = factories.take(master, resource, "ACC-0001", "ACC-0002")
    factories.edit(records[0], city="Porto")
    other = factories.make_resource(master, factories.SHIFTS)
    Pull.objects.create(resource=other, started_at=timezone.now())
    assert "1 attempts" in run("runworker", "--once")
    assert master.get("accounts", "ACC-0001")["city"] == "Porto"
    assert Record.objects.filter(resource=other).count() == 10
    assert Pull.objects.get(resource=other).state != "running"


def test_runworker_once_ends_when_a_remote_is_down(master: DemoMaster) -> None:
    record = factories.take(master, factories.make_resource(master), "ACC-0001")[0]
    factories.edit(record, city="Porto")
    master.go_down()
    run("runworker", "--once")
    assert factories.job_of(record).status == Status.RETRY_PENDING


def test_sync_status_shows_the_same_as_a_table_and_as_json(master: DemoMaster) -> None:
    record = factories.take(master, factories.make_resource(master), "ACC-0001", "ACC-0002")[0]
    factories.edit(record, city="Porto")
    heartbeat.beat(Beat("host", 9, WorkerState.RUNNING, 2.0, 1), now=timezone.now())
    found = json.loads(run("sync_status", "--json"))
    assert found["counts"] == dict.fromkeys(Status.values, 0) | {"PENDING": 1, "SYNCED": 1}
    assert found["due"] == 1 and found["oldestDueAt"]
    assert [(worker["name"], worker["alive"]) for worker in found["workers"]] == [("host:9", True)]
    assert [remote["state"] for remote in found["breakers"]] == ["closed"]
    table = run("sync_status")
    assert "host:9" in table and "alive" in table and "Pending" in table


def test_the_doctor_is_content_with_a_migrated_installation() -> None:
    out = StringIO()
    with pytest.raises(SystemExit) as ending:
        call_command("doctor", stdout=out)
    assert ending.value.code == 0, out.getvalue()
    assert "no heartbeat" in out.getvalue() and "runworker" in out.getvalue()


def test_the_doctor_finds_tampered_history() -> None:
    actor = factories.PERSON
    events.write([Fact(Kind.RECORD_EDITED, actor=actor) for _ in range(3)], now=timezone.now())
    audit.seal(timezone.now())
    event = Event.objects.order_by("seal")[1]
    Event.objects.filter(pk=event.pk).update(actor_label="nobody")
    out = StringIO()
    with pytest.raises(SystemExit) as ending:
        call_command("doctor", stdout=out)
    assert ending.value.code == 1
    assert f"breaks at event {event.pk}" in out.getvalue()


def test_the_doctor_says_how_to_mend_a_wrong_setting(settings: Any) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = ["169.254.0.0/16"]
    out = StringIO()
    with pytest.raises(SystemExit) as ending:
        call_command("doctor", stdout=out)
    assert ending.value.code == 1
    assert "syncportal.E010" in out.getvalue() and "->" in out.getvalue()
