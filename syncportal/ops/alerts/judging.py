"""What the rules find in what was observed: pure functions over frozen values, no clock, no database.

Guarantees: the same observation and rules give the same findings; where the sample is too small or the remote is
stopped, a scope is undecided: it opens nothing and ends nothing. Does not: know what is open already.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from syncportal.ops.alerts import anomaly
from syncportal.ops.alerts.anomaly import Hour, Level
from syncportal.ops.alerts.kinds import Kind, Scope

LATE = 2.0  # intervals
FAILURES_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as a person set it; `remote_id` or `resource_id` narrow it.

    `except_…` are the remotes and resources that have a narrower rule of the same kind: that one counts for them.
    """

    id: int
    kind: str
    scope: str
    severity: str
    threshold: float = 0.0
    window_min: int = 0
    minimum: int = 0
    remote_id: int | None = None
    resource_id: int | None = None
    except_remotes: frozenset[int] = frozenset()
    except_resources: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """What one alert is about: everything, one remote, or one resource of a remote."""

    name: str = "everything"
    remote_id: int | None = None
    resource_id: int | None = None

    @property
    def key(self) -> str:
        """Return what stands for it in the database."""
        if self.resource_id is not None:
            return f"resource:{self.resource_id}"
        return f"remote:{self.remote_id}" if self.remote_id is not None else "all"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Attempts that ended in a window, without those that were postponed."""

    succeeded: int = 0
    failed: int = 0

    @property
    def attempts(self) -> int:
        """Return all of them."""
        return self.succeeded + self.failed


@dataclass(frozen=True, slots=True)
class Counted:
    """How many, and since when the oldest."""

    number: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Stopped:
    """A remote to which no calls go: `why` is breaker, credential or by_hand."""

    why: str
    since: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DutySeen:
    """How a line of the timetable did."""

    name: str
    every_s: int
    last_started_at: datetime | None
    failures: int = 0
    result: str = ""


@dataclass(frozen=True, slots=True)
class ResourceSeen:
    """A resource and its remote."""

    name: str
    remote_id: int


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that rules look at, read at `now`. Numbers by id of resource or remote; absent means none."""

    now: datetime
    remotes: Mapping[int, str] = field(default_factory=dict)
    resources: Mapping[int, ResourceSeen] = field(default_factory=dict)
    outcomes: Mapping[int, Mapping[int, Outcomes]] = field(default_factory=dict)  # window in minutes -> resource
    hours: Mapping[int, Sequence[Hour]] = field(default_factory=dict)  # by resource; the last one is the one judged
    due: Mapping[int, Counted] = field(default_factory=dict)  # by remote
    leases_over: Mapping[int, Counted] = field(default_factory=dict)  # by remote
    dead_letters: Mapping[int, Counted] = field(default_factory=dict)
    failed_undos: Mapping[int, Counted] = field(default_factory=dict)
    conflicts: Mapping[int, Counted] = field(default_factory=dict)
    discrepancies: Mapping[int, Counted] = field(default_factory=dict)
    braked: Mapping[int, Counted] = field(default_factory=dict)
    stopped: Mapping[int, Stopped] = field(default_factory=dict)  # by remote
    worker_alive: bool = True
    worker_seen_at: datetime | None = None
    duties: tuple[DutySeen, ...] = ()
    given_up: Counted | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule found something in one place."""

    rule: Rule
    place: Place
    summary: str
    value: float
    since: datetime


@dataclass(frozen=True, slots=True)
class Judged:
    """All findings, and the (rule id, place key) pairs about which nothing can be said now."""

    findings: tuple[Finding, ...] = ()
    undecided: frozenset[tuple[int, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class _Undecided:
    rule: Rule
    place: Place


_Said = Iterator[Finding | _Undecided]


def judge(rules: Sequence[Rule], seen: Observed) -> Judged:
    """Return what the rules find."""
    said = [one for rule in rules for one in _JUDGES[rule.kind](rule, seen)]
    return Judged(
        tuple(one for one in said if isinstance(one, Finding)),
        frozenset((one.rule.id, one.place.key) for one in said if isinstance(one, _Undecided)),
    )


def place_of(rule: Rule, seen: Observed, *, remote_id: int | None, resource_id: int | None) -> Place | None:
    """Return the place of a rule in which something about a remote or resource falls; None outside of the rule."""
    known = seen.resources.get(resource_id) if resource_id is not None else None
    remote_id = known.remote_id if known is not None else remote_id
    if rule.resource_id is not None and rule.resource_id != resource_id:
        return None
    if rule.remote_id is not None and rule.remote_id != remote_id:
        return None
    if resource_id in rule.except_resources or remote_id in rule.except_remotes:
        return None
    if rule.scope == Scope.ALL:
        return Place()
    if rule.scope == Scope.RESOURCE and known is not None and resource_id is not None:
        return Place(known.name, known.remote_id, resource_id)
    if remote_id is None or remote_id not in seen.remotes:
        return None
    return Place(seen.remotes[remote_id], remote_id)


def _places(rule: Rule, seen: Observed) -> dict[Place, list[int]]:
    """Return the rule's places with the ids of their resources."""
    found: dict[Place, list[int]] = {Place(): []} if rule.scope == Scope.ALL else {}
    for resource_id in seen.resources:
        place = place_of(rule, seen, remote_id=None, resource_id=resource_id)
        if place is not None:
            found.setdefault(place, []).append(resource_id)
    return found


