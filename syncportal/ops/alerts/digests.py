"""The owner's daily digest: what waits for this person, by mail, at most once a day, never an empty one.

Owns: the only writes of DigestChoice. Guarantees: the mark "made for this day" and the delivery are one transaction; a
person turns it off and on again for themselves. Does not: mail people who cannot sign in or have no address.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db.models import Count, F, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from syncportal.kernel.tx import atomic_retry
from syncportal.ops.alerts import outbox
from syncportal.ops.alerts.models import DigestChoice
from syncportal.ops.alerts.outbox import NewDelivery
from syncportal.ops.alerts.states import Message
from syncportal.ops.alerts.wording import Words, flat, link
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.states import Status

FROM_HOUR = 7
LISTED = 20
PEOPLE = 500


@dataclass(frozen=True, slots=True)
class _Waiting:
    """How many rows wait for somebody, and the first of them."""

    number: int = 0
    first: tuple[Any, ...] = ()


_NOTHING = _Waiting()
_STOPPED = (Status.ERROR, Status.VALIDATION_FAILED, Status.DEAD_LETTER)


def duty(now: datetime) -> str:
    """Write today's digests from seven o'clock on, in the portal's time zone."""
    local = timezone.localtime(now, timezone.get_default_timezone())
    if local.hour < FROM_HOUR:
        return f"not before {FROM_HOUR}:00"
    return f"{write(local.date(), now=now)} written"


def write(day: date, *, now: datetime) -> int:
    """Write the digests of a day that are not written yet; return how many."""
    return atomic_retry(lambda: _write(day, now=now))


def _write(day: date, *, now: datetime) -> int:
    conflicts = Conflict.objects.open().filter(record__owner__isnull=False, record__deleted_at__isnull=True)
    stopped = SyncJob.objects.filter(status__in=_STOPPED, record__owner__isnull=False, record__deleted_at__isnull=True)
    owners = set(conflicts.values_list("record__owner_id", flat=True).distinct())
    owners |= set(stopped.values_list("record__owner_id", flat=True).distinct())
    choices = DigestChoice.objects.select_for_update().filter(pk__in=owners).in_bulk()
    people = [
        person
        for person in get_user_model().objects.filter(pk__in=owners, is_active=True).exclude(email="").order_by("pk")
        if _is_due(choices.get(person.pk), day)
    ][:PEOPLE]
    if not people:
        return 0
    ids = [person.pk for person in people]
    decide = _by_owner(conflicts.filter(record__owner__in=ids).select_related("record__resource"), order="pk")
    mend = _by_owner(stopped.filter(record__owner__in=ids).select_related("record__resource"), order="status_since")
    new = [
        NewDelivery(Message.DIGEST.value, _words(decide.get(pk, _NOTHING), mend.get(pk, _NOTHING)), person_id=pk)
        for pk in ids
    ]
    outbox.put(new, now=now)
    made = [DigestChoice(user_id=pk, last_day=day) for pk in ids]
    DigestChoice.objects.bulk_create(made, update_conflicts=True, unique_fields=["user"], update_fields=["last_day"])
    return len(people)


def _is_due(choice: DigestChoice | None, day: date) -> bool:
    return choice is None or (choice.wanted and (choice.last_day is None or choice.last_day < day))


def _by_owner(rows: QuerySet[Any], *, order: str) -> dict[int, _Waiting]:
    """Return how many rows each owner has, and the first of them."""
    counts = dict(rows.order_by().values_list("record__owner_id").annotate(number=Count("pk")))
    place = Window(RowNumber(), partition_by=F("record__owner_id"), order_by=F(order).asc())
    first: dict[int, list[Any]] = {}
    for row in rows.annotate(place=place).filter(place__lte=LISTED).order_by(order):
        first.setdefault(row.record.owner_id, []).append(row)
    return {owner_id: _Waiting(counts[owner_id], tuple(listed)) for owner_id, listed in first.items()}


def _words(conflicts: _Waiting, stopped: _Waiting) -> Words:
    parts = []
    lines = ["These records of yours wait for you."]
    if conflicts.number:
        parts.append("1 conflict" if conflicts.number == 1 else f"{conflicts.number:,} conflicts")
        lines += ["", "Conflicts: both sides changed, and you decide which value is right."]
        lines += _listed(conflicts, page="admin:sync_conflict_change")
    if stopped.number:
        parts.append("1 failed edit" if stopped.number == 1 else f"{stopped.number:,} failed edits")
        lines += ["", "Failed edits: correct the record, or try again."]
        lines += _listed(stopped, page="admin:sync_record_change")
    lines += ["", f"All that waits for you: {link('admin:my_work')}"]
    off = link("admin:ops_digest")
    lines += ["", f"One mail a day at most. Turn it off: {off}" if off else "One mail a day at most."]
    return Words(f"For you: {', '.join(parts)}", "\n".join(lines), {})


def _listed(waiting: _Waiting, *, page: str) -> list[str]:
    lines = [
        f"- {row.record.resource.slug}: {flat(str(row.record), 80)}\n  {link(page, row.pk)}" for row in waiting.first
    ]
    more = waiting.number - len(waiting.first)
    return [*lines, f"... and {more:,} more."] if more > 0 else lines


def choice_of(user: User) -> bool:
    """Tell whether a person wants the digest; everybody does until they say otherwise."""
    return DigestChoice.objects.filter(pk=user.pk, wanted=False).first() is None


def choose(user: User, *, wanted: bool) -> None:
    """Turn a person's digest on or off."""
    DigestChoice.objects.update_or_create(user=user, defaults={"wanted": wanted})
