"""The words of messages about alerts: subject, text, and the object that webhooks get.

Guarantees: nothing a remote said can break a header, pose as a line of ours or grow beyond its share of the message;
every message says what, where, since when, what the system does, what a person can do, and where to look.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.urls import NoReverseMatch, reverse

from syncportal.kernel.redaction import visible
from syncportal.ops.alerts.kinds import KINDS
from syncportal.ops.alerts.models import Alert
from syncportal.ops.alerts.states import RANK, Message, Severity

LISTED: Final = 50
GATHERED: Final = 20
_GATHERED_NEWS: Final = 3
_LINE: Final = 200
_NAME: Final = 80
_SUBJECT: Final = 200
_SLACK: Final = 30_000
_LEADS: Final[dict[str, str]] = {
    Message.MORE: "Still open: ",
    Message.REGRESSION: "Came back: ",
    Message.RESOLVED: "Resolved: ",
    Message.PASSED: "Over already: ",
}


@dataclass(frozen=True, slots=True)
class Words:
    """A message in its forms."""

    subject: str
    body: str
    payload: dict[str, Any]


def flat(text: str, most: int) -> str:
    """Return the text as one short line of printable characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def link(name: str, pk: int | None = None) -> str:
    """Return an absolute address in the admin, "" when there is no such page."""
    try:
        return settings.PUBLIC_URL + reverse(name, args=[pk] if pk is not None else [])
    except NoReverseMatch:
        return ""


def is_over(message: Message) -> bool:
    """Tell whether a notice tells of an end."""
    return message in (Message.RESOLVED, Message.PASSED)


def of_alert(alert: Alert, message: Message, *, now: datetime) -> Words:
    """Word one notice of an alert."""
    kind = KINDS[alert.kind]
    about = _about(alert)
    subject = flat(f"{_LEADS.get(message, '')}{alert.get_severity_display()}: {about}", _SUBJECT)
    lines = [flat(f"{about}.", 2 * _NAME), flat(alert.summary, 2 * _LINE), ""]
    seen = "seen once" if alert.count == 1 else f"seen {alert.count:,} times, last {_time(alert.seen_at)}"
    lines.append(f"Since {_time(alert.since)}, {seen}.")
    if message is Message.REGRESSION:
        lines.append(f"It was resolved before and came back {_time(alert.reopened_at or alert.opened_at)}.")
    if alert.resolved_at is not None:
        lines.append(f"Over since {_time(alert.resolved_at)}.")
    lines += ["", *_news(alert, most=LISTED)] if alert.news_count else []
    if not is_over(message):
        lines += ["", f"What the system does: {kind.system}", f"What you can do: {kind.person}"]
    page = link("admin:ops_alert_change", alert.pk)
    lines += ["", page] if page else []
    return Words(subject, "\n".join(lines), _payload(alert, message, now=now))


def of_reminder(alerts: Sequence[Alert], *, now: datetime) -> Words:
    """Word one reminder of alerts that are open and that nobody has taken on, the worst and oldest first."""
    ordered = sorted(alerts, key=lambda alert: (-RANK[alert.severity], alert.since))
    first, number = ordered[0], len(ordered)
    if number == 1:
        subject = flat(f"Reminder: {first.get_severity_display()}: {_about(first)}", _SUBJECT)
    else:
        subject = f"Reminder: {number:,} alerts are open and nobody has taken them on"
    lines = ["Open, and nobody has taken it on:" if number == 1 else "Open, and nobody has taken them on:"]
    for alert in ordered[:LISTED]:
        lines += _item(alert)
    lines += [f"... and {number - LISTED:,} more."] if number > LISTED else []
    lines += ["", "Acknowledge what you are on: it is not reminded of then, and resolves itself when it is over."]
    shown = [_shape(alert) for alert in ordered[:LISTED]]
    message = Message.REMINDER.value
    payload = {"event": "alert.reminder", "message": message, "at": _stamp(now), "count": number, "alerts": shown}
    return Words(subject, "\n".join(lines), payload)


