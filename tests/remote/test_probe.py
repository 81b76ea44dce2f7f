"""The probe finds out what the demo master really does, and leaves nothing behind."""

import time
from collections.abc import Iterator

import pytest

from syncportal.demo import DemoMaster, accounts
from syncportal.remote import connection, probe
from syncportal.remote.configuration import save_remote, save_resource
from syncportal.remote.models import Gate, Resource
from syncportal.remote.spec import spec_for
from tests.remote.masters import contents

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def loopback_allowed(settings) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture
def master() -> Iterator[DemoMaster]:
    with DemoMaster([]) as running:
        yield running


def configured(master: DemoMaster, **knobs) -> Resource:
    remote = save_remote(slug="demo", name="Demo", base_url=master.api_url, config={}).row
    config = {
        "list": {"path": "/accounts/", "items": "/items",
                 "page": {"style": "offset", "param": "offset", "total": "/total", "size_param": "limit", "size": 10}},
        "detail": {"path": "/accounts/{0}"}, "id": ["/id"], "version": {"from": "body", "pointer": "/version"},
        "precondition": {"send": "if_match"}, "read_only": ["/updated_at"], "create": {"lookup": {"email": "/email"}},
        "schema": {"type": "object", "properties": {"tier": {"enum": ["bronze", "silver", "gold"]}}}, **knobs,
    }  # fmt: skip
    return save_resource(remote=remote, slug="accounts", name="", config=config).row


def test_reading_alone_writes_nothing_and_leaves_conditional_writes_unknown(master) -> None:
    master.reset([accounts(25)])
    card = probe.run(configured(master))
    assert (card["conditional_writes"], card["keeps_order"], card["version_real"]) == ("unknown", True, True)
    assert master.writes() == []


def test_a_remote_that_refuses_stale_writes_is_promised_nothing_is_overwritten(master) -> None:
    master.reset([accounts(5)])
    before = contents(master, "accounts")
    resource = configured(master, idempotency_header="Idempotency-Key")
    card = probe.run(resource, write=True)
    assert card["problems"] == []
    assert card["conditional_writes"] == "yes"
    assert card["stale_write_refused"] is True
    assert card["precondition_required"] is False
    assert card["returns_object"] is True
    assert card["idempotency"] is True
    assert card["bumps_on_equal_write"] is True
    assert contents(master, "accounts") == before
    stored = Resource.objects.get(pk=resource.pk)
    assert stored.guarantees == card
    assert stored.probed_at is not None
    assert spec_for(stored).conditional


def test_a_remote_that_ignores_if_match_is_found_out_and_the_spec_stops_trusting_it(master) -> None:
    master.reset([accounts(5, precondition="ignored", no_change_bumps=False)])
    resource = configured(master)
    card = probe.run(resource, write=True)
    assert card["conditional_writes"] == "no"
    assert card["bumps_on_equal_write"] is False
    assert "can be overwritten" in card["promise"]
    assert not spec_for(Resource.objects.get(pk=resource.pk)).conditional


def test_a_required_precondition_and_an_empty_answer_are_seen(master) -> None:
    master.reset([accounts(5, require_precondition=True, write_answer="empty")])
    card = probe.run(configured(master), write=True)
    assert card["precondition_required"] is True
    assert card["returns_object"] is False
    assert card["conditional_writes"] == "yes"


def test_where_nothing_can_be_created_one_object_is_changed_and_put_back(master) -> None:
    master.reset([accounts(3, create="no")])
    before = contents(master, "accounts")
    card = probe.run(configured(master), write=True)
    assert card["conditional_writes"] == "yes"
    assert card["leftover"] == []
    after = contents(master, "accounts")
    for name in before:
        assert {k: v for k, v in after[name].items() if k not in ("version", "updated_at")} == {
            k: v for k, v in before[name].items() if k not in ("version", "updated_at")
        }


def test_a_slow_remote_is_left_in_time_and_cleaned_up_and_what_was_not_seen_is_said(
    master, monkeypatch, settings
) -> None:
    assert settings.CALL_TOTAL_S + probe.LOOKING_S + probe.CLEANING_S < settings.WEB_TIMEOUT_S
    monkeypatch.setattr(probe, "LOOKING_S", 1.0)
    monkeypatch.setattr(probe, "CLEANING_S", 3.0)
    master.reset([accounts(5)])
    before = contents(master, "accounts")
    resource = configured(master, idempotency_header="Idempotency-Key")
    master.latency_ms = 120
    begun = time.monotonic()
    card = probe.run(resource, write=True)
    assert time.monotonic() - begun < probe.LOOKING_S + probe.CLEANING_S
    master.latency_ms = 0
    assert contents(master, "accounts") == before, "the scratch object is gone"
    assert (card["leftover"], card["stale_write_refused"], card["bumps_on_equal_write"]) == ([], None, None)
    assert card["problems"][-1].startswith("The probe's 1 s were over before it could look at: ")
    assert card["problems"][-1].endswith("a stale write, a write without precondition, an equal write.")


def test_time_that_ends_while_reading_leaves_no_object_touched(master, monkeypatch) -> None:
    monkeypatch.setattr(probe, "LOOKING_S", 0.5)
    master.reset([accounts(5)])
    resource = configured(master)
    master.latency_ms = 200
    card = probe.run(resource, write=True)
    assert master.writes() == []
    assert card["problems"] == [
        "The probe's 0.5 s were over before it could look at: the objects and their versions, all that needs writes."
    ]


def test_a_create_that_is_not_answered_is_named_as_perhaps_left_behind(master) -> None:
    master.reset([accounts(5)])
    resource = configured(master)
    master.faults.add("reset_after", phase="write", times=1)
    assert probe.run(resource, write=True)["leftover"] == ["perhaps an object whose creation was not answered"]


def test_a_changed_precondition_drops_the_card(master) -> None:
    master.reset([accounts(3)])
    resource = configured(master)
    probe.run(resource)
    configured(master, precondition={"send": "none"})
    assert Resource.objects.get(pk=resource.pk).guarantees == {}


def test_connection_words(master) -> None:
    master.reset([accounts(3)])
    remote = configured(master).remote
    assert connection.test(remote).status == "ONLINE"
    assert Gate.objects.get(pk=remote.pk).last_check == "ONLINE"
    master.faults.add("status", status=401)
    assert connection.test(remote).status == "AUTH"
    master.faults.clear()
    master.go_down()
    report = connection.test(remote)
    assert report.status == "OFFLINE"
    assert Gate.objects.get(pk=remote.pk).last_error == report.detail


def test_a_missing_credential_is_said_without_a_call(master) -> None:
    remote = configured(master).remote
    remote.config = {"auth": {"kind": "basic", "credential": "env:SURELY_NOT_SET"}}
    report = connection.test(remote, keep=False)
    assert report.status == "AUTH"
    assert "SURELY_NOT_SET" in report.detail
    assert master.requests() == []