def _remote_places(rule: Rule, seen: Observed) -> dict[Place, list[int]]:
    """Return the rule's places with the ids of their remotes."""
    found: dict[Place, list[int]] = {Place(): []} if rule.scope == Scope.ALL else {}
    for remote_id in seen.remotes:
        place = place_of(rule, seen, remote_id=remote_id, resource_id=None)
        if place is not None:
            found.setdefault(place, []).append(remote_id)
    return found


def _together(counts: Mapping[int, Counted], ids: Sequence[int]) -> Counted | None:
    found = [counts[one] for one in ids if one in counts and counts[one].number]
    return Counted(sum(c.number for c in found), min(c.since for c in found)) if found else None


def _success_rate(rule: Rule, seen: Observed) -> _Said:
    window = seen.outcomes.get(rule.window_min, {})
    for place, ids in _places(rule, seen).items():
        succeeded = sum(window[one].succeeded for one in ids if one in window)
        failed = sum(window[one].failed for one in ids if one in window)
        attempts = succeeded + failed
        if attempts < max(1, rule.minimum):
            yield _Undecided(rule, place)
        elif 100 * succeeded < rule.threshold * attempts:
            percent = 100 * succeeded / attempts
            words = (
                f"{_percent(percent, below=rule.threshold)} % of {attempts:,} attempts succeeded in the last "
                f"{_minutes(rule.window_min)}; the limit is {rule.threshold:g} %"
            )
            yield Finding(rule, place, words, percent, seen.now)


def _error_spike(rule: Rule, seen: Observed) -> _Said:
    for place, ids in _places(rule, seen).items():
        hours = _summed([seen.hours[one] for one in ids if seen.hours.get(one)])
        if not hours:
            yield _Undecided(rule, place)
            continue
        last = hours[-1]
        found = anomaly.compare(last, hours[:-1], times=rule.threshold, minimum=rule.minimum)
        if found.level is Level.UNKNOWN:
            yield _Undecided(rule, place)
        elif found.level is Level.SPIKE:
            words = (
                f"{last.failed:,} of {last.attempts:,} attempts failed in the last hour "
                f"({_percent(100 * found.share)} %); usual at this time are {_percent(100 * found.usual)} %"
            )
            yield Finding(rule, place, words, 100 * found.share, last.start)


def _summed(series: Sequence[Sequence[Hour]]) -> list[Hour]:
    """Add the hours of several resources; all series end with the hour that is judged."""
    total: dict[datetime, tuple[int, int]] = {}
    for hours in series:
        for hour in hours:
            attempts, failed = total.get(hour.start, (0, 0))
            total[hour.start] = attempts + hour.attempts, failed + hour.failed
    return [Hour(start, *total[start]) for start in sorted(total)]


def _oldest_due(rule: Rule, seen: Observed) -> _Said:
    for place, ids in _remote_places(rule, seen).items():
        running = [one for one in ids if one not in seen.stopped]
        if ids and not running:
            yield _Undecided(rule, place)
            continue
        due = _together(seen.due, running)
        if due is not None and seen.now - due.since >= timedelta(minutes=rule.threshold):
            waited = (seen.now - due.since).total_seconds() / 60
            words = f"{_number(due.number, 'job', 'jobs')} due, the oldest for {_minutes(waited)}"
            yield Finding(rule, place, words, round(waited, 1), due.since)


def _lease_over(rule: Rule, seen: Observed) -> _Said:
    for place, ids in _remote_places(rule, seen).items():
        stuck = _together(seen.leases_over, ids)
        if stuck is not None and seen.now - stuck.since >= timedelta(minutes=rule.threshold):
            minutes = (seen.now - stuck.since).total_seconds() / 60
            jobs = _number(stuck.number, "job", "jobs")
            words = f"{jobs} in processing past the lease, the oldest for {_minutes(minutes)}"
            yield Finding(rule, place, words, stuck.number, stuck.since)


