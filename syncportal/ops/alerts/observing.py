"""Reads what rules look at, once for all of them.

Guarantees: at most one query for each kind of number, however many rules, remotes, resources and records there are;
nothing is locked. Does not: judge.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min, Q

from reconciliation.models import Discrepancy, Run
from reconciliation.states import RunState
from reconciliation.states import Scope as RunScope
from rollback import metrics as compensations
from rollback.models import CompensatingTask
from rollback.states import TaskStatus
from syncportal.ops import heartbeat
from syncportal.ops.alerts import outcomes
from syncportal.ops.alerts.judging import Counted, DutySeen, Observed, ResourceSeen, Rule, Stopped
from syncportal.ops.alerts.kinds import Kind
from syncportal.ops.alerts.models import Delivery
from syncportal.ops.alerts.states import DeliveryState
from syncportal.ops.models import Duty, Heartbeat
from syncportal.remote.models import Breaker, Gate, Remote, Resource
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.states import Status

GIVEN_UP_WITHIN = timedelta(days=1)
MANY_ATTEMPTS = 4
_REFUSED = "unauthorized"  # the gate's reason when the machine paused a remote over its credential


def observe(rules: Iterable[Rule], *, now: datetime) -> Observed:
    """Read what these rules need, at `now`, the database's time."""
    wanted = list(rules)
    kinds = {rule.kind for rule in wanted}
    resources = list(Resource.objects.only("pk", "name", "slug", "remote_id"))
    last_beat = Heartbeat.objects.aggregate(at=Max("beat_at"))["at"]
    return Observed(
        now=now,
        remotes={row.pk: str(row) for row in Remote.objects.only("pk", "name", "slug")},
        resources={row.pk: ResourceSeen(str(row), row.remote_id) for row in resources},
        outcomes=outcomes.in_windows(_windows(wanted), now=now),
        hours=outcomes.by_hour([row.pk for row in resources], now=now) if Kind.ERROR_SPIKE in kinds else {},
        due=_due(now) if Kind.OLDEST_DUE in kinds else {},
        leases_over=_leases_over(now) if Kind.LEASE_OVER in kinds else {},
        dead_letters=_dead_letters() if Kind.DEAD_LETTERS in kinds else {},
        failed_undos=_failed_undos() if Kind.FAILED_UNDOS in kinds else {},
        conflicts=_conflicts() if Kind.CONFLICTS_WAITING in kinds else {},
        discrepancies=_discrepancies() if Kind.DISCREPANCIES in kinds else {},
        braked=_braked() if Kind.RECONCILIATION_BRAKED in kinds else {},
        stopped=_stopped(),
        worker_alive=heartbeat.alive(now),
        worker_seen_at=last_beat,
        duties=tuple(_duties()) if Kind.SCHEDULE_NOT_RUN in kinds else (),
        given_up=_given_up(now) if Kind.DELIVERIES_FAILING in kinds else None,
    )


def _windows(rules: Collection[Rule]) -> set[int]:
    return {rule.window_min for rule in rules if rule.kind == Kind.SUCCESS_RATE}


def _by(rows: Iterable[tuple[int, int, datetime]]) -> dict[int, Counted]:
    return {one: Counted(number, since) for one, number, since in rows}


def _due(now: datetime) -> dict[int, Counted]:
    rows = SyncJob.objects.due(now).order_by().values_list("remote_id")
    return _by(rows.annotate(number=Count("pk"), since=Min("due_at")))


def _leases_over(now: datetime) -> dict[int, Counted]:
    """Return jobs and undos whose lease ended while they were in processing, by remote."""
    jobs = SyncJob.objects.filter(status=Status.PROCESSING, lease_until__lt=now).order_by().values_list("remote_id")
    found = _by(jobs.annotate(number=Count("pk"), since=Min("lease_until")))
    tasks = CompensatingTask.objects.filter(status=TaskStatus.PROCESSING, lease_until__lt=now).order_by()
    undos = tasks.values_list("resource__remote_id").annotate(number=Count("pk"), since=Min("lease_until"))
    for remote_id, more in _by(undos).items():
        one = found.get(remote_id, Counted(0, more.since))
        found[remote_id] = Counted(one.number + more.number, min(one.since, more.since))
    return found


def _dead_letters() -> dict[int, Counted]:
    rows = SyncJob.objects.filter(status=Status.DEAD_LETTER, record__deleted_at__isnull=True).order_by()
    return _by(rows.values_list("resource_id").annotate(number=Count("pk"), since=Min("status_since")))


def _failed_undos() -> dict[int, Counted]:
    rows = CompensatingTask.objects.filter(compensations.WAITING_FOR_PERSON).order_by()
    return _by(rows.values_list("resource_id").annotate(number=Count("pk"), since=Min("updated_at")))


def _conflicts() -> dict[int, Counted]:
    """Return the open conflicts that were handed to operations, because nobody decided them in time."""
    rows = Conflict.objects.open().filter(escalated_at__isnull=False, record__deleted_at__isnull=True).order_by()
    return _by(rows.values_list("resource_id").annotate(number=Count("pk"), since=Min("created_at")))


def _discrepancies() -> dict[int, Counted]:
    rows = Discrepancy.objects.open().order_by().values_list("resource_id")
    return _by(rows.annotate(number=Count("pk"), since=Min("found_at")))


def _braked() -> dict[int, Counted]:
    """Return the resources whose last complete run ended with the brake held."""
    complete = Run.objects.filter(scope=RunScope.ALL, state__in=(RunState.FINISHED, RunState.BRAKED)).order_by()
    last = complete.values("resource_id").annotate(last=Max("pk")).values("last")
    rows = Run.objects.filter(pk__in=last, state=RunState.BRAKED).order_by()
    return _by(rows.values_list("resource_id").annotate(number=Count("pk"), since=Min("started_at")))


def _stopped() -> dict[int, Stopped]:
    found = {}
    for gate in Gate.objects.filter(Q(paused=True) | Q(breaker=Breaker.OPEN)):
        if gate.paused and gate.paused_at is not None:
            why = "credential" if gate.pause_reason == _REFUSED else "by_hand"
            found[gate.remote_id] = Stopped(why, gate.paused_at, gate.pause_detail)
        elif gate.breaker == Breaker.OPEN:
            found[gate.remote_id] = Stopped("breaker", gate.opened_at or gate.updated_at, gate.last_error)
    return found


def _duties() -> Iterable[DutySeen]:
    for row in Duty.objects.filter(paused_at__isnull=True):  # a person has answered for a paused one
        yield DutySeen(row.name, row.every_s, row.last_started_at, row.failures, row.last_result)


def _given_up(now: datetime) -> Counted | None:
    given_up = Q(state=DeliveryState.FAILED, ended_at__gte=now - GIVEN_UP_WITHIN)
    refused = Q(state=DeliveryState.PENDING, attempts__gte=MANY_ATTEMPTS)
    found = Delivery.objects.filter(given_up | refused).aggregate(number=Count("pk"), since=Min("created_at"))
    return Counted(found["number"], found["since"]) if found["number"] else None
