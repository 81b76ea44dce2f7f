"""Mails to owners about their conflicts, once each; what nobody decides for too long is handed to operations.

Guarantees: an owner is told of each conflict at least once, twice only if we die between sending and noting it; the new
owner of a record is told, too; many conflicts are one mail; a refused address keeps nobody else from being told, and
hands its conflicts to operations. What a remote said reaches no header and cannot pose as a line of ours. Does not:
tell operations; an alert does, which names every conflict that was handed over.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from smtplib import SMTPRecipientsRefused

import structlog
from django.core.mail import EmailMessage
from django.db.models import Q, QuerySet
from django.utils.translation import ngettext

from syncportal.kernel.tx import assert_outside_transaction
from syncportal.ops.alerts.wording import flat, link
from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import conflict_store, operate
from syncportal.sync.events import WORKER
from syncportal.sync.models import Conflict

log = structlog.get_logger(__name__)

LISTED = 30
BATCH = 1_000
_REACHABLE = Q(record__owner__is_active=True) & ~Q(record__owner__email="")


@dataclass(slots=True)
class Told:
    """What one run came to."""

    owners: int = 0
    conflicts: int = 0
    escalated: int = 0
    refused: int = 0

    def sentence(self) -> str:
        """Return it in a few words."""
        parts = []
        if self.owners:
            conflicts = ngettext("conflict", "conflicts", self.conflicts)
            parts.append(
                f"{self.owners} {ngettext('owner', 'owners', self.owners)} told of {self.conflicts} {conflicts}"
            )
        if self.escalated:
            parts.append(f"{self.escalated} handed to operations")
        if self.refused:
            parts.append(f"{self.refused} {ngettext('address', 'addresses', self.refused)} refused")
        return ", ".join(parts) or "nothing new"


def duty(now: datetime) -> str:
    """Tell owners what is new and hand over what waited too long; raises what the mail server raises."""
    assert_outside_transaction()
    told = Told()
    _tell_owners(told, now=now)
    _escalate(told, now=now)
    return told.sentence()


def _waiting() -> QuerySet[Conflict]:
    rows = Conflict.objects.open().filter(record__deleted_at__isnull=True)
    return rows.select_related("record__owner", "resource").defer("base", "local", "remote", "record__data")


def _tell_owners(told: Told, *, now: datetime) -> None:
    rows = _waiting().filter(_REACHABLE, notified_at__isnull=True).order_by("record__owner_id", "pk")[:BATCH]
    by_owner: dict[int, list[Conflict]] = {}
    for row in rows:
        by_owner.setdefault(row.record.owner_id or 0, []).append(row)
    for found in by_owner.values():
        owner = found[0].record.owner
        if owner is None:
            continue
        subject, body = _to_owner(found)
        try:
            _send(subject, body, to=[owner.email])
        except SMTPRecipientsRefused:
            log.warning("conflict_mail.refused", user=owner.pk)
            told.refused += 1
            operate.escalate([row.pk for row in found], actor=WORKER)
        else:
            told.owners += 1
            told.conflicts += len(found)
        conflict_store.mark_notified([row.pk for row in found], now=now)


def _escalate(told: Told, *, now: datetime) -> None:
    """Hand over what waited too long, and at once what has no owner who could be told."""
    found = list(_waiting().filter(escalated_at__isnull=True).filter(_overdue(now) | ~_REACHABLE)[:BATCH])
    told.escalated = len(operate.escalate([row.pk for row in found], actor=WORKER))


def _overdue(now: datetime) -> Q:
    """Return the condition for conflicts that are older than their resource lets them be."""
    condition = Q(pk__in=[])
    waiting = Conflict.objects.open().filter(escalated_at__isnull=True).values("resource")
    for resource in Resource.objects.filter(pk__in=waiting).select_related("remote"):
        limit = timedelta(hours=spec_for(resource).policy.escalate_after_h)
        condition |= Q(resource_id=resource.pk, created_at__lte=now - limit)
    return condition


def _to_owner(found: Sequence[Conflict]) -> tuple[str, str]:
    count = len(found)
    subject = "A conflict waits for your decision" if count == 1 else f"{count} conflicts wait for your decision"
    lines = [
        "These records were changed both in SyncPortal and at the remote. Nothing is lost, and nothing is sent until",
        "you say which value is right. It takes half a minute, also on a phone.",
        "",
        *_listed(found),
        "",
        f"All that waits for you: {link('admin:my_work')}",
    ]
    return subject, "\n".join(lines)


def _listed(found: Iterable[Conflict]) -> list[str]:
    lines, rows = [], list(found)
    for row in rows[:LISTED]:
        owner = f" (owner: {flat(row.record.owner.get_username(), 60)})" if row.record.owner else " (no owner)"
        lines.append(f"- {row.resource.slug}: {flat(str(row.record), 80)}{owner}")
        lines.append(f"  {row.happened}, since {row.created_at:%Y-%m-%d %H:%M} UTC")
        lines.append(f"  {link('admin:sync_conflict_change', row.pk)}")
    return [*lines, f"... and {len(rows) - LISTED} more."] if len(rows) > LISTED else lines


def _send(subject: str, body: str, *, to: Sequence[str]) -> None:
    EmailMessage(f"[SyncPortal] {subject}", body, to=list(to)).send(fail_silently=False)
