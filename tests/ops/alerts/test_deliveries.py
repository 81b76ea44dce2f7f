"""Notices on their way: real HTTP and real SMTP on loopback; down, slow, gone, forged; nothing lost, nothing leaked."""

import hmac
import json
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.utils import timezone

from syncportal.kernel.tx import OpenTransaction
from syncportal.ops.alerts import channels, outbox, sending, ways
from syncportal.ops.alerts.channels import ChannelInvalid, Wanted
from syncportal.ops.alerts.models import Channel, Delivery
from syncportal.ops.alerts.outbox import NewDelivery
from syncportal.ops.alerts.wording import Words, flat
from syncportal.remote.models import Remote
from tests.ops.alerts.receivers import Hook, MailBox, mail_server, web_hook
from tests.ops.alerts.watched import Watched

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
WORDS = Words("Critical: Remote is down", "It is down.", {"event": "alert.opened"})


@pytest.fixture
def hook() -> Iterator[Hook]:
    with web_hook() as made:
        yield made


@pytest.fixture
def mailbox(settings: Any) -> Iterator[MailBox]:
    with mail_server() as box:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = box.host, box.port, 0.3
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        yield box


def channel(via: str, url: str = "", *, target: str = "", **changes: Any) -> Channel:
    count = Channel.objects.count()
    key = {"signing_key": "a key of the tests"} if via == "webhook" else {}
    wanted = Wanted(name=f"{via} {count}", via=via, target=target, secret_url=url or None, **{**key, **changes})
    return channels.store(None, wanted, actor=None)


def put(*ways_out: Channel, words: Words = WORDS) -> list[Delivery]:
    return outbox.put([NewDelivery("opened", words, channel_id=row.pk) for row in ways_out], now=timezone.now())


def fresh(delivery: Delivery) -> Delivery:
    delivery.refresh_from_db()
    return delivery


def in_an_hour() -> Any:
    return timezone.now() + timedelta(hours=1, minutes=20)


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


def test_the_channels_of_the_installation_need_their_setting_only(settings: Any, hook: Hook) -> None:
    channels.ensure()
    settings.OPERATIONS_EMAIL, settings.SLACK_WEBHOOK_URL = [], ""
    assert channels.usable() == []
    settings.OPERATIONS_EMAIL, settings.SLACK_WEBHOOK_URL = ["ops@example.org"], hook.url
    both = channels.usable()
    put(*both)
    assert sending.send_due().sent == 2
    assert (mail.outbox[0].to, len(hook.arrived)) == (["ops@example.org"], 1)
    assert not Channel.objects.exclude(secret_url="").exists()
    with pytest.raises(ChannelInvalid):
        channels.remove(both[0], actor=None)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Wanted("", "email", target="a@b.org"), "name"),
        (Wanted("a\nb", "email", target="a@b.org"), "name"),
        (Wanted("x", "fax", target="a@b.org"), "via"),
        (Wanted("x", "email"), "target"),
        (Wanted("x", "email", target="a@b.org\r\nBcc: c@d.org"), "target"),
        (Wanted("x", "slack"), "secret_url"),
        (Wanted("x", "slack", secret_url="ftp://example.org/x"), "secret_url"),
        (Wanted("x", "webhook", secret_url="https://user:pass@example.org/x"), "secret_url"),
        (Wanted("x", "webhook", secret_url="https://example.org/x", signing_key="short"), "signing_key"),
        (Wanted("x", "email", target="a@b.org", lowest_severity="huge"), "lowest_severity"),
    ],
)
def test_a_channel_that_cannot_work_is_refused(wanted: Wanted, field: str) -> None:
    with pytest.raises(ChannelInvalid) as refusal:
        channels.store(None, wanted, actor=None)
    assert field in refusal.value.problems
    assert not Channel.objects.exists()


def test_routes_are_by_severity(watched: Watched) -> None:
    critical = channel("email", target="night@example.org", lowest_severity="critical")
    quiet = channel("email", target="day@example.org", tells_recovery=False)
    watched.down(watched.billing)
    watched.dead_letter(watched.shop)
    watched.evaluate()
    assert Delivery.objects.filter(channel=critical).count() == 1
    assert Delivery.objects.filter(channel=quiet).count() == 2
    watched.up(watched.billing)
    watched.evaluate(minutes=31)
    assert Delivery.objects.filter(channel=critical, message="resolved").count() == 1
    assert not Delivery.objects.filter(channel=quiet, message="resolved").exists()


class FakeApprise:
    """Stands for the extra: takes addresses that begin with ok; `host` in one is a host, in others a token."""

    said: list[tuple[str, str]] = []

    def add(self, url: str) -> bool:
        scheme, _, host = url.partition("://")
        tokens = {"host": {}} if scheme == "okhost" else {"token": {}}
        self.services = [SimpleNamespace(template_tokens=tokens, host=host, redirects=True)]
        return scheme.startswith("ok")

    def __iter__(self) -> Iterator[Any]:
        return iter(self.services)

    def notify(self, *, title: str, body: str, body_format: str) -> bool:
        self.said.append((title, body))
        return not self.services[0].redirects


def test_apprise_is_loaded_when_it_is_needed_and_says_so_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeApprise, "said", [])
    [delivery] = put(channel("apprise", "ok://token"))
    monkeypatch.setitem(sys.modules, "apprise", None)
    sending.send_due()
    assert "pip install apprise" in fresh(delivery).last_error
    monkeypatch.setitem(sys.modules, "apprise", SimpleNamespace(Apprise=FakeApprise))
    assert sending.send_due(clock=in_an_hour).sent == 1
    assert FakeApprise.said == [("[SyncPortal] Critical: Remote is down", "It is down.")]
    [other] = put(channel("apprise", "no://token"))
    sending.send_due()
    assert (fresh(other).state, "token" in other.last_error) == ("failed", False)


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("okhost://169.254.169.254", "failed"),
        ("okhost://2852039166", "failed"),  # the same address in one number
        ("okhost://[fe80::1]", "failed"),
        ("okhost://10.1.2.3", "failed"),
        ("okhost://name.invalid", "pending"),
        ("okhost://127.0.0.1", "sent"),
        ("okhost://", "sent"),
        ("ok://2852039166", "sent"),
    ],
)
def test_a_host_that_an_apprise_address_names_is_checked_first(
    monkeypatch: pytest.MonkeyPatch, url: str, state: str
) -> None:
    monkeypatch.setattr(FakeApprise, "said", [])
    monkeypatch.setitem(sys.modules, "apprise", SimpleNamespace(Apprise=FakeApprise))
    [delivery] = put(channel("apprise", url))
    sending.send_due()
    assert (fresh(delivery).state, len(FakeApprise.said)) == (state, state == "sent")


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
