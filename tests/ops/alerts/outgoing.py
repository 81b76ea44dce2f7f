"""Messages put on their way over channels of the tests."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from syncportal.ops.alerts import channels, outbox
from syncportal.ops.alerts.channels import Wanted
from syncportal.ops.alerts.models import Channel, Delivery
from syncportal.ops.alerts.outbox import NewDelivery
from syncportal.ops.alerts.wording import Words

WORDS = Words("Critical: Remote is down", "It is down.", {"event": "alert.opened"})


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
