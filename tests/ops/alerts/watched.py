"""A small installation that is watched: two remotes with troubles that tests switch on and off.

Owns: making rows past the product's verbs, where a test needs a trouble at once. Guarantees: nothing here asserts.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from syncportal.kernel.bulk import add_rows
from syncportal.ops import heartbeat
from syncportal.ops.alerts import evaluate, rule_store
from syncportal.ops.alerts.alert_store import Settled
from syncportal.ops.alerts.models import Alert, AlertRule, Delivery
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState
from syncportal.remote import limits
from syncportal.remote.models import Gate, Resource
from syncportal.sync import events, rollups
from syncportal.sync.events import Fact, Kind
from syncportal.sync.models import Record, Rollup
from tests.api.world import put_into, stored
from tests.factories import make_remote, make_resource


@dataclass
class Watched:
    """The installation and its clock; `evaluate` lets a minute pass and looks."""

    now: datetime = field(default_factory=timezone.now)

    def __post_init__(self) -> None:
        self.billing: Resource = make_resource(make_remote("http://127.0.0.1:9/api"))
        self.shop: Resource = make_resource(make_remote("http://127.0.0.1:9/api"))
        rule_store.ensure()

    def evaluate(self, *, minutes: float = 1) -> Settled:
        """Let time pass, with a worker beating, and evaluate."""
        self.now += timedelta(minutes=minutes)
        heartbeat.beat(Beat("host", 1, WorkerState.RUNNING), now=self.now)
        return evaluate.evaluate(self.now)

    def rule(self, kind: str) -> AlertRule:
        """Return the rule of a kind."""
        return AlertRule.objects.get(kind=kind)

    def alert(self, kind: str) -> Alert:
        """Return the newest alert of a kind."""
        return Alert.objects.filter(kind=kind).latest("id")

    def attempts(self, resource: Resource, *, good: int = 0, bad: int = 0) -> None:
        """Leave attempts that ended a moment ago."""
        sums = dict.fromkeys(("total_ms", *rollups.BUCKETS), 0)
        for outcome, number in (("complete", good), ("give_up", bad)):
            for span_s in (rollups.FINE_S, rollups.HOUR_S) if number else ():
                key = (span_s, rollups.begin_of(self.now, span_s), resource.pk, outcome, "")
                row = dict(zip(rollups.KEY, key, strict=True))
                add_rows(Rollup, [row | {"attempts": number} | sums], key=rollups.KEY)

    def dead_letter(self, resource: Resource, name: str = "A", *, detail: str = "No answer.") -> Record:
        """Leave a record whose attempts are used up, and its event."""
        record = stored(resource, name)
        put_into(record, "DEAD_LETTER", status_since=self.now, detail=detail)
        events.write([Fact(Kind.SYNC_DEAD_LETTERED, record.pk, resource.pk, data={"detail": detail})], now=self.now)
        return record

    def down(self, resource: Resource, *, error: str = "3 calls in a row could not reach the remote.") -> None:
        """Open the breaker of a resource's remote."""
        self._gate(resource, breaker="open", opened_at=self.now, open_until=self.now, last_error=error)

    def up(self, resource: Resource) -> None:
        """Close it again."""
        self._gate(resource, breaker="closed", opened_at=None, open_until=None)

    def refuse(self, resource: Resource, *, detail: str = "401") -> None:
        """Pause a remote over its credential, as a worker does."""
        limits.pause(resource.remote_id, reason="unauthorized", detail=detail, now=self.now)
        data = {"remote": resource.remote.slug, "detail": detail}
        events.write([Fact(Kind.REMOTE_PAUSED, remote_id=resource.remote_id, data=data)], now=self.now)

    def _gate(self, resource: Resource, **values: Any) -> None:
        Gate.objects.update_or_create(remote_id=resource.remote_id, defaults=values)

    def messages(self) -> list[tuple[str, str]]:
        """Return what was put into the outbox so far: message and kind of alert, oldest first."""
        rows = Delivery.objects.filter(alert__isnull=False).order_by("pk")
        return list(rows.values_list("message", "alert__kind"))
