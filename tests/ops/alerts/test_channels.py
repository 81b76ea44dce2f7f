"""Channels: which may exist, which alerts they carry, and Apprise, which is loaded when it is needed."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import mail

from syncportal.ops.alerts import channels, sending
from syncportal.ops.alerts.channels import ChannelInvalid, Wanted
from syncportal.ops.alerts.models import Channel, Delivery
from tests.ops.alerts.outgoing import channel, fresh, in_an_hour, put
from tests.ops.alerts.receivers import Hook
from tests.ops.alerts.watched import Watched

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]


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
