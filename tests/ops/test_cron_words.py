"""Cron lines in words: exactly what the line says, or nothing."""

import pytest

from syncportal.ops.screens.cron_words import in_words


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("7 * * * *", "every hour at minute 7"),
        ("15 */6 * * *", "every 6 hours from 00:15"),
        ("30 3 * * *", "daily at 03:30"),
        ("0 2,14 * * *", "daily at 02:00 and 14:00"),
        ("0 2 * * 0", "Sundays at 02:00"),
        ("0 2 * * 7", "Sundays at 02:00"),
        ("0 2 * * SUN", "Sundays at 02:00"),
        ("5 9 * * mon,4", "Mondays and Thursdays at 09:05"),
        ("0 22 * * 1-5", "Mondays to Fridays at 22:00"),
        ("0 1 1 * *", "on day 1 of each month at 01:00"),
    ],
)
def test_simple_lines_are_told_in_words(cron: str, words: str) -> None:
    assert in_words(cron) == words


@pytest.mark.parametrize(
    "cron",
    ["*/7 * * * *", "0 */5 * * *", "0 2 1 * 0", "0 2 * 6 *", "0 2 L * *", "0 2 * * 5#2", "0 2 * * 5-1", "*/10 2 * * *",
     "1-5 * * * *", "0 1,2,3,4,5 * * *", "*/5 * * * 0", "0 2-4 * * *", "٠ 2 * * *"],
)  # fmt: skip
def test_what_takes_more_is_left_to_the_line_itself(cron: str) -> None:
    assert in_words(cron) == ""
