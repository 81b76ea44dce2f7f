"""Mails to operations: once for each new dead letter and refused credential, and nothing that a remote can forge."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from syncportal.ops import notices
from syncportal.ops.models import Notice, NoticeCursor
from syncportal.remote.models import Remote
from syncportal.sync import events
from syncportal.sync.events import Actor, Fact, Kind

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def somebody_to_tell(settings: Any) -> None:
    settings.OPERATIONS_EMAIL = ["ops@example.org"]


def lost(detail: str = "gone", *, at: Any = None) -> None:
    events.write([Fact(Kind.SYNC_DEAD_LETTERED, data={"detail": detail})], now=at or timezone.now())


def test_new_dead_letters_are_one_digest_and_are_told_once() -> None:
    lost("first")
    lost("second")
    assert notices.send_due(timezone.now()) == "1 mails, 2 events"
    assert mail.outbox[0].subject == "[SyncPortal] 2 new dead letters"
    assert "first" in mail.outbox[0].body and "second" in mail.outbox[0].body
    assert mail.outbox[0].to == ["ops@example.org"]
    assert notices.send_due(timezone.now()) == "nothing new"
    assert len(mail.outbox) == 1


def test_what_could_not_be_sent_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    lost()
    with monkeypatch.context() as broken:
        broken.setattr(notices, "_send", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            notices.send_due(timezone.now())
    assert not Notice.objects.exists()
    notices.send_due(timezone.now())
    assert len(mail.outbox) == 1


def test_with_nobody_to_tell_the_letters_wait_and_the_result_says_so(settings: Any) -> None:
    lost()
    settings.OPERATIONS_EMAIL = []
    assert "nobody to tell" in notices.send_due(timezone.now())
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    notices.send_due(timezone.now())
    assert len(mail.outbox) == 1


def test_a_letter_whose_event_committed_late_is_not_missed() -> None:
    now = timezone.now()
    lost("early", at=now)
    notices.send_due(now)
    lost("late", at=now - timedelta(minutes=1))
    notices.send_due(now + timedelta(minutes=1))
    assert len(mail.outbox) == 2


def test_the_cursor_moves_over_what_is_settled_and_the_marks_are_cleared() -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    lost(at=long_ago)
    notices.send_due(timezone.now())
    assert NoticeCursor.objects.get().after_id > 0
    assert not Notice.objects.exists()
    assert notices.send_due(timezone.now()) == "nothing new"


def test_a_refused_credential_is_one_mail_and_a_pause_by_hand_none() -> None:
    remote = Remote.objects.create(slug="billing", base_url="https://billing.example.org")
    now = timezone.now()
    events.write([Fact(Kind.REMOTE_PAUSED, remote_id=remote.pk, data={"detail": "401"})], now=now)
    events.write([Fact(Kind.REMOTE_PAUSED, remote_id=remote.pk, actor=Actor("user", label="pat"))], now=now)
    notices.send_due(now)
    notices.send_due(now)
    assert [message.subject for message in mail.outbox] == ["[SyncPortal] Remote paused: billing"]


def test_line_breaks_from_a_remote_break_neither_header_nor_lines() -> None:
    events.write(
        [Fact(Kind.REMOTE_PAUSED, data={"remote": "x\r\nBcc: all@example.org", "detail": "a\n\nAll is well\x07"})],
        now=timezone.now(),
    )
    lost("no\r\n- accounts: forged line\x1b[2J")
    notices.send_due(timezone.now())
    assert len(mail.outbox) == 2
    for message in mail.outbox:
        assert "\n" not in message.subject and "\r" not in message.subject
        assert not any(line.startswith(("All is well", "- accounts: forged")) for line in message.body.splitlines())
        assert "\x07" not in message.body and "\x1b" not in message.body
        assert "Bcc" not in message.message()


def test_a_flood_is_cut_short() -> None:
    events.write([Fact(Kind.SYNC_DEAD_LETTERED, data={"detail": "x" * 5000}) for _ in range(300)], now=timezone.now())
    notices.send_due(timezone.now())
    assert mail.outbox[0].subject == "[SyncPortal] 300 new dead letters"
    assert "... and 250 more." in mail.outbox[0].body
    assert len(mail.outbox[0].body) < 30_000