def of_several(told: Sequence[tuple[Alert, Message]], *, now: datetime) -> Words:
    """Word one message for notices of different alerts, in the order they are given; at most `GATHERED` are named."""
    number, listed = len(told), told[:GATHERED]
    going_on = [alert.severity for alert, message in told if not is_over(message)]
    warnings = going_on.count(Severity.WARNING)
    counts = [(going_on.count(Severity.CRITICAL), "critical"), (warnings, "warning" if warnings == 1 else "warnings"),
              (going_on.count(Severity.INFO), "for information")]  # fmt: skip
    parts = [f"{count:,} {label}" for count, label in counts if count]
    parts += [f"{number - len(going_on):,} over"] if len(going_on) < number else []
    subject = f"{number:,} alerts at once: {', '.join(parts)}"
    lines = [f"{number:,} alerts at once: {', '.join(parts)}. One cause may be behind many of them."]
    for alert, message in listed:
        lines += _item(alert, lead=_LEADS.get(message, ""))
    lines += ["", f"... and {number - len(listed):,} more."] if number > len(listed) else []
    page = link("admin:ops_alert_changelist")
    lines += ["", f"All alerts: {page}"] if page else []
    shown = [{"message": message.value, **_shape(alert)} for alert, message in told]
    payload = {"event": "alert.several", "message": Message.SEVERAL.value, "at": _stamp(now), "count": number,
               "alerts": shown}  # fmt: skip
    return Words(subject, "\n".join(lines), payload)


def _item(alert: Alert, *, lead: str = "") -> list[str]:
    """Return an alert as one of many in a message, with the first of its news."""
    page = link("admin:ops_alert_change", alert.pk)
    lines = ["", flat(f"- {lead}{alert.get_severity_display()}: {_about(alert)}", 2 * _NAME)]
    lines += [f"  {flat(alert.summary, _LINE)}", f"  Since {_time(alert.since)}."]
    lines += [f"  {line}" for line in _news(alert, most=_GATHERED_NEWS, reasons=False)]
    return lines + ([f"  {page}"] if page else [])


def _about(alert: Alert) -> str:
    label = KINDS[alert.kind].label
    return f"{label}: {flat(alert.scope_name, _NAME)}" if alert.scope_key != "all" else label


def _news(alert: Alert, *, most: int, reasons: bool = True) -> list[str]:
    lines, listed = [], alert.news[:most]
    for item in listed:
        where, what = flat(str(item.get("where") or "?"), _NAME), flat(str(item.get("what") or "?"), _NAME)
        why = flat(str(item.get("why") or ""), _LINE) if reasons else ""
        lines.append(f"- {where}: {what}")
        lines += [f"  {why}"] if why else []
        lines += [f"  {settings.PUBLIC_URL}{item['path']}"] if item.get("path") else []
    if alert.news_count > len(listed):
        lines.append(f"... and {alert.news_count - len(listed):,} more.")
    return lines


def _payload(alert: Alert, message: Message, *, now: datetime) -> dict[str, Any]:
    return {
        "event": "alert.resolved" if is_over(message) else "alert.opened",
        "message": message.value,
        "at": _stamp(now),
        "alert": _shape(alert),
    }


def _shape(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.pk,
        "rule": alert.kind,
        "severity": alert.severity,
        "state": alert.state,
        "scope": {"name": alert.scope_name, "remote": alert.remote_id, "resource": alert.resource_id},
        "summary": visible(alert.summary, keep_breaks=False),
        "count": alert.count,
        "since": _stamp(alert.since),
        "openedAt": _stamp(alert.opened_at),
        "resolvedAt": _stamp(alert.resolved_at),
        "reopenings": alert.reopenings,
        "newsCount": alert.news_count,
        "url": link("admin:ops_alert_change", alert.pk),
    }


def of_test(channel_name: str, *, by: str, now: datetime) -> Words:
    """Word a test."""
    body = (
        f"This is a test of the channel {flat(channel_name, _NAME)}, asked for by {flat(by, _NAME)}.\nNothing is wrong."
    )
    return Words("Test", body, {"event": "test", "message": Message.TEST.value, "at": _stamp(now)})


def slack_text(subject: str, body: str) -> str:
    """Return a message in which Slack finds no markup, mention or link of somebody else's."""
    text = f"{subject}\n{body}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")[:_SLACK]


def webhook_body(uid: str, payload: Mapping[str, Any]) -> bytes:
    """Return the JSON that a webhook gets; `id` is the same in every repetition."""
    return json.dumps({"id": uid, **payload}, ensure_ascii=True, separators=(",", ":")).encode()


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _stamp(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
