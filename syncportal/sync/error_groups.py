"""Failures with one cause, counted as one, and what people decide about them. The only writer of ErrorGroup, ErrorHour.

Guarantees: written in the transaction of the outcomes, three statements a batch and none without failures; a group's id
follows from its cause, so jobs and exchanges name it before it is written; a remote has about `MOST` groups at most,
whatever it answers. Each act is one conditional UPDATE with its
event. Does not: say which records a group affects; that stands on the jobs (`transitions.py`), where a success ends it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Exists, OuterRef

from syncportal.kernel.bulk import add_rows
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.sync import events
from syncportal.sync.causes import Cause
from syncportal.sync.error_models import ErrorGroup, ErrorHour
from syncportal.sync.error_states import LONGEST_NOTE, LONGEST_SNOOZE, LONGEST_WHY
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import SyncJob
from syncportal.sync.rollups import HOUR_S, begin_of

KEPT: Final = timedelta(days=90)
MOST: Final = 500
"""So many groups of one remote are told apart; further messages share one group for each class and code."""
ACTS: Final = (Kind.ERROR_GROUP_NOTED, Kind.ERROR_GROUP_SNOOZED, Kind.ERROR_GROUP_IGNORED, Kind.ERROR_GROUP_REOPENED)


def bounded(causes: Mapping[int, Cause]) -> dict[int, Cause]:
    """Return causes as they are to be written, by the same keys: new ones of a remote with enough lose their message.

    Batches that are written at the same moment do not see each other's, so there may be a few more than `MOST`.
    """
    if not causes:
        return {}
    found = ErrorGroup.objects.filter(pk__in={cause.id for cause in causes.values()})
    known = set(found.values_list("pk", flat=True))
    fresh = sorted({cause for cause in causes.values() if cause.id not in known}, key=lambda cause: cause.id)
    if not fresh:
        return dict(causes)
    kept = ErrorGroup.objects.filter(remote__in={cause.remote_id for cause in fresh}).order_by().values_list("remote")
    number = Counter(dict(kept.annotate(number=Count("pk"))))
    crowded = set()
    for cause in fresh:
        number[cause.remote_id] += 1
        if number[cause.remote_id] > MOST:
            crowded.add(cause)
    return {key: cause.without_message if cause in crowded else cause for key, cause in causes.items()}


def add(causes: Iterable[Cause], *, now: datetime) -> None:
    """Count failures by cause; call it last in a transaction, for others count in the same rows."""
    counted = Counter(causes)
    if not counted:
        return
    ordered = sorted(counted, key=lambda cause: cause.id)
    add_rows(
        ErrorGroup,
        [
            {
                "id": cause.id, "remote_id": cause.remote_id, "kind": cause.kind, "code": cause.code,
                "message": cause.message, "occurrences": counted[cause], "first_seen_at": now, "last_seen_at": now,
                "note": "", "ignored_at_most": 0, "ignored_why": "",
            }
            for cause in ordered
        ],
        key=("id",),
        newest=("last_seen_at",),
        kept=("remote_id", "kind", "code", "message", "first_seen_at", "note", "ignored_at_most", "ignored_why"),
    )  # fmt: skip
    hour = begin_of(now, HOUR_S)
    hours = [{"group_id": cause.id, "begins_at": hour, "attempts": counted[cause]} for cause in ordered]
    add_rows(ErrorHour, hours, key=("group_id", "begins_at"))


class NotPossible(Exception):
    """The act does not fit; nothing was changed. The message says why."""


def write_note(group_id: int, *, note: str, actor: Actor) -> None:
    """Keep a note with a group, for everybody who sees it; raises NotPossible."""
    if len(note) > LONGEST_NOTE:
        raise NotPossible(f"A note has at most {LONGEST_NOTE:,} characters.")
    _change(group_id, Kind.ERROR_GROUP_NOTED, {"note": note}, actor=actor, told={"note": note})


def snooze(group_id: int, *, until: datetime, actor: Actor) -> None:
    """Look away from a group until a time; raises NotPossible."""
    now = db_now()
    if not now < until <= now + LONGEST_SNOOZE:
        raise NotPossible(f"Choose a time in the next {LONGEST_SNOOZE.days} days.")
    changes = {"snoozed_until": until, "ignored_at": None, "ignored_at_most": 0, "ignored_why": ""}
    _change(group_id, Kind.ERROR_GROUP_SNOOZED, changes, actor=actor, told={"until": until.isoformat()})


def ignore(group_id: int, *, why: str, actor: Actor) -> None:
    """Look away from a group until it affects more records than now, or comes back after it was over."""
    if not why.strip():
        raise NotPossible("Say why it may be ignored.")
    why = why.strip()[:LONGEST_WHY]

    def work() -> None:
        now = db_now()
        most = SyncJob.objects.filter(error_group=group_id).count()
        changes = {"ignored_at": now, "ignored_at_most": most, "ignored_why": why, "snoozed_until": None}
        _change(group_id, Kind.ERROR_GROUP_IGNORED, changes, actor=actor, told={"why": why, "affected": most})

    atomic_retry(work)


def watch_again(group_id: int, *, actor: Actor) -> None:
    """End snoozing or ignoring a group."""
    nothing = {"snoozed_until": None, "ignored_at": None, "ignored_at_most": 0, "ignored_why": ""}
    _change(group_id, Kind.ERROR_GROUP_REOPENED, nothing, actor=actor, told={})


def _change(group_id: int, kind: Kind, changes: dict[str, Any], *, actor: Actor, told: dict[str, Any]) -> None:
    def work() -> None:
        now = db_now()
        rows = ErrorGroup.objects.filter(pk=group_id)
        if not rows.update(**changes, changed_by_id=actor.user_id, changed_at=now):
            raise NotPossible("The group is gone: nothing has failed for this cause for a long time.")
        remote_id = rows.values_list("remote_id", flat=True).get()
        events.write([Fact(kind, remote_id=remote_id, actor=actor, data={"group": str(group_id), **told})], now=now)

    atomic_retry(work)


def prune(now: datetime, *, limit: int = 500) -> int:
    """Forget old hours and groups long over; stop ignoring what is over; return how many groups went."""
    with transaction.atomic():
        ErrorHour.objects.filter(begins_at__lt=now - KEPT).delete()
        over = ErrorGroup.objects.filter(~Exists(SyncJob.objects.filter(error_group=OuterRef("pk"))))
        over.filter(ignored_at__isnull=False).update(ignored_at=None, ignored_at_most=0, ignored_why="")
        old = over.filter(last_seen_at__lt=now - KEPT).order_by("pk").select_for_update()
        gone = list(old.values_list("pk", flat=True)[:limit])
        events.forget_groups(gone)
        ErrorGroup.objects.filter(pk__in=gone).delete()
    return len(gone)
