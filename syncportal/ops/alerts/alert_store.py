"""The only writer of Alert: opens, counts, resolves and re-opens, and puts the notices that follow into the outbox.

Guarantees: one open alert for each rule and scope, however many evaluate at once (the rules are locked first); the
alert, its event, its notices and the taken news are one transaction; an alert that comes back within a day is the same
alert, opened again; what cannot be judged now neither opens nor ends. Does not: judge or send.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Q

from syncportal.kernel.bulk import update_rows
from syncportal.kernel.tx import atomic_retry
from syncportal.ops.alerts import (
    channels,
    holding_back,
    news,
    notices,
    outbox,
    rule_store,
    silences,
    telling,
    wording,
)  # fmt: skip
from syncportal.ops.alerts.judging import Finding, Judged, Observed, Place, Rule, place_of
from syncportal.ops.alerts.models import Alert, AlertRule
from syncportal.ops.alerts.news import News, NewsItem
from syncportal.ops.alerts.states import ACKNOWLEDGE, LIVE, AlertState, Message, Severity
from syncportal.ops.alerts.telling import Standing, message_now
from syncportal.sync import events
from syncportal.sync.events import Actor, Fact, Kind

REGRESSION: Final = timedelta(days=1)
UNDECIDED_FOR: Final = timedelta(days=1)
NEWS_KEPT: Final = 50
TOLD_WITHIN: Final = timedelta(days=7)
KEPT_FOR: Final = timedelta(days=365)
_BATCH: Final = 500
_WRITTEN: Final = (
    "state", "severity", "scope_name", "summary", "value", "count", "since", "seen_at", "resolved_at", "reopened_at",
    "reopenings", "acknowledged_by", "acknowledged_label", "acknowledged_at", "note", "held_back", "news",
    "news_count", "told", "told_severity", "told_at", "regression_untold",
)  # fmt: skip

Key = tuple[int, str]


@dataclass(slots=True)
class Settled:
    """What one evaluation changed."""

    opened: int = 0
    reopened: int = 0
    resolved: int = 0
    notices: int = 0


@dataclass(slots=True)
class _Book:
    """The alerts under the lock, and what is to be written."""

    now: datetime
    live: dict[Key, Alert] = field(default_factory=dict)
    recent: dict[Key, Alert] = field(default_factory=dict)
    all: list[Alert] = field(default_factory=list)
    fresh: list[Alert] = field(default_factory=list)
    changed: dict[int, Alert] = field(default_factory=dict)
    opened: list[Alert] = field(default_factory=list)
    reopened: list[Alert] = field(default_factory=list)
    resolved: list[Alert] = field(default_factory=list)


def settle(judged: Judged, seen: Observed, happened: News | None, *, kinds: Collection[str]) -> Settled:
    """Bring the alerts of these kinds in line with what was found, and write the notices that are due."""
    return atomic_retry(lambda: _settle(judged, seen, happened, kinds=kinds))


def _settle(judged: Judged, seen: Observed, happened: News | None, *, kinds: Collection[str]) -> Settled:
    rules = rule_store.as_rules(AlertRule.objects.select_for_update().order_by("pk"))
    by_id = {rule.id: rule for rule in rules}
    book = _read(seen.now)
    found: set[Key] = set()
    for finding in judged.findings:
        if finding.rule.id in by_id:
            _raise(book, finding)
            found.add((finding.rule.id, finding.place.key))
    for item in news.take(happened) if happened is not None else ():
        found |= _add_news(book, item, rules, seen)
    _end_the_others(book, found, judged.undecided, by_id, kinds=kinds)
    holding_back.mark(book.all + book.fresh, seen, silences.active(seen.now), changed=book.changed)
    _write(book)
    told = _tell(book, seen.now)
    return Settled(len(book.opened), len(book.reopened), len(book.resolved), told)


def _read(now: datetime) -> _Book:
    """Lock the alerts that may change: live ones, those that may come back, and those people do not know all of."""
    untold = (Q(told=AlertState.OPEN) | Q(news_count__gt=0)) & Q(seen_at__gte=now - TOLD_WITHIN)
    which = Q(state__in=sorted(LIVE)) | Q(resolved_at__gte=now - REGRESSION) | untold
    book = _Book(now)
    book.all = list(Alert.objects.select_for_update().filter(which).order_by("pk"))
    for alert in book.all:
        key = (alert.rule_id, alert.scope_key)
        if alert.state in LIVE:
            book.live[key] = alert
        elif alert.resolved_at is not None and alert.resolved_at >= now - REGRESSION:
            book.recent[key] = alert
    return book


def _raise(book: _Book, finding: Finding) -> Alert:
    """Count a finding, or open or re-open its alert."""
    key = (finding.rule.id, finding.place.key)
    alert = book.live.get(key)
    if alert is not None:
        alert.count += 1
        _changed(book, alert)
    elif key in book.recent:
        alert = book.live[key] = book.recent.pop(key)
        alert.state, alert.resolved_at, alert.reopened_at = AlertState.OPEN, None, book.now
        alert.reopenings, alert.count = alert.reopenings + 1, alert.count + 1
        alert.acknowledged_by_id, alert.acknowledged_label, alert.acknowledged_at, alert.note = None, "", None, ""
        alert.regression_untold = alert.told == AlertState.OPEN
        alert.since = finding.since
        book.reopened.append(alert)
        _changed(book, alert)
    else:
        alert = book.live[key] = _new(finding.rule, finding.place, since=finding.since, now=book.now)
        book.fresh.append(alert)
        book.opened.append(alert)
    alert.severity, alert.scope_name = finding.rule.severity, finding.place.name[:200]
    alert.summary, alert.value, alert.seen_at = wording.flat(finding.summary, 500), finding.value, book.now
    alert.since = min(alert.since, finding.since) if alert.count > 1 else finding.since
    return alert


def _new(rule: Rule, place: Place, *, since: datetime, now: datetime) -> Alert:
    return Alert(
        rule_id=rule.id, kind=rule.kind, scope_key=place.key, scope_name=place.name[:200], remote_id=place.remote_id,
        resource_id=place.resource_id, severity=rule.severity, summary="", since=since, opened_at=now, seen_at=now,
    )  # fmt: skip


def _changed(book: _Book, alert: Alert) -> None:
    book.changed[alert.pk] = alert


def _add_news(book: _Book, item: NewsItem, rules: Iterable[Rule], seen: Observed) -> set[Key]:
    """Hang an event on the alert of each rule that watches for it; open the alert if nothing else did."""
    keys = set()
    for rule in rules:
        if rule.kind != item.kind:
            continue
        place = place_of(rule, seen, remote_id=item.remote_id, resource_id=item.resource_id)
        if place is None:
            continue
        key = (rule.id, place.key)
        alert = book.live.get(key)
        if alert is None:
            words = wording.flat(f"{item.shown['where']}: {item.shown['what']}", 500)
            alert = _raise(book, Finding(rule, place, words, 1, item.at))
        elif alert.pk is not None:
            _changed(book, alert)
        alert.news = [*alert.news, item.shown][:NEWS_KEPT]
        alert.news_count += 1
        keys.add(key)
    return keys


def _end_the_others(
    book: _Book,
    found: Collection[Key],
    undecided: Collection[Key],
    rules: Mapping[int, Rule],
    *,
    kinds: Collection[str],
) -> None:
    """Resolve what was looked for and not found again; a rule that was switched off ends its alerts, too."""
    for key, alert in book.live.items():
        if alert.rule_id in rules:
            waits = key in undecided and alert.seen_at >= book.now - UNDECIDED_FOR
            if alert.kind not in kinds or key in found or waits:
                continue
        alert.state, alert.resolved_at = AlertState.RESOLVED, book.now
        _changed(book, alert)
        book.resolved.append(alert)


def _write(book: _Book) -> None:
    """Store what changed, with one event for each opening and each end."""
    Alert.objects.bulk_create(book.fresh)
    update_rows(Alert, [_row(alert) for alert in book.changed.values()])
    facts = [_fact(Kind.ALERT_OPENED, alert) for alert in book.opened]
    facts += [_fact(Kind.ALERT_OPENED, alert, regression=True) for alert in book.reopened]
    facts += [_fact(Kind.ALERT_RESOLVED, alert) for alert in book.resolved]
    events.write(facts, now=book.now)


def _row(alert: Alert) -> dict[str, Any]:
    values = {name: getattr(alert, "acknowledged_by_id" if name == "acknowledged_by" else name) for name in _WRITTEN}
    return {"pk": alert.pk, **values}


def _fact(kind: Kind, alert: Alert, *, actor: Actor = events.WORKER, **more: Any) -> Fact:
    data = {"alert": alert.pk, "rule": alert.kind, "severity": str(alert.severity), "scope": alert.scope_name,
            "summary": alert.summary, **more}  # fmt: skip
    return Fact(kind, None, alert.resource_id, alert.remote_id, actor=actor, data=data)


def _tell(book: _Book, now: datetime) -> int:
    """Put the notices that are due into the outbox and note what people know then; return how many were due."""
    everything = book.all + book.fresh
    due = [(alert, message) for alert in everything if (message := message_now(standing_of(alert), now=now))]
    lately = telling.lately_told((alert.told_at for alert in everything), now)
    like = telling.lately_told((a.told_at for a in everything if a.told_severity != Severity.CRITICAL), now)
    due = [(alert, what) for alert, what in due if not telling.waits_for_others(alert.severity, what, lately=like)]
    ways = channels.usable() if due else []
    if not ways:
        return 0  # somebody will be told as soon as there is a way
    outbox.put(notices.of(due, ways, lately=lately, now=now), now=now)
    for alert, message in due:
        alert.told_at = now
        if message is not Message.REMINDER:
            over = message in (Message.RESOLVED, Message.PASSED)
            alert.told, alert.told_severity = AlertState.RESOLVED if over else AlertState.OPEN, alert.severity
            alert.news, alert.news_count, alert.regression_untold = [], 0, False
    update_rows(Alert, [_row(alert) for alert, _ in due])
    return len(due)


def lately_told(now: datetime) -> int:
    """Return how many alerts people were told of shortly before `now` as something that is not critical."""
    told = Alert.objects.filter(told_at__gt=now - telling.STORM_WITHIN).exclude(told_severity=Severity.CRITICAL)
    return telling.lately_told(told.values_list("told_at", flat=True), now)


def standing_of(alert: Alert) -> Standing:
    """Return an alert as `telling` looks at it."""
    return Standing(
        state=alert.state, severity=alert.severity, told=alert.told, told_severity=alert.told_severity,
        told_at=alert.told_at, reopenings=alert.reopenings, regression_untold=alert.regression_untold,
        news_count=alert.news_count, held_back=bool(alert.held_back),
    )  # fmt: skip


def acknowledge(alert_id: int, *, note: str, actor: Actor, now: datetime) -> bool:
    """Take an open alert on; False when it is not open any more, or somebody else has it."""

    def work() -> bool:
        moved = Alert.objects.filter(pk=alert_id, state__in=ACKNOWLEDGE.sources).update(
            state=AlertState.ACKNOWLEDGED, acknowledged_by=actor.user_id, acknowledged_label=actor.label[:150],
            acknowledged_at=now, note=note.strip()[:500],
        )  # fmt: skip
        if moved:
            alert = Alert.objects.get(pk=alert_id)
            events.write([_fact(Kind.ALERT_ACKNOWLEDGED, alert, actor=actor, why=alert.note)], now=now)
        return bool(moved)

    return atomic_retry(work)


def prune(now: datetime) -> int:
    """Remove a batch of alerts that were over long ago; return how many."""
    old = Alert.objects.filter(state=AlertState.RESOLVED, resolved_at__lt=now - KEPT_FOR)
    gone = list(old.values_list("pk", flat=True)[:_BATCH])
    Alert.objects.filter(pk__in=gone).delete()
    return len(gone)
