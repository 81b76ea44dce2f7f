"""Notices on their way: real HTTP and real SMTP on loopback; down, slow, gone, forged; nothing lost, nothing leaked."""

import hmac
import json
import socket
from datetime import timedelta
from email import message_from_bytes
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from syncportal.kernel.tx import OpenTransaction
from syncportal.ops.alerts import outbox, sending, ways
from syncportal.ops.alerts.models import Channel, Delivery
from syncportal.ops.alerts.wording import Words, flat
from syncportal.remote.models import Remote
from tests.ops.alerts.outgoing import channel, fresh, in_an_hour, put
from tests.ops.alerts.receivers import Hook, MailBox, web_hook
from tests.ops.alerts.watched import Watched

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


def test_a_webhook_is_signed_and_names_its_delivery(hook: Hook) -> None:
    way = channel("webhook", hook.url, signing_key="a signing key of the test")
    [delivery] = put(way)
    assert sending.send_due().sent == 1
    [(headers, body)] = hook.arrived
    assert json.loads(body) == {"id": str(delivery.uid), "event": "alert.opened"}
    assert headers["X-SyncPortal-Delivery"] == str(delivery.uid)
    at, seal = (part.split("=", 1)[1] for part in headers["X-SyncPortal-Signature"].split(","))
    assert hmac.new(b"a signing key of the test", f"{at}.".encode() + body, "sha256").hexdigest() == seal
    assert (fresh(delivery).state, delivery.attempts, delivery.last_error) == ("sent", 1, "")
    assert sending.send_due().sent == 0


def test_slack_gets_text_without_anybody_elses_markup(hook: Hook) -> None:
    words = Words("Dead letters", "<!channel> <https://evil.example|click> *bold* & co", {})
    put(channel("slack", hook.url), words=words)
    assert sending.send_due().sent == 1
    said = json.loads(hook.arrived[0][1])
    assert said["text"].endswith("&lt;!channel&gt; &lt;https://evil.example|click&gt; *bold* &amp; co")
    assert (said["mrkdwn"], said["unfurl_links"]) == (False, False)


def test_a_channel_that_is_down_is_tried_again_with_growing_delays_until_it_is_up(hook: Hook) -> None:
    hook.statuses = [500, 503, 200]
    [delivery] = put(channel("webhook", hook.url))
    assert sending.send_due().failed == 1
    first = fresh(delivery)
    assert (first.state, first.attempts) == ("pending", 1)
    assert 29 < (first.due_at - timezone.now()).total_seconds() < 40
    assert "500" in first.last_error
    assert sending.send_due().failed == 0, "not due yet"
    assert sending.send_due(clock=in_an_hour).failed == 1
    assert 59 < (fresh(delivery).due_at - in_an_hour()).total_seconds() < 80
    later = timezone.now() + timedelta(hours=3)
    assert sending.send_due(clock=lambda: later).sent == 1
    assert [json.loads(body)["id"] for _, body in hook.arrived] == [str(delivery.uid)] * 3


def test_what_a_channel_asks_for_is_honoured(hook: Hook) -> None:
    hook.statuses, hook.headers = [429], {"Retry-After": "900"}
    [delivery] = put(channel("slack", hook.url))
    sending.send_due()
    assert 890 < (fresh(delivery).due_at - timezone.now()).total_seconds() < 910


def test_a_channel_that_is_gone_is_given_up_and_can_be_sent_again(hook: Hook) -> None:
    hook.statuses = [410, 200]
    [delivery] = put(channel("slack", hook.url))
    sending.send_due()
    assert (fresh(delivery).state, "410" in delivery.last_error) == ("failed", True)
    assert sending.send_due(clock=in_an_hour).sent == 0
    assert outbox.resend(delivery.pk, by="ops", now=timezone.now())
    assert sending.send_due().sent == 1


def test_after_a_week_it_is_given_up_and_stays_listed(hook: Hook) -> None:
    hook.statuses = [500]
    [delivery] = put(channel("webhook", hook.url))
    later = timezone.now() + timedelta(days=6, hours=23)
    sending.send_due(clock=lambda: later)
    assert fresh(delivery).state == "pending"
    later += timedelta(hours=2)
    sending.send_due(clock=lambda: later)
    assert (fresh(delivery).state, delivery.last_error.startswith("Given up after 7 days")) == ("failed", True)


