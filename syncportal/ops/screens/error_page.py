"""One error group: what happens, how it develops, a sample exchange, the records it affects, and what can be done.

Guarantees: everything is limited to records that the person sees; retrying freezes those records and goes in steps;
acts that change the group for everybody are operations'. Does not: act on records itself; the bulk operation does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.views.decorators.http import require_GET, require_POST

from syncportal.kernel.clock import db_now
from syncportal.ops import charts
from syncportal.ops.screens.error_looks import state_badge
from syncportal.sync import bulk_acts, error_groups, error_reading, rights
from syncportal.sync.error_reading import failing
from syncportal.sync.error_states import LONGEST_NOTE, LONGEST_WHY, SNOOZES, GroupState
from syncportal.sync.models import Event, Record
from syncportal.sync.querysets import sees_everything
from syncportal.sync.rollups import DAY_S, HOUR_S
from syncportal.sync.screens import bulk
from syncportal.sync.screens.history_lists import outcome_badge, pretty
from syncportal.sync.screens.page import actor_of, list_query, render, with_back
from syncportal.sync.screens.timeline import describe
from syncportal.sync.screens.values import status_badge
from syncportal.sync.states import REQUEUE, Status

SHOWN = 12
HISTORY = 20
TRENDS = {"24h": ("24 hours", timedelta(hours=24), HOUR_S), "30d": ("30 days", timedelta(days=30), DAY_S)}


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the affected records, with the address of exactly those."""

    label: str
    count: int
    url: str


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did to the group."""

    at: datetime
    title: str
    icon: str
    who: str
    words: str


@require_GET
def group_view(request: HttpRequest, group_id: int) -> HttpResponse:
    """Show a group."""
    return _page(request, _visible(request, group_id))


@require_POST
def retry_view(request: HttpRequest, group_id: int) -> HttpResponse:
    """Freeze the affected records and show what retrying them in steps would do."""
    group = _visible(request, group_id)
    rows = Record.objects.visible_to(request.user).filter(job__error_group=group.pk)
    if group.affected > bulk.MOST:
        first = list(rows.order_by("pk").values_list("pk", flat=True)[: bulk.MOST])
        rows = Record.objects.filter(pk__in=first)
        messages.info(
            request, f"These are the first {bulk.MOST:,} of {group.affected:,} records; retry again for the rest."
        )
    back = f"error_group={group.pk}"
    return bulk.prepare(
        request, bulk_acts.REQUEUE, rows, back=back, ramp=True, parameters={"error_group": str(group.pk)}
    )


@require_POST
def do_view(request: HttpRequest, group_id: int, verb: str) -> HttpResponse:
    """Note, snooze, ignore or watch again, and go back to the group."""
    group = _visible(request, group_id)
    act = _VERBS.get(verb)
    if act is None:
        raise Http404("There is no such act.")
    if not rights.operates(request.user):
        raise PermissionDenied
    try:
        messages.success(request, act(request, group.pk))
    except error_groups.NotPossible as refused:
        messages.error(request, f"Nothing was changed. {refused}")
        return _page(request, _visible(request, group_id), status=422)
    address = reverse("admin:sync_errorgroup_change", args=[group.pk])
    return HttpResponseRedirect(with_back(address, list_query(request)))


def _text(request: HttpRequest, name: str) -> str:
    return request.POST.get(name, "").replace("\x00", "").replace("\r\n", "\n").strip()


def _note(request: HttpRequest, group_id: int) -> str:
    error_groups.write_note(group_id, note=_text(request, "note"), actor=actor_of(request.user))
    return "The note is kept with the group."


def _snooze(request: HttpRequest, group_id: int) -> str:
    until = _until(request)
    error_groups.snooze(group_id, until=until, actor=actor_of(request.user))
    return f"Snoozed until {date_format(timezone.localtime(until), 'j M Y, H:i')}. It is counted all the same."


def _until(request: HttpRequest) -> datetime:
    given = _text(request, "until")
    if not given:
        chosen = SNOOZES.get(request.POST.get("for", ""))
        if chosen is None:
            raise error_groups.NotPossible("Choose for how long, or a time.")
        return db_now() + chosen[1]
    try:
        moment = parse_datetime(given)
    except ValueError:
        moment = None
    if moment is None:
        raise error_groups.NotPossible("That is no time; write it like 2026-03-02 08:00.")
    return moment if moment.tzinfo is not None else timezone.make_aware(moment)


def _ignore(request: HttpRequest, group_id: int) -> str:
    error_groups.ignore(group_id, why=_text(request, "why"), actor=actor_of(request.user))
    return "Ignored until it affects more records than now, or comes back after it was over."


def _watch(request: HttpRequest, group_id: int) -> str:
    error_groups.watch_again(group_id, actor=actor_of(request.user))
    return "It counts as open again."


_VERBS: dict[str, Callable[[HttpRequest, int], str]] = {
    "note": _note, "snooze": _snooze, "ignore": _ignore, "watch": _watch,
}  # fmt: skip


def _visible(request: HttpRequest, group_id: int) -> Any:
    if not rights.may_look(request.user):
        raise PermissionDenied
    rows = error_reading.groups_of(request.user, now=db_now()).select_related("remote", "changed_by")
    group = rows.defer("remote__secret", "remote__config").filter(pk=group_id).first()
    if group is None:
        raise Http404("There is no such error group, or none of your records is affected by it.")
    return group


def _page(request: HttpRequest, group: Any, *, status: int = 200) -> HttpResponse:
    user, now = request.user, db_now()
    if not sees_everything(user):
        first, last, number = error_reading.own_span(user, [group.pk]).get(group.pk, (None, None, 0))
        group.first_seen_at, group.last_seen_at, group.occurrences = first, last, number
    jobs = failing(user).filter(error_group=group.pk)
    sample = error_reading.sample(user, group.pk)
    context = {
        "group": group,
        "badge": state_badge(group.state),
        "records_url": f"{reverse('admin:sync_record_changelist')}?error_group={group.pk}",
        "log_url": f"{reverse('admin:sync_synclog_changelist')}?error_group={group.pk}",
        "by_status": _by_status(jobs, group.pk),
        "by_resource": _by_resource(jobs, group.pk),
        "rows": [
            (job, status_badge(job.status))
            for job in jobs.select_related("record__resource")
            .defer("record__data", "record__base", "sends")
            .order_by("-status_since", "-pk")[:SHOWN]
        ],
        "retryable": jobs.filter(status__in=sorted(REQUEUE.sources)).count(),
        "may_retry": bulk_acts.may_act(user),
        "operator": rights.operates(user),
        "away": group.state in {GroupState.SNOOZED, GroupState.IGNORED},
        "sample": sample,
        "sample_outcome": outcome_badge(sample.outcome) if sample else "",
        "sample_request": pretty(sample.request_body) if sample and user.has_perm("sync.view_synclog") else "",
        "sample_answer": pretty(sample.response_body) if sample and user.has_perm("sync.view_synclog") else "",
        "snoozes": [(key, label) for key, (label, _) in SNOOZES.items()],
        "given": {name: request.POST.get(name, "") for name in ("note", "until", "why")},
        "longest_note": LONGEST_NOTE,
        "longest_why": LONGEST_WHY,
        "acts": _acts(group.pk) if sees_everything(user) else [],
        "now": now,
        "back": list_query(request),
        **_trend(request, group.pk, now),
    }
    return render(request, "ops/error_page.html", title=str(group), context=context, status=status)


def _by_status(jobs: Any, group_id: int) -> list[Part]:
    counted = dict(jobs.order_by().values_list("status").annotate(number=Count("pk")))
    page = reverse("admin:sync_record_changelist")
    return [
        Part(str(one.label), counted[one], f"{page}?error_group={group_id}&status={one.value}")
        for one in Status
        if counted.get(one)
    ]


def _by_resource(jobs: Any, group_id: int) -> list[Part]:
    rows = jobs.order_by("resource__slug").values_list("resource__slug", "resource__name").annotate(number=Count("pk"))
    page = reverse("admin:sync_record_changelist")
    return [Part(name or slug, number, f"{page}?error_group={group_id}&resource={slug}") for slug, name, number in rows]


def _trend(request: HttpRequest, group_id: int, now: datetime) -> dict[str, Any]:
    key = request.GET.get("trend", "")
    key = key if key in TRENDS else "24h"
    label, length, slot_s = TRENDS[key]
    hours = error_reading.hours_of(request.user, [group_id], since=now - length).get(group_id, {})
    slots = error_reading.slots(hours, since=now - length, now=now, slot_s=slot_s)
    counts = [count for _, count in slots]
    ticks = charts.scale(max(1, *counts))
    pattern = "H:i" if slot_s == HOUR_S else "D j M"
    moments = [date_format(timezone.localtime(at), pattern) for at, _ in slots]
    width = 100 / len(slots)
    return {
        "trend_key": key,
        "trend_label": label,
        "trends": [(one, words) for one, (words, _, _) in TRENDS.items()],
        "ticks": ticks,
        "bars": charts.bars([0] * len(counts), counts, top=ticks[0].value),
        "columns": [(round(i * width, 3), round(width, 3), moments[i], counts[i]) for i in range(len(slots))],
        "labels": moments[:: max(1, len(moments) // 6)],
        "trend_total": sum(counts),
    }


def _acts(group_id: int) -> list[Act]:
    rows = Event.objects.filter(kind__in=error_groups.ACTS, data__group=str(group_id)).select_related("actor")
    shown = []
    for row in rows.order_by("-id")[:HISTORY]:
        told = describe(row)
        words = str(row.data.get("why") or row.data.get("note") or row.data.get("until") or "")
        who = row.actor.get_username() if row.actor else row.actor_label
        shown.append(Act(row.at, told.title, told.icon, who, words))
    return shown
