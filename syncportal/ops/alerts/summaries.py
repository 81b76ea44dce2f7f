"""What ended in the background, by mail to operations: runs of the timetable, others with findings, failed pulls.

Owns: which events become such mails, and their words. Guarantees: each end is told once, over the durable deliveries;
the position in the feed moves in the transaction that writes them. Does not: send; dry runs, selections, and runs that
somebody started and that found nothing are told on their pages only.
"""

from datetime import datetime, timedelta
from typing import Final

from reconciliation import summary
from reconciliation.models import Run
from reconciliation.states import Kind as Difference
from reconciliation.states import Origin, RunState, Scope
from syncportal.kernel.tx import atomic_retry
from syncportal.ops.alerts import channels, outbox
from syncportal.ops.alerts.models import Channel
from syncportal.ops.alerts.outbox import NewDelivery
from syncportal.ops.alerts.states import Message
from syncportal.ops.alerts.wording import Words, flat, link
from syncportal.sync import feed, scan_positions
from syncportal.sync.events import Kind
from syncportal.sync.models import Event, ScanPosition

POSITION: Final = "reconciliation_summaries"
BATCH: Final = 200
_RECENT: Final = timedelta(days=1)


def duty(now: datetime) -> str:
    """Write the mails about runs and pulls that ended since the last time, and say how many."""
    after = ScanPosition.objects.filter(pk=POSITION).values_list("after_id", flat=True).first() or 0
    rows = Event.objects.filter(kind__in=(Kind.RECONCILIATION_FINISHED, Kind.PULL_FINISHED)).select_related("resource")
    page = feed.read(rows, after=after, limit=BATCH, now=now)
    told = [row for row in page.events if row.at > now - _RECENT and _is_worth_telling(row)]
    return f"{atomic_retry(lambda: _write(told, after=after, to=page.cursor, now=now))} written"


def _write(told: list[Event], *, after: int, to: int, now: datetime) -> int:
    if scan_positions.locked(POSITION) != after:
        return 0  # another host was faster
    scan_positions.move(POSITION, to=to)
    ways = [
        channel for channel in Channel.objects.filter(via=Channel.Via.EMAIL, enabled=True).order_by("pk")
        if channels.is_set_up(channel)
    ]  # fmt: skip
    new = [NewDelivery(Message.SUMMARY.value, words_of(row), channel_id=way.pk) for row in told for way in ways]
    return len(outbox.put(new, now=now))


def _is_worth_telling(row: Event) -> bool:
    data = row.data
    if row.kind == Kind.PULL_FINISHED:
        return data.get("state") == "failed"
    if data.get("dry_run"):
        return False
    if data.get("scope") == Scope.ALL and data.get("origin") == Origin.SCHEDULE:
        return True
    found = bool(data.get("needing_action") or data.get("fixed")) or data.get("state") != RunState.FINISHED
    return found and data.get("scope") in (Scope.ALL, Scope.SAMPLE)


def words_of(row: Event) -> Words:
    """Return the mail about one run or pull."""
    if row.kind == Kind.PULL_FINISHED:
        return _words_of_pull(row)
    data, where = row.data, row.resource.slug if row.resource else "?"
    kinds = [f"- {kind.label}: {data[kind.value]}" for kind in Difference if data.get(kind.value)]
    outcome = {"braked": "the brake held", "failed": "could not run"}.get(
        data["state"], f"{data['needing_action']} needing action"
    )
    lines = [
        f"{where}: {summary.sentence(dict(data))}.",
        *(["", f"Problem: {flat(str(data['problem']), 500)}"] if data["problem"] else []),
        *(["", "Differences found:", *kinds] if kinds else []),
        "",
        f"Closed because both sides agree again: {data['closed']}. Ignored by people: {data['ignored']}.",
    ]
    page = link("admin:reconciliation_run_change", data["run"]) if Run.objects.filter(pk=data["run"]).exists() else ""
    return Words(f"Reconciliation of {where}: {outcome}", "\n".join(lines + (["", page] if page else [])), {})


def _words_of_pull(row: Event) -> Words:
    where = row.resource.slug if row.resource else "?"
    seen, created = int(row.data.get("seen", 0)), int(row.data.get("created", 0))
    lines = [
        f"A pull of {where} ended before it had read everything.",
        "",
        f"Problem: {flat(str(row.data.get('problem')), 500)}",
        f"Read until then, and kept: {seen:,} objects, {created:,} of them new.",
        "",
        "What you can do: mend the cause, then let it go on, or pull again, on the page of the resource.",
    ]
    page = link("admin:remote_resource_change", row.resource_id) if row.resource_id else ""
    return Words(f"Pull of {where}: given up", "\n".join(lines + (["", page] if page else [])), {})