def _counting(name: str, one: str, many: str) -> Callable[[Rule, Observed], _Said]:
    """Return the judge of a number per resource that must stay below the threshold."""

    def judged(rule: Rule, seen: Observed) -> _Said:
        for place, ids in _places(rule, seen).items():
            found = _together(getattr(seen, name), ids)
            if found is not None and found.number >= max(1, rule.threshold):
                yield Finding(rule, place, _number(found.number, one, many), found.number, found.since)

    return judged


def _stopped_for(*whys: str, words: str) -> Callable[[Rule, Observed], _Said]:
    """Return the judge of remotes that are stopped for one of the reasons."""

    def judged(rule: Rule, seen: Observed) -> _Said:
        for place, ids in _remote_places(rule, seen).items():
            found = [seen.stopped[one] for one in ids if one in seen.stopped and seen.stopped[one].why in whys]
            found = [one for one in found if seen.now - one.since >= timedelta(minutes=rule.threshold)]
            if found:
                oldest = min(found, key=lambda one: one.since)
                said = f"{words}: {oldest.detail}" if oldest.detail else words
                yield Finding(rule, place, said, len(found), oldest.since)

    return judged


def _no_worker(rule: Rule, seen: Observed) -> _Said:
    if not seen.worker_alive:
        last = seen.worker_seen_at
        words = "No heartbeat of any worker" + (f" since {last:%Y-%m-%d %H:%M:%S} UTC" if last else ", ever")
        yield Finding(rule, Place(), words, 0, last or seen.now)


def _schedule_not_run(rule: Rule, seen: Observed) -> _Said:
    behind, since = [], seen.now
    for duty in seen.duties:
        allowed = timedelta(seconds=LATE * duty.every_s, minutes=rule.threshold)
        if duty.last_started_at is not None and seen.now - duty.last_started_at > allowed:
            minutes = (seen.now - duty.last_started_at).total_seconds() / 60
            behind.append(f"{duty.name} has not begun for {_minutes(minutes)}")
            since = min(since, duty.last_started_at)
        elif duty.failures >= FAILURES_IN_A_ROW:
            behind.append(f"{duty.name} failed {duty.failures} times in a row: {duty.result}")
    if behind:
        yield Finding(rule, Place(), "; ".join(behind), len(behind), since)


def _deliveries_failing(rule: Rule, seen: Observed) -> _Said:
    if seen.given_up is not None and seen.given_up.number >= max(1, rule.threshold):
        words = f"{_number(seen.given_up.number, 'notice', 'notices')} given up, or refused again and again"
        yield Finding(rule, Place(), words, seen.given_up.number, seen.given_up.since)


def _number(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _minutes(minutes: float) -> str:
    """Return a span of minutes in its largest fitting unit."""
    if minutes >= 2 * 1440:
        return f"{minutes / 1440:.0f} days"
    if minutes >= 120:
        return f"{minutes / 60:.0f} h"
    return f"{minutes:.0f} min" if minutes >= 1 else f"{60 * minutes:.0f} s"


def _percent(percent: float, *, below: float | None = None) -> str:
    """Return a share with one digit; never rounded up to the limit it is below of."""
    shown = round(percent, 1)
    if below is not None and shown >= below:
        shown = below - 0.1
    return f"{shown:g}"


_JUDGES: dict[str, Callable[[Rule, Observed], _Said]] = {
    Kind.SUCCESS_RATE: _success_rate,
    Kind.ERROR_SPIKE: _error_spike,
    Kind.OLDEST_DUE: _oldest_due,
    Kind.LEASE_OVER: _lease_over,
    Kind.DEAD_LETTERS: _counting("dead_letters", "dead letter", "dead letters"),
    Kind.FAILED_UNDOS: _counting("failed_undos", "undo needs a person", "undos need a person"),
    Kind.BREAKER_OPEN: _stopped_for("breaker", words="The remote does not answer"),
    Kind.CREDENTIAL_REFUSED: _stopped_for("credential", words="The remote refused our credential"),
    Kind.CONFLICTS_WAITING: _counting("conflicts", "conflict waits for a decision", "conflicts wait for a decision"),
    Kind.DISCREPANCIES: _counting("discrepancies", "open discrepancy", "open discrepancies"),
    Kind.RECONCILIATION_BRAKED: _counting(
        "braked", "resource is no longer repaired", "resources are no longer repaired"
    ),
    Kind.NO_WORKER: _no_worker,
    Kind.SCHEDULE_NOT_RUN: _schedule_not_run,
    Kind.DELIVERIES_FAILING: _deliveries_failing,
}
