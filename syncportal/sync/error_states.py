"""Where an error group stands, and how long people may look away. Pure."""

from datetime import timedelta
from typing import Final

from django.db import models


class GroupState(models.TextChoices):
    """Where an error group stands; OVER: no record fails for this cause any more."""

    OPEN = "open", "Open"
    SNOOZED = "snoozed", "Snoozed"
    IGNORED = "ignored", "Ignored"
    OVER = "over", "Over"


SNOOZES: Final = {
    "1h": ("1 hour", timedelta(hours=1)), "4h": ("4 hours", timedelta(hours=4)), "1d": ("1 day", timedelta(days=1)),
    "7d": ("7 days", timedelta(days=7)),
}  # fmt: skip
LONGEST_SNOOZE: Final = timedelta(days=90)
LONGEST_NOTE: Final = 4_000
LONGEST_WHY: Final = 500
