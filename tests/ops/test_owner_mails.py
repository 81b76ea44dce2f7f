"""Mails about conflicts: the owner once, the new owner again, operations after a while, and nothing forged."""

from datetime import timedelta
from smtplib import SMTPRecipientsRefused
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.utils import timezone

from syncportal.kernel.clock import db_now
from syncportal.ops import owner_mails
from syncportal.ops.alerts import evaluate
from syncportal.ops.alerts.models import Alert, Delivery
from syncportal.remote.models import Resource
from syncportal.sync import conflict_store, open_conflicts, operate, records, transitions
from syncportal.sync.events import WORKER
from syncportal.sync.models import Conflict, Event, Record
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from tests.factories import make_remote, make_resource, shown

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def addresses(settings: Any) -> None:
    settings.OPERATIONS_EMAIL, settings.PUBLIC_URL = ["ops@example.org"], "https://sync.example.org"


@pytest.fixture
def resource() -> Resource:
    return make_resource(make_remote("http://127.0.0.1:1/api"), policy={"escalate_after_h": 6})


def person(name: str, **other: Any) -> User:
    return User.objects.create_user(name, **{"email": f"{name}@example.org", **other})


def conflicting(resource: Resource, owner: User | None, *, name: str = "Ada") -> Conflict:
    now = timezone.now()
    state = RecordState(
        id=0, resource_id=resource.pk, external_id=f"X-{Record.objects.count()}", data={"name": name, "city": "Lund"},
        base={"name": name, "city": "Turku"}, version="1", revision=2, intent=Intent.UPDATE,
        owner_id=owner.pk if owner else None, deleted_at=None,
    )  # fmt: skip
    [pk] = records.insert([state], now=now)
    transitions.insert([transitions.NewJob(pk, resource.remote_id, True, 4)], now=now)
    there = shown({"name": name, "city": "Oslo"}, version="2")
    locked = records.states_of([pk])[pk]
    found = open_conflicts.ask(locked, there, "concurrent_edit", base=state.base, fields=["/city"], now=now)
    return Conflict.objects.get(pk=found)


def run(**later: float) -> str:
    return owner_mails.duty(db_now() + timedelta(**later))


def test_an_owner_is_told_once_in_one_mail_with_links(resource: Resource) -> None:
    olga = person("olga")
    first, second = conflicting(resource, olga), conflicting(resource, olga)
    assert run() == "1 owner told of 2 conflicts"
    [told] = mail.outbox
    assert (told.to, told.subject) == (["olga@example.org"], "[SyncPortal] 2 conflicts wait for your decision")
    for one in (first, second):
        assert f"https://sync.example.org/admin/sync/conflict/{one.pk}/" in told.body
    assert run() == "nothing new" and len(mail.outbox) == 1


def test_a_conflict_decided_before_the_mail_is_not_mailed(resource: Resource) -> None:
    found = conflicting(resource, person("olga"))
    conflict_store.close(found.pk, resolution="use_remote", choices={}, user_id=None, now=timezone.now())
    assert run() == "nothing new" and mail.outbox == []


def test_a_new_owner_is_told_too(resource: Resource) -> None:
    found = conflicting(resource, person("olga"))
    run()
    operate.assign([found.record_id], owner_id=person("otto").pk, actor=WORKER)
    run()
    assert [one.to for one in mail.outbox] == [["olga@example.org"], ["otto@example.org"]]


def test_operations_are_asked_once_after_the_resources_hours(resource: Resource) -> None:
    found = conflicting(resource, person("olga"))
    run(hours=5)
    found.refresh_from_db()
    assert found.escalated_at is None
    assert run(hours=7) == "1 handed to operations"
    assert run(hours=8) == "nothing new"
    evaluate.evaluate(timezone.now())
    told = Delivery.objects.get(alert__kind="conflicts_waiting")
    assert "(owner: olga)" in told.body and f"/admin/sync/conflict/{found.pk}/" in told.body
    found.refresh_from_db()
    assert found.escalated_at is not None
    assert Event.objects.filter(kind="conflict.escalated", record_id=found.record_id).count() == 1


def test_what_was_handed_over_while_nobody_could_be_told_is_told_later(resource: Resource, settings: Any) -> None:
    settings.OPERATIONS_EMAIL = []
    found = [conflicting(resource, person("olga")), conflicting(resource, person("otto"))]
    assert run(hours=7) == "2 owners told of 2 conflicts, 2 handed to operations"
    evaluate.evaluate(timezone.now())
    waiting = Alert.objects.get(kind="conflicts_waiting")
    assert (waiting.state, waiting.told, Delivery.objects.count()) == ("open", "", 0), "it stands among the alerts"
    conflict_store.close(found[0].pk, resolution="use_remote", choices={}, user_id=None, now=timezone.now())
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    evaluate.evaluate(timezone.now())
    told = Delivery.objects.get(alert=waiting)
    assert f"/admin/sync/conflict/{found[1].pk}/" in told.body and "(owner: otto)" in told.body
    evaluate.evaluate(timezone.now())
    assert Delivery.objects.filter(alert=waiting).count() == 1, "once"


@pytest.mark.parametrize("owner", [None, {"email": ""}, {"is_active": False}], ids=["nobody", "no address", "left"])
def test_what_no_owner_can_be_told_goes_to_operations_at_once(resource: Resource, owner: Any) -> None:
    conflicting(resource, person("olga", **owner) if owner is not None else None)
    assert run() == "1 handed to operations"
    assert mail.outbox == []
    evaluate.evaluate(timezone.now())
    assert Delivery.objects.filter(alert__kind="conflicts_waiting").count() == 1


def test_a_refused_address_goes_to_operations_and_keeps_nobody_else_from_being_told(
    resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = person("bad"), person("good")
    found = conflicting(resource, bad)
    conflicting(resource, good)
    really = owner_mails._send

    def send(subject: str, body: str, *, to: Any) -> None:
        if to == ["bad@example.org"]:
            raise SMTPRecipientsRefused({"bad@example.org": (550, b"no")})
        really(subject, body, to=to)

    monkeypatch.setattr(owner_mails, "_send", send)
    assert run() == "1 owner told of 1 conflict, 1 address refused"
    found.refresh_from_db()
    assert found.escalated_at is not None and mail.outbox[0].to == ["good@example.org"]


def test_what_could_not_be_sent_is_sent_later(resource: Resource, monkeypatch: pytest.MonkeyPatch) -> None:
    conflicting(resource, person("olga"))
    with monkeypatch.context() as broken:
        broken.setattr(owner_mails, "_send", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run()
    assert run() == "1 owner told of 1 conflict"


def test_a_remote_cannot_forge_a_header_or_a_line(resource: Resource) -> None:
    conflicting(resource, person("olga"), name="Ada\nBcc: all@example.org\r\n- everything is fine")
    run()
    assert "Bcc" not in mail.outbox[0].subject
    assert all(not line.startswith(("Bcc", "- everything")) for line in mail.outbox[0].body.splitlines())
