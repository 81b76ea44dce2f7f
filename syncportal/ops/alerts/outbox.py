"""The only writer of Delivery: durable messages, each sent at least once while its channel comes back within a week.

Guarantees: a delivery is born in the transaction of what it tells; one worker at a time has it (a lease and a claim
number); a worker that dies gives it back when the lease is over; it is tried again with growing delays until it is
taken, refused for good, or a week old, and then stays listed. Does not: send.
"""

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import F, Q

from syncportal.kernel.backoff import exponential_delay_s
from syncportal.ops.alerts.models import Delivery
from syncportal.ops.alerts.states import CLAIM, GIVE_UP, RESEND, RETRY_LATER, SUCCEED, DeliveryState
from syncportal.ops.alerts.wording import Words

LEASE: Final = timedelta(seconds=90)
FIRST_DELAY_S: Final = 30.0
LONGEST_DELAY_S: Final = 3600.0
JITTER: Final = 0.25
TRIED_FOR: Final = timedelta(days=7)
KEPT_FOR: Final = timedelta(days=90)
_LOOKED_AT: Final = 50
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A message to a channel or to a person; about one alert, or about those in `gathered_ids`."""

    message: str
    words: Words
    channel_id: int | None = None
    person_id: int | None = None
    alert_id: int | None = None
    gathered_ids: tuple[int, ...] = ()


def put(new: Iterable[NewDelivery], *, now: datetime) -> list[Delivery]:
    """Write deliveries, due at once, in the caller's transaction."""
    wanted = list(new)
    rows = [
        Delivery(
            channel_id=one.channel_id, person_id=one.person_id, alert_id=one.alert_id, message=one.message,
            subject=one.words.subject[:250], body=one.words.body, payload=one.words.payload, due_at=now, created_at=now,
        )
        for one in wanted
    ]  # fmt: skip
    made = Delivery.objects.bulk_create(rows)
    pairs = [(row.pk, alert_id) for row, one in zip(made, wanted, strict=True) for alert_id in one.gathered_ids]
    links = Delivery.gathered.through
    links.objects.bulk_create([links(delivery_id=row_id, alert_id=alert_id) for row_id, alert_id in pairs])
    return made


def about(alert_id: int) -> Q:
    """Select the messages that told of an alert, alone or together with others."""
    together = Delivery.gathered.through.objects.filter(alert_id=alert_id).values("delivery_id")
    return Q(alert_id=alert_id) | Q(pk__in=together)


def claim_due(*, now: datetime, limit: int, skip: Collection[int | None] = ()) -> list[Delivery]:
    """Take up to `limit` due deliveries, each of another channel, none of the channels in `skip` (None: to people).

    Those that were tried less come first, so that a channel that is down does not stand in the others' way.
    """
    rows = Delivery.objects.filter(_time_has_come(now)).order_by("attempts", "pk")
    for channel_id in skip:
        rows = rows.exclude(channel_id=channel_id) if channel_id is not None else rows.filter(person__isnull=True)
    taken: list[Delivery] = []
    for pk, channel_id in rows.values_list("pk", "channel_id")[:_LOOKED_AT]:
        if len(taken) == limit:
            break
        if channel_id in [one.channel_id for one in taken]:
            continue
        mine = claim(pk, now=now)
        taken += [mine] if mine is not None else []
    return taken


def _time_has_come(now: datetime) -> Q:
    """Select what is due. Times that no wait reaches, and births to come, stem from before the clock was set back."""
    longest = now + timedelta(seconds=LONGEST_DELAY_S * (1 + JITTER))
    due = Q(due_at__lte=now) | Q(due_at__gt=longest) | Q(created_at__gt=now + LEASE)
    return Q(state=DeliveryState.PENDING) & due | Q(state=DeliveryState.SENDING) & _lease_is_over(now)


def _lease_is_over(now: datetime) -> Q:
    return Q(lease_until__lt=now) | Q(lease_until__gt=now + 2 * LEASE)


def claim(delivery_id: int, *, now: datetime) -> Delivery | None:
    """Take one delivery for this worker; None when somebody else has it or it needs nothing."""
    due = Q(state=DeliveryState.PENDING) | Q(state=DeliveryState.SENDING) & _lease_is_over(now)
    moved = Delivery.objects.filter(due, pk=delivery_id, state__in=CLAIM.sources).update(
        state=DeliveryState.SENDING, lease_until=now + LEASE, due_at=None, claim_no=F("claim_no") + 1,
        attempts=F("attempts") + 1,
    )  # fmt: skip
    return Delivery.objects.select_related("channel", "person").get(pk=delivery_id) if moved else None


def succeed(delivery: Delivery, *, now: datetime) -> bool:
    """Write down that the channel took it; False when the claim was lost meanwhile."""
    return bool(
        _mine(delivery, SUCCEED.sources).update(
            state=DeliveryState.SENT, lease_until=None, due_at=None, ended_at=now, last_error=""
        )
    )


def fail(delivery: Delivery, problem: str, *, permanent: bool, retry_after_s: float | None, now: datetime) -> bool:
    """Write down that the channel did not take it: tried again later, or given up; False when the claim was lost."""
    over = now - (delivery.resent_at or delivery.created_at) > TRIED_FOR
    if permanent or over:
        why = problem if permanent else f"Given up after {TRIED_FOR.days} days. {problem}"
        values: dict[str, Any] = {
            "state": DeliveryState.FAILED,
            "ended_at": now,
            "last_error": why[:300],
        }
        sources = GIVE_UP.sources
    else:
        delay = exponential_delay_s(
            delivery.attempts, base_s=FIRST_DELAY_S, cap_s=LONGEST_DELAY_S, jitter=JITTER, chance=random.random()
        )
        wait = timedelta(seconds=max(delay, min(retry_after_s or 0.0, LONGEST_DELAY_S)))
        values = {"state": DeliveryState.PENDING, "due_at": now + wait, "last_error": problem[:300]}
        sources = RETRY_LATER.sources
    return bool(_mine(delivery, sources).update(lease_until=None, **values))


def _mine(delivery: Delivery, sources: Collection[str]) -> Any:
    return Delivery.objects.filter(pk=delivery.pk, claim_no=delivery.claim_no, state__in=sources)


def resend(delivery_id: int, *, by: str, now: datetime) -> bool:
    """Make a delivery due now, with a week of its own, because `by` asks; False while it is being sent."""
    return bool(
        Delivery.objects.filter(pk=delivery_id, state__in=RESEND.sources).update(
            state=DeliveryState.PENDING, due_at=now, resent_at=now, resent_by=by[:150], attempts=0, ended_at=None
        )
    )


def hurry(channel_id: int, *, now: datetime) -> int:
    """Make what waits for a channel due now, because the channel was changed."""
    waiting = Delivery.objects.filter(channel_id=channel_id, state=DeliveryState.PENDING, due_at__gt=now)
    return waiting.update(due_at=now)


def prune(now: datetime) -> int:
    """Remove a batch of deliveries that ended long ago; return how many."""
    old = Delivery.objects.filter(ended_at__lt=now - KEPT_FOR, state__in=(DeliveryState.SENT, DeliveryState.FAILED))
    gone = list(old.values_list("pk", flat=True)[:_BATCH])
    Delivery.objects.filter(pk__in=gone).delete()
    return len(gone)
