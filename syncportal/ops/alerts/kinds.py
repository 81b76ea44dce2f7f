"""What can be watched: every kind of rule, what it looks at, what it starts with, and what people read about it.

Owns: the catalogue; rules in the database are settings for its entries. Does not: judge; judging.py does.
"""

from dataclasses import dataclass

from django.db import models

from syncportal.ops.alerts.states import Severity


class Scope(models.TextChoices):
    """What one alert of a rule covers."""

    ALL = "all", "Everything together"
    REMOTE = "remote", "Each remote"
    RESOURCE = "resource", "Each resource"


class Kind(models.TextChoices):
    """What a rule watches."""

    SUCCESS_RATE = "success_rate", "Success rate"
    ERROR_SPIKE = "error_spike", "More errors than usual"
    OLDEST_DUE = "oldest_due", "Work waits too long"
    LEASE_OVER = "lease_over", "Stuck in processing"
    DEAD_LETTERS = "dead_letters", "Dead letters"
    FAILED_UNDOS = "failed_undos", "Failed undos"
    BREAKER_OPEN = "breaker_open", "Remote is down"
    CREDENTIAL_REFUSED = "credential_refused", "Credential refused"
    CONFLICTS_WAITING = "conflicts_waiting", "Conflicts nobody decides"
    DISCREPANCIES = "discrepancies", "Discrepancies"
    RECONCILIATION_BRAKED = "reconciliation_braked", "Reconciliation brake"
    NO_WORKER = "no_worker", "No worker is running"
    SCHEDULE_NOT_RUN = "schedule_not_run", "Timetable is behind"
    DELIVERIES_FAILING = "deliveries_failing", "Notices do not arrive"


@dataclass(frozen=True, slots=True)
class Threshold:
    """The number at which a rule speaks: its unit, what it starts with, what a person may set, and how it is said."""

    unit: str
    default: float
    least: float
    most: float
    words: str = "{:g} or more"
    zero_words: str = ""

    def shown(self, value: float) -> str:
        """Return a limit as people read it."""
        return self.zero_words if not value and self.zero_words else self.words.format(value)


@dataclass(frozen=True, slots=True)
class RuleKind:
    """One kind of rule. window_min and minimum are 0 where the kind has none.

    looks_at: what is compared; system: what happens by itself meanwhile; person: what somebody can do.
    """

    kind: Kind
    severity: Severity
    scopes: tuple[Scope, ...]
    looks_at: str
    system: str
    person: str
    threshold: Threshold | None = None
    window_min: int = 0
    minimum: int = 0

    @property
    def label(self) -> str:
        """Return what people call it."""
        return str(self.kind.label)


WINDOWS_MIN: tuple[int, ...] = (5, 15, 60, 360, 1440)
_ANY = (Scope.RESOURCE, Scope.REMOTE, Scope.ALL)
_PER_REMOTE = (Scope.REMOTE, Scope.ALL)

