"""The states of alerts and deliveries as data: which moves are legal, and how each is shown.

`alert_store.py` and `outbox.py` execute the moves and nothing else changes a state.
"""

from django.db import models

from syncportal.kernel.machine import Verb, mermaid, verb


class Severity(models.TextChoices):
    """How soon somebody must look."""

    CRITICAL = "critical", "Critical"
    WARNING = "warning", "Warning"
    INFO = "info", "Info"


RANK: dict[str, int] = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class AlertState(models.TextChoices):
    """Whether the incident is still going on, and whether somebody knows."""

    OPEN = "open", "Open"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    RESOLVED = "resolved", "Resolved"


class DeliveryState(models.TextChoices):
    """Where one message to one channel stands."""

    PENDING = "pending", "Waiting"
    SENDING = "sending", "Being sent"
    SENT = "sent", "Sent"
    FAILED = "failed", "Given up"


class Message(models.TextChoices):
    """What a delivery tells."""

    OPENED = "opened", "Opened"
    MORE = "more", "Still open, with news"
    REGRESSION = "regression", "Came back"
    REMINDER = "reminder", "Reminder"
    SEVERAL = "several", "Several alerts at once"
    RESOLVED = "resolved", "Resolved"
    PASSED = "passed", "Happened and is over"
    DIGEST = "digest", "Daily digest"
    SUMMARY = "summary", "Summary of a run or pull"
    TEST = "test", "Test"


LIVE = frozenset({AlertState.OPEN, AlertState.ACKNOWLEDGED})

COUNT = verb("count", LIVE, [], "the rule finds it again")
ACKNOWLEDGE = verb("acknowledge", [AlertState.OPEN], [AlertState.ACKNOWLEDGED], "a person takes it on")
RESOLVE = verb("resolve", LIVE, [AlertState.RESOLVED], "the rule no longer finds it")
REOPEN = verb("reopen", [AlertState.RESOLVED], [AlertState.OPEN], "it comes back within a day: a regression")
ALERT_VERBS: tuple[Verb, ...] = (COUNT, ACKNOWLEDGE, RESOLVE, REOPEN)

CLAIM = verb(
    "claim", [DeliveryState.PENDING, DeliveryState.SENDING], [DeliveryState.SENDING], "due, or its lease is over"
)
SUCCEED = verb("succeed", [DeliveryState.SENDING], [DeliveryState.SENT], "the channel took it")
RETRY_LATER = verb("retry_later", [DeliveryState.SENDING], [DeliveryState.PENDING], "the channel did not take it now")
GIVE_UP = verb("give_up", [DeliveryState.SENDING], [DeliveryState.FAILED], "refused for good, or tried for a week")
_RESENDABLE = [DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.PENDING]
RESEND = verb("resend", _RESENDABLE, [DeliveryState.PENDING], "a person asks")
DELIVERY_VERBS: tuple[Verb, ...] = (CLAIM, SUCCEED, RETRY_LATER, GIVE_UP, RESEND)


def diagrams() -> str:
    """Print both state machines as Mermaid."""
    alerts = mermaid(ALERT_VERBS, start=AlertState.OPEN)
    return alerts + "\n" + mermaid(DELIVERY_VERBS, start=DeliveryState.PENDING)
