"""Evaluating the rules: read once, judge purely, settle in one transaction, then empty the outbox.

Guarantees: a constant number of queries, however many rules, records and remotes; it ends within 20 s; notices are
written with their alert, so that a kill between finding and telling loses nothing. Does not: need a worker: the command
`check_alerts` does the same from a timer outside, which is what notices that no worker runs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from syncportal.ops.alerts import alert_store, channels, news, rule_store, sending
from syncportal.ops.alerts.alert_store import Settled
from syncportal.ops.alerts.judging import judge
from syncportal.ops.alerts.kinds import HOURLY, KINDS
from syncportal.ops.alerts.models import AlertRule
from syncportal.ops.alerts.observing import observe

EACH_MINUTE: Final = frozenset(KINDS) - HOURLY
SENDING_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation did."""

    settled: Settled
    sent: int = 0
    failed: int = 0

    def __str__(self) -> str:
        done = self.settled
        return (
            f"{done.opened} opened, {done.reopened} came back, {done.resolved} resolved; "
            f"{done.notices} notices; {self.sent} sent, {self.failed} failed"
        )


def evaluate(now: datetime, *, kinds: Collection[str] = EACH_MINUTE) -> Settled:
    """Bring the alerts of these kinds in line with how things stand at `now`, the database's time."""
    rule_store.ensure()
    channels.ensure()
    rules = [rule for rule in rule_store.as_rules(AlertRule.objects.order_by("pk")) if rule.kind in kinds]
    happened = news.read(now=now)
    seen = observe(rules, now=now)
    return alert_store.settle(judge(rules, seen), seen, happened, kinds=kinds)


def duty(now: datetime) -> str:
    """Evaluate and send: the timetable's line of each minute."""
    settled = evaluate(now)
    sent = sending.send_due(seconds=SENDING_S)
    return str(Evaluated(settled, sent.sent, sent.failed))


def hourly(now: datetime) -> str:
    """Compare the last hour with the usual: the timetable's line of each hour; the next minute sends what it finds."""
    return str(Evaluated(evaluate(now, kinds=HOURLY)))