_CATALOGUE: tuple[RuleKind, ...] = (
    RuleKind(
        Kind.SUCCESS_RATE, Severity.WARNING, _ANY,
        "The share of finished attempts that succeeded, in the window; judged from the minimum of attempts on.",
        "What can be tried again is tried again; what was refused for good waits for a person.",
        "Look at the failed exchanges: one cause is behind most of them. Mend it, then requeue what stopped.",
        Threshold("percent", 90, 1, 100, "below {:g} %"), window_min=15, minimum=20,
    ),
    RuleKind(
        Kind.ERROR_SPIKE, Severity.WARNING, _ANY,
        "The share of failed attempts of the last hour against the usual one at this hour of the week; every hour.",
        "Attempts go on as usual; the usual level is learnt from the last four weeks.",
        "Look at the failed exchanges of the last hour, and at what changed at the remote or here.",
        Threshold("times the usual", 3, 1.5, 100, "over {:g}× the usual"), minimum=20,
    ),
    RuleKind(
        Kind.OLDEST_DUE, Severity.WARNING, _PER_REMOTE,
        "How long the oldest due job has waited for a worker. Held jobs are not due; stopped remotes are not judged.",
        "Nothing is lost: the jobs are the queue, and the next free worker takes the oldest first.",
        "See whether workers run and what they are busy with; start more, or raise the remote's limits.",
        Threshold("minutes", 5, 0.5, 10_080, "over {:g} min"),
    ),
    RuleKind(
        Kind.LEASE_OVER, Severity.CRITICAL, _PER_REMOTE,
        "Jobs and undos still in processing although the lease of their worker ended so long ago.",
        "The sweep takes such jobs back every minute; that this one stands means that the sweep does not run.",
        "Restart the worker, then look at its log.",
        Threshold("minutes", 3, 1, 1440, "over {:g} min"),
    ),
    RuleKind(
        Kind.DEAD_LETTERS, Severity.WARNING, (Scope.REMOTE, Scope.RESOURCE, Scope.ALL),
        "Records whose attempts are used up.",
        "Nothing: a dead letter is not tried again by itself, and is never thrown away.",
        "Mend the cause, then requeue them.",
        Threshold("records", 1, 1, 1_000_000),
    ),
    RuleKind(
        Kind.FAILED_UNDOS, Severity.CRITICAL, (Scope.REMOTE, Scope.RESOURCE, Scope.ALL),
        "Steps of grouped updates that could not be undone and wait for a person.",
        "Their records are held, so that nothing overwrites them meanwhile. They are not tried again by themselves.",
        "Retry, force the restore, decide the conflict, or close the task with a reason.",
        Threshold("tasks", 1, 1, 1_000_000),
    ),
    RuleKind(
        Kind.BREAKER_OPEN, Severity.CRITICAL, _PER_REMOTE,
        "Remotes that do not answer, so that their breaker is open, for so long.",
        "No calls go out but one probe in a while; edits are kept and go out when the remote answers. No attempt is "
        "counted, and alerts about its records are held back.",
        "See whether the remote is up and reachable from here. Once it answers, everything goes on by itself.",
        Threshold("minutes", 0, 0, 1440, "for {:g} min", "at once"),
    ),
    RuleKind(
        Kind.CREDENTIAL_REFUSED, Severity.CRITICAL, _PER_REMOTE,
        "Remotes that refused our credential and are paused for it.",
        "All calls to the remote are paused; edits are kept and go out after it is resumed. No attempt is counted.",
        "Correct the credential, test the connection, then resume the remote.",
    ),
    RuleKind(
        Kind.CONFLICTS_WAITING, Severity.WARNING, _ANY,
        "Open conflicts handed to operations: older than the resource's escalate_after_h, or without an owner.",
        "The records are not sent until somebody decides; both sides keep their values.",
        "Decide them, or give the records to somebody who can.",
        Threshold("conflicts", 1, 1, 1_000_000),
    ),
    RuleKind(
        Kind.DISCREPANCIES, Severity.WARNING, _ANY,
        "Confirmed differences between both sides that are open.",
        "What the resource's repair policy allows is repaired; these are left to a person. One that a later run no "
        "longer finds closes itself.",
        "Look at the differences and choose for each side, or change the resource's repair policy.",
        Threshold("discrepancies", 1, 1, 1_000_000),
    ),
    RuleKind(
        Kind.RECONCILIATION_BRAKED, Severity.CRITICAL, _ANY,
        "Resources whose last complete reconciliation found so many differences that it stopped repairing.",
        "Nothing more is repaired: a broken list is more likely than so many real differences.",
        "See whether the remote's list is complete. If it is, decide the discrepancies, or raise brake_percent and run "
        "again.",
    ),
    RuleKind(
        Kind.NO_WORKER, Severity.CRITICAL, (Scope.ALL,),
        "Whether any worker's heartbeat is younger than 30 seconds.",
        "Edits are kept, but nothing is sent and no notice leaves. The dashboard and the list of alerts compute this "
        "themselves, and /readyz answers 503.",
        "Start one: manage.py runworker.",
    ),
    RuleKind(
        Kind.SCHEDULE_NOT_RUN, Severity.WARNING, (Scope.ALL,),
        "Duties that have not begun for twice their interval and so many minutes more, or failed three times in a row.",
        "The supervisor rings for what is overdue every ten seconds.",
        "Look at the result of the duty's last run and at the worker's log.",
        Threshold("minutes", 5, 1, 1440, "over {:g} min"),
    ),
    RuleKind(
        Kind.DELIVERIES_FAILING, Severity.WARNING, (Scope.ALL,),
        "Notices that were given up within a day, or that their channel has not taken in four attempts.",
        "Other channels are told as usual; a notice that was given up is kept and can be sent again.",
        "Send a test over the channel, correct its address or secret, then send the notices again.",
        Threshold("notices", 1, 1, 1_000_000),
    ),
)  # fmt: skip
KINDS: dict[str, RuleKind] = {entry.kind.value: entry for entry in _CATALOGUE}

HOURLY = frozenset({Kind.ERROR_SPIKE.value})
REMOTE_DOWN = frozenset({Kind.BREAKER_OPEN.value, Kind.CREDENTIAL_REFUSED.value})
"""Kinds that say that a remote is down; they hold back the notices of `FOLLOWS_REMOTE` about the same remote."""
FOLLOWS_REMOTE = frozenset(
    {
        Kind.SUCCESS_RATE.value,
        Kind.ERROR_SPIKE.value,
        Kind.OLDEST_DUE.value,
        Kind.DEAD_LETTERS.value,
        Kind.DISCREPANCIES.value,
    }
)
FOLLOWS_WORKER = frozenset({Kind.OLDEST_DUE.value, Kind.LEASE_OVER.value, Kind.SCHEDULE_NOT_RUN.value})
"""Kinds held back while no worker runs."""
