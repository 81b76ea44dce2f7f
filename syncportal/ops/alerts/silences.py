"""The only writer of Silence: no notices about something for a while, with a reason.

Guarantees: every silence ends; who asked for it and why is an event. Does not: close alerts; they are still listed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from syncportal.kernel.tx import atomic_retry
from syncportal.ops.alerts.models import Silence
from syncportal.sync import events
from syncportal.sync.events import Actor, Fact, Kind

LONGEST = timedelta(days=30)


class SilenceInvalid(Exception):
    """The silence cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Match:
    """What is silenced; "" and None match everything."""

    kind: str = ""
    remote_id: int | None = None
    resource_id: int | None = None


def active(now: datetime) -> list[Silence]:
    """Return the silences that hold now."""
    return list(Silence.objects.filter(begun_at__lte=now, ends_at__gt=now).order_by("-ends_at"))


def silence_of(
    kind: str, *, remote_id: int | None, resource_id: int | None, among: Sequence[Silence]
) -> Silence | None:
    """Return the first silence that matches an alert."""
    for one in among:
        if one.kind not in ("", kind):
            continue
        if one.remote_id is not None and one.remote_id != remote_id:
            continue
        if one.resource_id is None or one.resource_id == resource_id:
            return one
    return None


def make(match: Match, *, reason: str, ends_at: datetime, actor: Actor, now: datetime) -> Silence:
    """Silence what matches until `ends_at`; raises SilenceInvalid without a reason or a fitting end."""
    reason = reason.strip()
    if not reason:
        raise SilenceInvalid("Say why; the next person will ask.")
    if not now < ends_at <= now + LONGEST:
        raise SilenceInvalid(f"A silence ends in the future, within {LONGEST.days} days.")

    def work() -> Silence:
        row = Silence.objects.create(
            kind=match.kind, remote_id=match.remote_id, resource_id=match.resource_id, reason=reason[:300],
            begun_at=now, ends_at=ends_at, made_by_id=actor.user_id, made_label=actor.label[:150],
        )  # fmt: skip
        data = {"silence": row.pk, "rule": match.kind, "why": row.reason, "until": ends_at.isoformat()}
        fact = Fact(Kind.ALERT_SILENCED, None, match.resource_id, match.remote_id, actor=actor, data=data)
        events.write([fact], now=now)
        return row

    return atomic_retry(work)


def end(silence_id: int, *, actor: Actor, now: datetime) -> bool:
    """End a silence before its time; False when it is over already."""

    def work() -> bool:
        if not Silence.objects.filter(pk=silence_id, ends_at__gt=now).update(ends_at=now):
            return False
        events.write([Fact(Kind.ALERT_UNSILENCED, actor=actor, data={"silence": silence_id})], now=now)
        return True

    return atomic_retry(work)
