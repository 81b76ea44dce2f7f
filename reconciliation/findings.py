"""The only writer of Discrepancy: finding, settling, ignoring, asking for a repair and noting what it came to.

Guarantees: one row for each object, however often it differs; what an earlier run left open is closed only by a read
that found agreement. Each verb is a conditional UPDATE; callers provide the transaction.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, F, QuerySet, TextField, Value, When

from reconciliation import states
from reconciliation.models import Discrepancy
from reconciliation.states import State
from syncportal.kernel.bulk import update_rows
from syncportal.sync.events import Actor

Difference = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One confirmed difference with everything that a later repair insists on."""

    resource_id: int
    external_id: str
    record_id: int | None
    kind: str
    cause: str
    differences: tuple[Difference, ...]
    detail: str = ""
    revision: int | None = None
    status: str = ""
    local_version: str | None = None
    remote_version: str | None = None
    remote_digest: str = ""
    planned: str = ""

    @property
    def fingerprint(self) -> str:
        """Return a digest of the difference itself: the same one is ignored, another one is not."""
        told = [self.kind, self.remote_digest, list(self.differences)]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """What finding came to. news: new, or open again."""

    discrepancy_id: int
    state: str
    news: bool


def find(found: Sequence[Finding], *, run_id: int | None, now: datetime) -> dict[str, Found]:
    """Store confirmed differences of one resource and return what became of each, by external id."""
    if not found:
        return {}
    ids = [finding.external_id for finding in found]
    rows = Discrepancy.objects.filter(resource_id=found[0].resource_id, external_id__in=ids)
    known = {row.external_id: row for row in rows.select_for_update()}
    fresh = [finding for finding in found if finding.external_id not in known]
    made = Discrepancy.objects.bulk_create(
        [
            Discrepancy(resource_id=finding.resource_id, external_id=finding.external_id, state=State.OPEN,
                        found_at=now, **_columns(finding, run_id=run_id, now=now))
            for finding in fresh
        ]
    )  # fmt: skip
    result = {row.external_id: Found(row.pk, State.OPEN, True) for row in made}
    changes = []
    for finding in found:
        row = known.get(finding.external_id)
        if row is None:
            continue
        ignored = row.state == State.IGNORED and row.fingerprint == finding.fingerprint
        news = row.state != State.OPEN and not ignored
        state = State.IGNORED if ignored else State.OPEN
        changes.append(
            {"pk": row.pk, "state": state.value, "reopened": row.reopened + news,
             "settled_at": row.settled_at if ignored else None, **_columns(finding, run_id=run_id, now=now)}
        )  # fmt: skip
        result[finding.external_id] = Found(row.pk, state, news)
    update_rows(Discrepancy, changes)
    return result


def _columns(finding: Finding, *, run_id: int | None, now: datetime) -> dict[str, Any]:
    return {
        "run_id": run_id, "record_id": finding.record_id, "kind": finding.kind, "cause": finding.cause,
        "differences": list(finding.differences), "detail": finding.detail, "fingerprint": finding.fingerprint,
        "revision": finding.revision, "status": finding.status, "local_version": finding.local_version,
        "remote_version": finding.remote_version, "remote_digest": finding.remote_digest, "planned": finding.planned,
        "seen_at": now,
    }  # fmt: skip


def close(resource_id: int, external_ids: Iterable[str], *, now: datetime) -> int:
    """Close what a read found settled, and return how many rows that were."""
    rows = Discrepancy.objects.filter(
        resource_id=resource_id, external_id__in=list(external_ids), state__in=sorted(states.SETTLE.sources)
    )
    return rows.update(state=State.CLOSED, settled_at=now, seen_at=now, **_WISH_DROPPED)


def close_unseen(resource_id: int, external_id: str, *, run_id: int, now: datetime) -> int:
    """Close what a complete run did not see again and no single read can tell: rows of the list without an id."""
    rows = Discrepancy.objects.filter(
        resource_id=resource_id, external_id=external_id, state__in=sorted(states.SETTLE.sources)
    )
    return rows.exclude(run_id=run_id).update(state=State.CLOSED, settled_at=now, **_WISH_DROPPED)


def fix(discrepancy_ids: Iterable[int], *, outcome: str, user_id: int | None, now: datetime) -> int:
    """Note that these were repaired, in the transaction of the repair."""
    rows = _from(discrepancy_ids, states.FIX.sources)
    return rows.update(state=State.FIXED, outcome=outcome, settled_by_id=user_id, settled_at=now, **_NO_WISH)


def ignore(discrepancy_ids: Iterable[int], *, reason: str, user_id: int | None, now: datetime) -> set[int]:
    """Accept these until they change, and return those that were open."""
    ids = set(_from(discrepancy_ids, states.IGNORE.sources).values_list("pk", flat=True))
    rows = _from(ids, states.IGNORE.sources)
    rows.update(state=State.IGNORED, ignore_reason=reason, settled_by_id=user_id, settled_at=now, **_WISH_DROPPED)
    return ids


def want(discrepancy_ids: Iterable[int], *, direction: str, actor: Actor, now: datetime) -> set[int]:
    """Ask for the repair of explicit rows, worked off in the background, and return those taken."""
    possible = [kind for kind, directions in states.DIRECTIONS.items() if direction in directions]
    rows = _from(discrepancy_ids, states.FIX.sources).filter(kind__in=possible, wanted_at__isnull=True)
    ids = set(rows.values_list("pk", flat=True))
    Discrepancy.objects.filter(pk__in=ids, wanted_at__isnull=True).update(
        wanted=direction, wanted_by_id=actor.user_id, wanted_as=actor.kind, wanted_at=now, outcome="", tries=0
    )
    return ids


def tried(discrepancy_id: int, *, outcome: str) -> None:
    """Note why a repair that was asked for did not happen; one that is not wanted any more stays as it is."""
    Discrepancy.objects.filter(pk=discrepancy_id, wanted_at__isnull=False).update(outcome=outcome, **_NO_WISH)


def postpone(discrepancy_ids: Iterable[int], *, why: str, failed: bool = False, until: datetime) -> None:
    """Let wishes wait behind others and say why. failed: the remote was asked and failed, which is counted."""
    waiting = Discrepancy.objects.filter(pk__in=list(discrepancy_ids), wanted_at__isnull=False)
    waiting.update(wanted_at=until, outcome=why, tries=F("tries") + int(failed))


def prune(*, before: datetime, limit: int = 1_000) -> int:
    """Forget settled rows that were last seen before a time, a slice at a time; nothing unsettled is ever removed."""
    old = Discrepancy.objects.filter(seen_at__lt=before).exclude(state__in=sorted(states.UNSETTLED))
    return Discrepancy.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()[0]


_NO_WISH: dict[str, Any] = {"wanted": "", "wanted_at": None}
# What stands in `outcome` while a repair is wanted says why it waits.
_LAST_REPAIR = Case(When(wanted_at__isnull=True, then=F("outcome")), default=Value(""), output_field=TextField())
_WISH_DROPPED = _NO_WISH | {"outcome": _LAST_REPAIR}


def _from(discrepancy_ids: Iterable[int], sources: Collection[str]) -> QuerySet[Discrepancy]:
    return Discrepancy.objects.filter(pk__in=list(discrepancy_ids), state__in=sorted(sources))
