"""The end of the event table, as one reader sees it: what is new at each look, each event once.

Ids commit out of order on PostgreSQL (see `feed.py`). So `safe` is the id up to which everything was handed out, and
each look reads again what lies behind it and drops what was seen. Guarantees: nothing is skipped, nothing comes twice,
and an event does not wait for an older transaction that is still open. Does not: decide who may see what.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Case, F, When

from syncportal.sync import feed
from syncportal.sync.events import Kind
from syncportal.sync.models import Event

BATCH: Final = 1_000
REMEMBERED: Final = timedelta(hours=1)  # whose save it was is told for this long
_SAVES: Final = (Kind.RECORD_CREATED, Kind.RECORD_EDITED, Kind.RECORD_DELETED, Kind.CONFLICT_RESOLVED)
_ARRIVED: Final = (Kind.SYNC_SUCCEEDED, Kind.SYNC_SKIPPED)
OUTCOMES: Final = frozenset(
    {
        *_ARRIVED, Kind.SYNC_FAILED, Kind.SYNC_POSTPONED, Kind.SYNC_VALIDATION_FAILED, Kind.SYNC_CONFLICT,
        Kind.SYNC_DEAD_LETTERED,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Happening:
    """One event with what decides who hears of it. savers: the people whose saves this is the outcome of."""

    event: Event
    owner_id: int | None
    title: str
    savers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one look brought, by id. safe: everything up to here was handed out. more: look again at once."""

    happenings: tuple[Happening, ...]
    safe: int
    more: bool = False


@dataclass(slots=True)
class Tail:
    """A position in the event table that only moves forward."""

    safe: int
    _seen: set[int] = field(default_factory=set)
    _noted: int | None = None
    _waiting: set[str] = field(default_factory=set)

    def look(self, now: datetime) -> Batch:
        """Return what is new since the last look, at most `BATCH` events; one small query when nothing is."""
        newest = feed.newest()
        if newest <= self.safe:
            return Batch((), self.safe)
        complete = self._complete(newest, now)
        ids = Event.objects.filter(pk__gt=self.safe).order_by("pk").values_list("pk", flat=True)
        fresh = [pk for pk in ids if pk not in self._seen]
        more = len(fresh) > BATCH
        fresh = fresh[:BATCH]
        self._seen.update(fresh)
        self.safe = max(self.safe, min(complete, fresh[-1]) if more else complete)
        self._seen = {pk for pk in self._seen if pk > self.safe}
        return Batch(told(fresh, now=now), self.safe, more)

    def _complete(self, newest: int, now: datetime) -> int:
        """Return up to where everything is visible, without waiting: a noted id is, once its writers are gone."""
        if self._noted is None:
            self._noted, self._waiting = newest, feed.writers()
        elif self._waiting:
            self._waiting &= feed.writers()
        if self._waiting:
            return feed.newest(before=now - feed.SURELY_OVER)
        complete, self._noted = self._noted, None
        return complete


def told(event_ids: Collection[int], *, now: datetime) -> tuple[Happening, ...]:
    """Return events by id with their records' owners and titles, and whose saves they settle."""
    if not event_ids:
        return ()
    rows = Event.objects.filter(pk__in=event_ids).select_related("resource", "remote").order_by("pk")
    events = list(
        rows.annotate(owner=F("record__owner_id"), named=F("record__title"), external=F("record__external_id"))
    )
    savers = savers_of(events, now=now)
    return tuple(
        Happening(event, event.owner, event.named or event.external or "", savers.get(event.pk, frozenset()))
        for event in events
    )


def savers_of(events: Iterable[Event], *, now: datetime) -> dict[int, frozenset[int]]:
    """Return the people who wait for each outcome: who saved what it sent, and was not told before that it arrived."""
    outcomes = [event for event in events if event.kind in OUTCOMES and event.record_id is not None]
    if not outcomes:
        return {}
    history = Event.objects.filter(
        record_id__in={event.record_id for event in outcomes}, kind__in=[*_SAVES, *_ARRIVED], at__gt=now - REMEMBERED
    )
    by_record: dict[int | None, list[_Past]] = {}
    for pk, record_id, kind, person, revision in history.order_by("pk").values_list(
        "pk", "record_id", "kind", Case(When(actor_kind="user", then=F("actor_id"))), "data__revision"
    ):
        by_record.setdefault(record_id, []).append(_Past(pk, kind, person, revision or 0))
    return {event.pk: _savers(event, by_record.get(event.record_id, [])) for event in outcomes}


@dataclass(frozen=True, slots=True)
class _Past:
    id: int
    kind: str
    person: int | None
    revision: int


def _savers(outcome: Event, history: Iterable[_Past]) -> frozenset[int]:
    waiting: dict[int, int] = {}
    for past in history:
        if past.id >= outcome.pk:
            break
        if past.kind in _ARRIVED:
            waiting = {person: wanted for person, wanted in waiting.items() if wanted > past.revision}
        elif past.person is not None:
            waiting[past.person] = past.revision
    sent = outcome.data.get("revision")
    return frozenset(person for person, wanted in waiting.items() if sent is None or wanted <= sent)
