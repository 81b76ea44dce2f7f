"""When people are told: never twice of one thing, never more than once in half an hour, and always of the end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from syncportal.ops.alerts.states import Message
from syncportal.ops.alerts.telling import PAUSE, Standing, message_now, not_before

NOW = datetime(2026, 3, 23, 9, 30, tzinfo=UTC)
NEW = Standing("open", "warning")
TOLD = Standing("open", "warning", told="open", told_severity="warning", told_at=NOW - PAUSE)
LONG_AGO = replace(TOLD, told_at=NOW - timedelta(days=1))
RECENT = NOW - timedelta(minutes=29)


@pytest.mark.parametrize(
    ("alert", "message"),
    [
        (NEW, Message.OPENED),
        (replace(NEW, state="acknowledged"), Message.OPENED),
        (TOLD, None),
        (replace(TOLD, news_count=2), Message.MORE),
        (replace(TOLD, state="acknowledged", news_count=2), Message.MORE),
        (replace(TOLD, severity="critical"), Message.MORE),
        (replace(TOLD, severity="info"), None),
        (replace(TOLD, regression_untold=True, reopenings=1), Message.REGRESSION),
        (replace(TOLD, told="resolved", reopenings=1), Message.REGRESSION),
        (LONG_AGO, Message.REMINDER),
        (replace(LONG_AGO, told_at=NOW - timedelta(hours=23)), None),
        (
            replace(LONG_AGO, told_at=NOW - timedelta(hours=4), severity="critical", told_severity="critical"),
            Message.REMINDER,
        ),
        (replace(LONG_AGO, news_count=1), Message.MORE),
        (replace(LONG_AGO, state="acknowledged"), None),
        (replace(LONG_AGO, severity="info"), None),
        (replace(LONG_AGO, state="resolved"), Message.RESOLVED),
        (replace(TOLD, state="resolved"), Message.RESOLVED),
        (replace(TOLD, state="resolved", told="resolved"), None),
        (replace(NEW, state="resolved"), None),
        (replace(NEW, state="resolved", news_count=1), Message.PASSED),
    ],
)
def test_what_people_do_not_know_is_told(alert: Standing, message: Message | None) -> None:
    assert message_now(alert, now=NOW) == message
    assert message_now(replace(alert, held_back=True), now=NOW) is None
    assert message_now(replace(alert, told_at=RECENT), now=NOW) is None


def test_the_next_notice_waits_for_its_half_hour() -> None:
    assert not_before(NEW, NOW) == NOW
    assert not_before(replace(TOLD, told_at=RECENT), NOW) == RECENT + PAUSE


def test_a_notice_of_a_clock_that_was_set_back_holds_nothing_up() -> None:
    ahead = replace(TOLD, told_at=NOW + timedelta(hours=1), news_count=1)
    assert not_before(ahead, NOW) == NOW
    assert message_now(ahead, now=NOW) is Message.MORE
