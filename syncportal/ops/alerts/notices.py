"""Which messages leave over which channel for the notices that are due: one each, or one for many.

Guarantees: every channel that takes an alert is told of it; more than a few at once are one message for each channel,
which names every critical alert (in several messages when one cannot hold them), the first of the others, and how many
more there are. Does not: decide when people are told (`telling`), word it (`wording`), store it (`outbox`).
"""

from collections.abc import Sequence
from datetime import datetime

from syncportal.ops.alerts import channels, wording
from syncportal.ops.alerts.models import Alert, Channel
from syncportal.ops.alerts.outbox import NewDelivery
from syncportal.ops.alerts.states import RANK, Message, Severity
from syncportal.ops.alerts.telling import STORM
from syncportal.ops.alerts.wording import GATHERED

Notice = tuple[Alert, Message]


def of(due: Sequence[Notice], ways: Sequence[Channel], *, lately: int, now: datetime) -> list[NewDelivery]:
    """Return the messages for notices, of which `lately` others were told shortly before."""
    news = [notice for notice in due if notice[1] is not Message.REMINDER]
    forgotten = [alert for alert, message in due if message is Message.REMINDER]
    new: list[NewDelivery] = []
    for way in ways:
        told = [notice for notice in news if _is_for(way, *notice)]
        if len(told) > 1 and lately + len(news) > STORM:
            new += [_several(way, part, now) for part in _parts(told)]
        else:
            new += [
                NewDelivery(what.value, wording.of_alert(alert, what, now=now), channel_id=way.pk, alert_id=alert.pk)
                for alert, what in told
            ]
        reminded = [alert for alert in forgotten if channels.takes(way, alert.severity)]
        new += [_reminder(way, reminded, now)] if reminded else []
    return new


def _is_for(way: Channel, alert: Alert, message: Message) -> bool:
    return channels.takes(way, alert.severity) and (way.tells_recovery or message is not Message.RESOLVED)


def _parts(told: Sequence[Notice]) -> list[list[Notice]]:
    """Return them the worst first, in as few parts as it takes for each to name all its critical ones."""
    ordered = sorted(told, key=lambda one: (-RANK[one[0].severity], wording.is_over(one[1]), one[0].since))
    critical = sum(alert.severity == Severity.CRITICAL for alert, _ in ordered)
    cuts = range(GATHERED, critical, GATHERED)
    return [ordered[start:end] for start, end in zip((0, *cuts), (*cuts, None), strict=True)]


def _several(way: Channel, told: Sequence[Notice], now: datetime) -> NewDelivery:
    words = wording.of_several(told, now=now)
    return NewDelivery(Message.SEVERAL.value, words, channel_id=way.pk, gathered_ids=_ids([one for one, _ in told]))


def _reminder(way: Channel, alerts: Sequence[Alert], now: datetime) -> NewDelivery:
    """Return one message about all that nobody has taken on, however many they are."""
    words = wording.of_reminder(alerts, now=now)
    about = alerts[0].pk if len(alerts) == 1 else None
    many = _ids(alerts) if about is None else ()
    return NewDelivery(Message.REMINDER.value, words, channel_id=way.pk, alert_id=about, gathered_ids=many)


def _ids(alerts: Sequence[Alert]) -> tuple[int, ...]:
    return tuple(alert.pk for alert in alerts)
