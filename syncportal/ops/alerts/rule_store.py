"""The only writer of AlertRule: the defaults, and what people change, with history.

Guarantees: every kind has at least one rule once a worker has run, so nothing goes unwatched without a person's
decision; a rule that cannot work is refused with every problem. Does not: evaluate.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.db import IntegrityError
from django.db.models import Q
from simple_history.utils import bulk_create_with_history

from syncportal.kernel.tx import atomic_retry
from syncportal.ops.alerts.judging import Rule
from syncportal.ops.alerts.kinds import KINDS, WINDOWS_MIN, Kind, Scope
from syncportal.ops.alerts.models import AlertRule
from syncportal.ops.alerts.states import Severity

MOST_MINIMUM = 1_000_000


class RuleInvalid(Exception):
    """The rule cannot work; `problems` says why, by field name."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = dict(problems)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rule as a person wants it."""

    kind: str
    enabled: bool
    severity: str
    scope: str
    remote_id: int | None = None
    resource_id: int | None = None
    threshold: float = 0.0
    window_min: int = 0
    minimum: int = 0


def ensure() -> int:
    """Make the rule that each kind starts with, for kinds that have none; return how many were made."""
    if len(KINDS) == AlertRule.objects.values("kind").distinct().count():
        return 0

    def work() -> int:
        present = set(AlertRule.objects.values_list("kind", flat=True))
        missing = [AlertRule(**asdict(default_of(kind))) for kind in KINDS if kind not in present]
        if missing:
            bulk_create_with_history(missing, AlertRule, default_change_reason="default")
        return len(missing)

    try:
        return atomic_retry(work)
    except IntegrityError:
        return 0  # somebody else made them at the same moment


def default_of(kind: str) -> Wanted:
    """Return the rule that a kind starts with."""
    entry = KINDS[kind]
    return Wanted(
        kind=kind,
        enabled=True,
        severity=entry.severity.value,
        scope=entry.scopes[0].value,
        threshold=entry.threshold.default if entry.threshold else 0.0,
        window_min=entry.window_min,
        minimum=entry.minimum,
    )


def problems_of(wanted: Wanted) -> dict[str, str]:
    """Return what is wrong with a rule, by field; empty when it works."""
    entry = KINDS.get(wanted.kind)
    if entry is None:
        return {"kind": "There is no such kind of rule."}
    found = {}
    if wanted.severity not in Severity.values:
        found["severity"] = "There is no such severity."
    if wanted.scope not in entry.scopes:
        allowed = ", ".join(str(scope.label).lower() for scope in entry.scopes)
        found["scope"] = f"This kind of rule covers {allowed}."
    if wanted.remote_id is not None and wanted.resource_id is not None:
        found["resource"] = "Choose a remote or a resource, not both."
    elif wanted.resource_id is not None and wanted.scope != Scope.RESOURCE:
        found["resource"] = "A rule for one resource covers each resource."
    elif wanted.remote_id is not None and wanted.scope == Scope.ALL:
        found["remote"] = "A rule for one remote covers each remote or each resource."
    limits = entry.threshold
    if limits is not None and not limits.least <= wanted.threshold <= limits.most:
        found["threshold"] = f"Between {limits.least:g} and {limits.most:g} {limits.unit}."
    if entry.window_min and wanted.window_min not in WINDOWS_MIN:
        found["window_min"] = f"One of {', '.join(map(str, WINDOWS_MIN))} minutes."
    if entry.minimum and not 1 <= wanted.minimum <= MOST_MINIMUM:
        found["minimum"] = f"Between 1 and {MOST_MINIMUM:,} attempts."
    return found


def store(row: AlertRule | None, wanted: Wanted, *, actor: Any, reason: str = "admin") -> AlertRule:
    """Make a rule or change one (never its kind); raises RuleInvalid and then has changed nothing."""
    found = problems_of(wanted)
    if found:
        raise RuleInvalid(found)

    def work() -> AlertRule:
        locked = AlertRule() if row is None else AlertRule.objects.select_for_update().get(pk=row.pk)
        narrowed = Q(remote_id=wanted.remote_id) if wanted.remote_id else Q(remote__isnull=True)
        narrowed &= Q(resource_id=wanted.resource_id) if wanted.resource_id else Q(resource__isnull=True)
        same = AlertRule.objects.filter(narrowed, kind=wanted.kind)
        if same.exclude(pk=locked.pk).exists():
            raise RuleInvalid({"kind": "There already is a rule of this kind for the same remote or resource."})
        return _save(locked, wanted, actor=actor, reason=reason)

    return atomic_retry(work)


def remove(row: AlertRule, *, actor: Any) -> None:
    """Remove a rule with its alerts; raises RuleInvalid for the last one of its kind, which can be switched off."""

    def work() -> None:
        locked = AlertRule.objects.select_for_update().get(pk=row.pk)
        if not AlertRule.objects.filter(kind=locked.kind).exclude(pk=locked.pk).exists():
            raise RuleInvalid({"kind": "It is the only rule of its kind; switch it off instead."})
        _by(locked, actor=actor, reason="removed")
        locked.delete()

    atomic_retry(work)


def _save(row: AlertRule, wanted: Wanted, *, actor: Any, reason: str) -> AlertRule:
    names = ("kind", "enabled", "severity", "scope", "remote_id", "resource_id", "threshold", "window_min", "minimum")
    values = {name: getattr(wanted, name) for name in names}
    if row.pk is not None and all(getattr(row, name) == value for name, value in values.items()):
        return row
    for name, value in values.items():
        setattr(row, name, value)
    _by(row, actor=actor, reason=reason)
    row.save()
    return row


def _by(row: Any, *, actor: Any, reason: str) -> None:
    row._history_user = actor if getattr(actor, "pk", None) else None
    row._change_reason = reason[:100]


def as_rules(rows: Iterable[AlertRule]) -> list[Rule]:
    """Return the enabled ones of all rules for judging.

    A narrower rule takes its remote or resource out of a wider one, also when it is off: that is how one is exempted.
    """
    everything = list(rows)
    remotes: dict[str, set[int]] = {}
    resources: dict[str, set[int]] = {}
    for row in everything:
        if row.remote_id is not None:
            remotes.setdefault(row.kind, set()).add(row.remote_id)
        if row.resource_id is not None:
            resources.setdefault(row.kind, set()).add(row.resource_id)
    made = []
    for row in everything:
        if not row.enabled or row.kind not in Kind.values:
            continue
        wide = row.resource_id is None
        made.append(
            Rule(
                id=row.pk, kind=row.kind, scope=row.scope, severity=row.severity, threshold=row.threshold,
                window_min=row.window_min, minimum=row.minimum, remote_id=row.remote_id, resource_id=row.resource_id,
                except_remotes=frozenset(remotes.get(row.kind, ())) if wide and row.remote_id is None else frozenset(),
                except_resources=frozenset(resources.get(row.kind, ())) if wide else frozenset(),
            )
        )  # fmt: skip
    return made
