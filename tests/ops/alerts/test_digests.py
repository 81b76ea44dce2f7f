"""The owner's digest: what waits for this person, once a day, never empty, and off when they say so."""

from datetime import date, timedelta

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.utils import timezone

from syncportal.ops.alerts import digests, sending
from syncportal.ops.alerts.models import Delivery
from syncportal.sync.models import Record
from tests.api.world import in_conflict, put_into, stored
from tests.ops.alerts.watched import Watched

pytestmark = [pytest.mark.db]
DAY = date(2026, 3, 23)


@pytest.fixture
def olga() -> User:
    return User.objects.create_user("olga", email="olga@example.org")


def waiting(watched: Watched, owner: User) -> Record:
    conflict = stored(watched.billing, "A", owner=owner)
    in_conflict(conflict)
    Record.objects.filter(pk=conflict.pk).update(title="Ada\r\nBcc: all@example.org <b>")
    failed = stored(watched.billing, "B", owner=owner)
    put_into(failed, "ERROR")
    return failed


def test_one_mail_a_day_says_what_waits(watched: Watched, olga: User) -> None:
    failed = waiting(watched, olga)
    assert digests.write(DAY, now=watched.now) == 1
    assert digests.write(DAY, now=watched.now) == 0
    sending.send_due(clock=lambda: watched.now)
    [letter] = mail.outbox
    assert (letter.to, letter.subject) == (["olga@example.org"], "[SyncPortal] For you: 1 conflict, 1 failed edit")
    assert f"/admin/sync/record/{failed.pk}/change/" in letter.body
    assert not any(line.startswith("Bcc") for line in letter.body.splitlines())
    assert digests.write(DAY + timedelta(days=1), now=watched.now) == 1


def test_nothing_waiting_is_no_mail(watched: Watched, olga: User) -> None:
    stored(watched.billing, "A", owner=olga)
    assert digests.write(DAY, now=watched.now) == 0
    assert not Delivery.objects.exists()


def test_who_turned_it_off_or_cannot_be_reached_gets_none(watched: Watched, olga: User) -> None:
    waiting(watched, olga)
    digests.choose(olga, wanted=False)
    assert digests.write(DAY, now=watched.now) == 0
    assert not digests.choice_of(olga)
    digests.choose(olga, wanted=True)
    for change in ({"is_active": False, "email": "olga@example.org"}, {"is_active": True, "email": ""}):
        User.objects.filter(pk=olga.pk).update(**change)
        assert digests.write(DAY, now=watched.now) == 0
    User.objects.filter(pk=olga.pk).update(email="olga@example.org")
    assert digests.write(DAY, now=watched.now) == 1


def test_others_conflicts_and_deleted_records_are_not_theirs(watched: Watched, olga: User) -> None:
    waiting(watched, User.objects.create_user("otto", email="otto@example.org"))
    gone = stored(watched.billing, "C", owner=olga)
    put_into(gone, "DEAD_LETTER")
    Record.objects.filter(pk=gone.pk).update(deleted_at=timezone.now())
    assert digests.write(DAY, now=watched.now) == 1
    assert Delivery.objects.get().person is not None
    assert Delivery.objects.get().person.username == "otto"


def test_a_long_list_is_cut_short_and_counted(watched: Watched, olga: User) -> None:
    for number in range(25):
        put_into(stored(watched.billing, f"R{number}", owner=olga), "ERROR")
    digests.write(DAY, now=watched.now)
    letter = Delivery.objects.get()
    assert letter.subject == "For you: 25 failed edits"
    assert "... and 5 more." in letter.body


def test_the_duty_waits_for_the_morning(watched: Watched, olga: User) -> None:
    waiting(watched, olga)
    midnight = timezone.localtime().replace(hour=0, minute=30)
    assert digests.duty(midnight) == "not before 7:00"
    assert digests.duty(midnight.replace(hour=7)) == "1 written"
