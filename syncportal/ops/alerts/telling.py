"""Whether people are told about an alert now, and what the message is: pure, no clock, no database.

Guarantees: at most one notice in `PAUSE` for each alert, recovery included; nothing while it is silenced or held back;
what was opened is closed: whoever was told of an alert is told of its end. Nobody is told twice of the same thing, but
reminded of what nobody has taken on. In a storm of different alerts people get few messages: once `STORM` that are not
critical were told of within `STORM_WITHIN`, others like them wait until that is over, and leave together; what is
critical never waits, and nothing waits for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncportal.ops.alerts.states import LIVE, RANK, AlertState, Message, Severity

PAUSE: Final = timedelta(minutes=30)
STORM: Final = 5
STORM_WITHIN: Final = timedelta(minutes=10)
REMINDED_AFTER: Final[dict[str, timedelta]] = {
    Severity.CRITICAL: timedelta(hours=4),
    Severity.WARNING: timedelta(days=1),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How an alert stands and what people know: `told` is "", open or resolved."""

    state: str
    severity: str
    told: str = ""
    told_severity: str = ""
    told_at: datetime | None = None
    reopenings: int = 0
    regression_untold: bool = False
    news_count: int = 0
    held_back: bool = False


def wanted_message(alert: Standing, *, now: datetime) -> Message | None:
    """Return what people do not know yet or must be reminded of, None when there is nothing to tell."""
    if alert.state in LIVE:
        if alert.told != AlertState.OPEN:
            return Message.REGRESSION if alert.reopenings else Message.OPENED
        if alert.regression_untold:
            return Message.REGRESSION
        worse = RANK.get(alert.severity, 0) > RANK.get(alert.told_severity, 0)
        if alert.news_count or worse:
            return Message.MORE
        again = reminder_at(alert, now)
        return Message.REMINDER if again is not None and again <= now else None
    if alert.told == AlertState.OPEN:
        return Message.RESOLVED
    return Message.PASSED if alert.news_count else None


def reminder_at(alert: Standing, now: datetime) -> datetime | None:
    """Return when people are reminded of an alert that they were told of; None once somebody has taken it on."""
    after = REMINDED_AFTER.get(alert.severity)
    if alert.state != AlertState.OPEN or alert.told != AlertState.OPEN or alert.told_at is None or after is None:
        return None
    return now if alert.told_at > now else alert.told_at + after


def not_before(alert: Standing, now: datetime) -> datetime:
    """Return when the next notice may leave; a time to come was told by a clock that has been set back since."""
    told_at = alert.told_at
    return now if told_at is None or told_at > now else max(now, told_at + PAUSE)


def message_now(alert: Standing, *, now: datetime) -> Message | None:
    """Return the message that is due, None when there is none, it must wait, or the alert is held back."""
    if alert.held_back or not_before(alert, now) > now:
        return None
    return wanted_message(alert, now=now)


def lately_told(told: Iterable[datetime | None], now: datetime) -> int:
    """Return how many alerts people were told of within `STORM_WITHIN`, given when each was told of last."""
    return sum(at is not None and now - STORM_WITHIN < at <= now for at in told)


def waits_for_others(severity: str, message: Message, *, lately: int) -> bool:
    """Tell whether a notice that is due waits to leave together with others; a reminder is for many anyway.

    lately: how many alerts were told of within `STORM_WITHIN` as something that is not critical. As none of these is
    told while others wait, no wait is longer.
    """
    return lately >= STORM and severity != Severity.CRITICAL and message is not Message.REMINDER