def test_asked_for_again_it_has_a_week_of_its_own_and_keeps_when_it_was_written(hook: Hook) -> None:
    hook.statuses = [410, 500]
    [delivery] = put(channel("webhook", hook.url))
    written, later = delivery.created_at, timezone.now() + timedelta(days=30)
    sending.send_due()
    assert outbox.resend(delivery.pk, by="ops", now=later)
    sending.send_due(clock=lambda: later + timedelta(days=6))
    again = fresh(delivery)
    assert (again.created_at, again.resent_at, again.resent_by, again.state) == (written, later, "ops", "pending")
    sending.send_due(clock=lambda: later + timedelta(days=8))
    assert fresh(delivery).state == "failed"


def test_the_secret_address_is_in_no_error_log_or_history(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.statuses = [500]
    way = channel("slack", hook.url)
    [delivery] = put(way)
    sending.send_due()
    refused = channel("webhook", hook.url.replace("127.0.0.1", "169.254.169.254"), signing_key="key-of-the-hook-secret")
    [other] = put(refused)
    sending.send_due()
    assert (fresh(other).state, "never allowed" in other.last_error) == ("failed", True)
    shown = repr([fresh(delivery).last_error, other.last_error, caplog.text, way, ways_parcels(way)])
    shown += repr([list(row.history.values()) for row in Channel.objects.all()])
    assert "tokensecret" not in shown and "T0SECRET" not in shown and "key-of-the-hook-secret" not in shown
    stored = Channel.objects.filter(pk=way.pk).extra(select={"raw": "secret_url"}).values_list("raw", flat=True)
    assert "tokensecret" not in str(list(stored))


def ways_parcels(way: Channel) -> list[Any]:
    return [sending.parcel_of(row) for row in Delivery.objects.filter(channel=way).select_related("channel", "person")]


def test_the_same_addresses_are_refused_as_for_remotes(hook: Hook, settings: Any) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = []
    [delivery] = put(channel("webhook", hook.url))
    sending.send_due()
    assert "REMOTE_ALLOWED_NETWORKS" in fresh(delivery).last_error
    assert (delivery.state, hook.arrived) == ("failed", [])


def test_a_redirect_is_not_followed(hook: Hook) -> None:
    hook.statuses, hook.headers = [302], {"Location": hook.url}
    put(channel("webhook", hook.url))
    assert sending.send_due().failed == 1
    assert len(hook.arrived) == 1


def test_one_channel_that_is_slow_costs_the_others_nothing(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PATIENCE_S", 0.4)
    monkeypatch.setattr(ways, "CALL_S", 5.0)
    with web_hook() as slow:
        slow.delay_s = 0.9
        dead = put(*[channel("webhook", slow.url)] * 3)
        put(*[channel("webhook", hook.url)] * 3)
        done = sending.send_due()
    assert (done.sent, done.failed) == (3, 1)
    assert len(hook.arrived) == 3
    assert "not taken in time" in fresh(dead[0]).last_error
    assert fresh(dead[1]).attempts == 0, "the rest of a slow channel waits for the next round"


def test_mail_goes_out_with_one_id_through_all_repetitions(mailbox: MailBox) -> None:
    way = channel("email", target="ops@example.org, night@example.org")
    [delivery] = put(way)
    assert sending.send_due().sent == 1
    outbox.resend(delivery.pk, by="ops", now=timezone.now())
    assert sending.send_due().sent == 1
    first, second = (message_from_bytes(raw) for raw in mailbox.arrived)
    assert first["Message-ID"] == second["Message-ID"] == f"<{delivery.uid}@127.0.0.1>"
    assert first["Subject"] == "[SyncPortal] Critical: Remote is down"
    assert first["To"] == "ops@example.org, night@example.org"
    assert (first["Auto-Submitted"], first.get_content_type()) == ("auto-generated", "text/plain")


def test_a_mail_server_that_is_down_or_says_nothing_is_tried_again(mailbox: MailBox, settings: Any) -> None:
    [delivery] = put(channel("email", target="ops@example.org"))
    mailbox.silent = True
    assert sending.send_due().failed == 1
    assert fresh(delivery).state == "pending"
    mailbox.silent, port = False, settings.EMAIL_PORT
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.EMAIL_PORT = closed.getsockname()[1]
        assert sending.send_due(clock=in_an_hour).failed == 1
    settings.EMAIL_PORT = port
    later = timezone.now() + timedelta(hours=4)
    assert sending.send_due(clock=lambda: later).sent == 1
    assert len(mailbox.arrived) == 1


def test_recipients_that_do_not_exist_are_given_up(mailbox: MailBox) -> None:
    [delivery] = put(channel("email", target="refused@example.org"))
    sending.send_due()
    assert (fresh(delivery).state, delivery.last_error) == ("failed", "The mail server refused all recipients ([550]).")


def test_what_a_remote_says_breaks_neither_header_nor_lines_nor_the_next_mail(
    watched: Watched, mailbox: MailBox
) -> None:
    name = "Billing\r\nBcc: all@example.org\r\n\r\n<script>alert(1)</script>"
    Remote.objects.filter(pk=watched.billing.remote_id).update(name=name)
    said = "gone\r\n.\r\nMAIL FROM:<x@y>\r\n- accounts: forged line\x1b[2J\u202eevil\n\nAll is well"
    watched.dead_letter(watched.billing, detail=said)
    watched.down(watched.shop, error=said)
    watched.evaluate()
    sending.send_due(clock=lambda: watched.now)
    sending.send_due(clock=lambda: watched.now)
    assert len(mailbox.arrived) == 2
    for raw in mailbox.arrived:
        message = message_from_bytes(raw)
        text = message.get_payload(decode=True).decode()
        assert message["Bcc"] is None and message["To"] == "ops@example.org"
        assert not any(
            line.startswith(("All is well", "- accounts: forged", "MAIL", "Bcc")) for line in text.splitlines()
        )
        assert not any(char in text for char in "\x1b\u202e")


def test_nothing_is_sent_while_a_transaction_is_open(hook: Hook) -> None:
    put(channel("webhook", hook.url))
    with transaction.atomic(), pytest.raises(OpenTransaction):
        sending.send_due()
    assert hook.arrived == []


def test_a_lease_that_is_over_gives_the_message_to_somebody_else_and_the_first_cannot_settle_it(hook: Hook) -> None:
    [delivery] = put(channel("webhook", hook.url))
    now = timezone.now()
    first = outbox.claim(delivery.pk, now=now)
    assert first is not None
    assert outbox.claim(delivery.pk, now=now) is None
    assert sending.send_due(clock=lambda: now + timedelta(seconds=89)).sent == 0
    assert sending.send_due(clock=lambda: now + timedelta(seconds=91)).sent == 1
    assert not outbox.fail(first, "too late", permanent=True, retry_after_s=None, now=now)
    assert fresh(delivery).state == "sent"


def test_a_clock_that_is_set_back_holds_no_notice_back(hook: Hook) -> None:
    way = channel("webhook", hook.url)
    [born_later] = put(way)
    back = timezone.now() - timedelta(hours=1)
    assert sending.send_due(clock=lambda: back).sent == 1 and fresh(born_later).state == "sent"
    hour = timedelta(hours=1)
    for values in (
        {"state": "pending", "due_at": timezone.now() + 2 * hour},  # no delay is that long
        {"state": "sending", "due_at": None, "lease_until": timezone.now() + hour},
    ):
        [stuck] = put(way)
        Delivery.objects.filter(pk=stuck.pk).update(created_at=timezone.now() - hour, **values)
        assert sending.send_due().sent == 1 and fresh(stuck).state == "sent"


def test_old_deliveries_go_and_what_waits_stays(hook: Hook) -> None:
    way = channel("webhook", hook.url)
    old, waiting = put(way, way)
    Delivery.objects.filter(pk=old.pk).update(state="sent", due_at=None, ended_at=timezone.now() - timedelta(days=91))
    Delivery.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - timedelta(days=91))
    assert outbox.prune(timezone.now()) == 1
    assert list(Delivery.objects.values_list("pk", flat=True)) == [waiting.pk]


def test_a_line_stays_a_line() -> None:
    assert flat("a\r\nb\tc\x00\u2028d", 80) == "a b c d"
    assert flat("x" * 100, 10) == "x" * 9 + "…"
