"""Mails to operations: new dead letters and new failed undos as a digest each, and one mail for each remote paused
over its credential.

Owns: the only writes of Notice and NoticeCursor. Guarantees: each such event is mailed at least once, twice only if we
die between sending and writing it down; nothing a remote said reaches a header or can pose as a line of ours.
Does not: route or repeat alerts. With nobody to tell, the events wait and the duty's result says so.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import NoReverseMatch, reverse

from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import assert_outside_transaction
from syncportal.ops.models import Notice, NoticeCursor
from syncportal.sync.events import Kind
from syncportal.sync.models import Event, SyncJob
from syncportal.sync.states import Status

LISTED = 50
BATCH = 2_000
_CURSOR = "mail"
_SETTLED = timedelta(minutes=15)  # no transaction stays open that long, so no older event appears any more
_LINE = 200
_TOLD = (Kind.SYNC_DEAD_LETTERED, Kind.COMPENSATION_FAILED, Kind.REMOTE_PAUSED)
_SUBJECT_PREFIX = "[SyncPortal]"


def send_due(now: datetime) -> str:
    """Mail what is new and say what was done; raises what the mail server raises, then nothing is marked as sent."""
    assert_outside_transaction()
    found = _new_events()
    letters = [event for event in found if event.kind == Kind.SYNC_DEAD_LETTERED]
    undos = [event for event in found if event.kind == Kind.COMPENSATION_FAILED]
    pauses = [event for event in found if event.kind == Kind.REMOTE_PAUSED]
    people = list(settings.OPERATIONS_EMAIL)
    if found and not people:
        counts = f"{len(letters)} dead letters, {len(undos)} failed undos, {len(pauses)} paused remotes"
        return f"{counts}: nobody to tell, OPERATIONS_EMAIL is empty"
    mails = 0
    if letters:
        _send(_letters_subject(len(letters)), _letters_body(letters), to=people)
        _written_down(letters)
        mails += 1
    if undos:
        _send(_undos_subject(len(undos)), _undos_body(undos), to=people)
        _written_down(undos)
        mails += 1
    for event in pauses:
        _send(f"Remote paused: {_flat(_remote_name(event), 80)}", _pause_body(event), to=people)
        _written_down([event])
        mails += 1
    _advance(now)
    return f"{mails} mails, {len(found)} events" if mails else "nothing new"


def _new_events() -> list[Event]:
    """Return the events worth a mail that nobody was told of; ids commit out of order, so the cursor lags behind."""
    after = NoticeCursor.objects.filter(pk=_CURSOR).values_list("after_id", flat=True).first() or 0
    rows = Event.objects.filter(pk__gt=after, kind__in=_TOLD)
    told = Notice.objects.filter(pk__gt=after).values("pk")
    rows = rows.exclude(pk__in=told).select_related("record", "resource", "remote").order_by("pk")
    # A person who paused a remote by hand knows it.
    return [event for event in rows[:BATCH] if event.kind != Kind.REMOTE_PAUSED or event.actor_kind == "worker"]


def _written_down(events: Sequence[Event]) -> None:
    at = db_now()
    Notice.objects.bulk_create([Notice(event_id=event.pk, sent_at=at) for event in events], ignore_conflicts=True)


def _advance(now: datetime) -> None:
    """Move the cursor to the newest event that is certainly settled, unless a full batch may have left some behind."""
    if _new_events():
        return
    settled = Event.objects.filter(at__lt=now - _SETTLED).order_by("-at", "-pk").values_list("pk", flat=True).first()
    if settled is None:
        return
    NoticeCursor.objects.bulk_create([NoticeCursor(name=_CURSOR)], ignore_conflicts=True)
    NoticeCursor.objects.filter(pk=_CURSOR, after_id__lt=settled).update(after_id=settled)
    Notice.objects.filter(pk__lte=settled).delete()


def _send(subject: str, body: str, *, to: Sequence[str]) -> None:
    EmailMessage(f"{_SUBJECT_PREFIX} {subject}", body, to=list(to)).send(fail_silently=False)


def _letters_subject(count: int) -> str:
    return "1 new dead letter" if count == 1 else f"{count} new dead letters"


def _letters_body(letters: Sequence[Event]) -> str:
    ids = [event.record_id for event in letters if event.record_id]
    status_now = dict(SyncJob.objects.filter(pk__in=ids).values_list("pk", "status"))
    lines = [
        "All attempts to push these records failed. They wait for you: mend the cause, then requeue them.",
        "",
    ]
    for event in letters[:LISTED]:
        record = _flat(str(event.record) if event.record else "deleted record", 80)
        resource = event.resource.slug if event.resource else "?"
        why = _flat(str(event.data.get("detail") or event.data.get("reason") or ""), _LINE)
        moved_on = status_now.get(event.record_id or 0, Status.DEAD_LETTER)
        note = "" if moved_on == Status.DEAD_LETTER else f" (now {Status(moved_on).label.lower()})"
        lines.append(f"- {resource}: {record}{note}")
        lines += [f"  {why}"] if why else []
        lines += [f"  {link}"] if (link := _link("admin:sync_record_change", event.record_id)) else []
    if len(letters) > LISTED:
        lines.append(f"... and {len(letters) - LISTED} more.")
    overview = _link("admin:sync_record_changelist")
    if overview:
        lines += ["", f"All dead letters: {overview}?job__status__exact=DEAD_LETTER"]
    return "\n".join(lines)


def _undos_subject(count: int) -> str:
    return (
        "1 undo of a grouped update needs a person" if count == 1 else f"{count} undos of grouped updates need a person"
    )


def _undos_body(undos: Sequence[Event]) -> str:
    lines = [
        "These steps of grouped updates could not be undone, and will not be tried again by themselves. Their records",
        "are held until you retry, force the restore, decide the conflict, or close the task with a reason.",
        "",
    ]
    for event in undos[:LISTED]:
        record = _flat(str(event.record) if event.record else "deleted record", 80)
        resource = event.resource.slug if event.resource else "?"
        error = event.data.get("error")
        why = _flat(str(error.get("detail") or error.get("code") or ""), _LINE) if isinstance(error, dict) else ""
        request, group = (_flat(str(event.data.get(name) or "?"), 60) for name in ("request", "group"))
        lines.append(f"- {resource}: {record} (request {request}, group {group})")
        lines += [f"  {why}"] if why else []
        group_pk = event.data.get("group_pk")
        link = _link("admin:rollback_group_change", group_pk) if isinstance(group_pk, int) else ""
        lines += [f"  {link}"] if link else []
    if len(undos) > LISTED:
        lines.append(f"... and {len(undos) - LISTED} more.")
    overview = _link("admin:rollback_compensatingtask_changelist")
    lines += ["", f"All of them: {overview}?status=failed_permanent"] if overview else []
    return "\n".join(lines)


def _pause_body(event: Event) -> str:
    lines = [
        f"The remote {_flat(_remote_name(event), 80)} refused our credential, so all calls to it are paused.",
        "Edits are still saved and will be pushed after you corrected the credential and resumed the remote.",
    ]
    detail = _flat(str(event.data.get("detail") or ""), _LINE)
    lines += ["", f"What it said: {detail}"] if detail else []
    link = _link("admin:remote_remote_change", event.remote_id)
    lines += ["", link] if link else []
    return "\n".join(lines)


def _remote_name(event: Event) -> str:
    return event.remote.slug if event.remote else str(event.data.get("remote") or "?")


def _link(name: str, pk: int | None = None) -> str:
    """Return an absolute address in the admin, "" when there is no such page."""
    try:
        return settings.PUBLIC_URL + reverse(name, args=[pk] if pk is not None else [])
    except NoReverseMatch:
        return ""


def _flat(text: str, most: int) -> str:
    """Return the text as one short line of printable characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
