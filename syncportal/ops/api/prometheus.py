"""/metrics: everything that is counted, for Prometheus, read from the database at each scrape.

Owns: the names. Guarantees: right for any number of web and worker processes, because nothing is counted in a process;
counters only grow. Needs a login or an API key of somebody who sees every record; without one it answers only this
machine, and only while the installation has no public address (a proxy on this machine would look the same).
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Count, Sum
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from reconciliation.models import Discrepancy
from rollback import metrics as compensations
from syncportal.access.keys import Scope
from syncportal.access.permissions import require_scope
from syncportal.kernel.clock import db_now
from syncportal.ops import heartbeat
from syncportal.ops.alerts.models import Alert
from syncportal.ops.alerts.states import LIVE
from syncportal.ops.models import Duty
from syncportal.remote.models import Breaker, Gate, Resource
from syncportal.sync import record_counts
from syncportal.sync.models import Conflict, Rollup
from syncportal.sync.querysets import sees_everything
from syncportal.sync.rollups import BOUNDS_MS, BUCKETS, EVER_S, SUCCEEDED
from syncportal.sync.states import Status

LOOPBACK = frozenset({"127.0.0.1", "::1"})
_LOCAL_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})
_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_PROTO")


class MayScrape(BasePermission):
    """Lets in who sees every record, with a login or a key that may read; or this machine itself."""

    def has_permission(self, request: Request, view: object) -> bool:
        """Tell whether the caller may read the metrics; raises the 403 for a missing scope."""
        if not request.user.is_authenticated:
            return from_here(request)
        require_scope(request, Scope.READ)
        return sees_everything(request.user)


def from_here(request: Request) -> bool:
    """Tell whether the caller is this machine, and cannot be a proxy's client."""
    local = urlsplit(settings.PUBLIC_URL).hostname in _LOCAL_NAMES and not settings.AXES_IPWARE_PROXY_COUNT
    return (
        local and request.META.get("REMOTE_ADDR") in LOOPBACK and not any(name in request.META for name in _FORWARDED)
    )


class MetricsView(APIView):
    """The text that Prometheus scrapes."""

    permission_classes = (MayScrape,)

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Return every metric."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(DatabaseCollector())
        answer = HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
        answer["Cache-Control"] = "no-store"
        return answer


class DatabaseCollector:
    """Reads the metrics from the database when asked."""

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        now = db_now()
        names = {
            pk: (remote, slug)
            for pk, remote, slug in Resource.objects.values_list("pk", "remote__slug", "slug").order_by("pk")
        }
        yield InfoMetricFamily("syncportal", "What is running.", value={"product": "syncportal"})
        yield from _standing(names, record_counts.where_they_stand(now=now))
        yield from _attempts(names)
        yield from _open_items(names)
        yield from _compensations(compensations.as_metrics(compensations.read(now=now)))
        yield from _remotes()
        yield from _workers(heartbeat.seen(now))
        yield from _duties()


_Names = dict[int, tuple[str, str]]


def _standing(names: _Names, standing: dict[int, record_counts.Standing]) -> Iterator[Metric]:
    labels = ["remote", "resource"]
    records = GaugeMetricFamily("syncportal_records", "Records by status.", labels=[*labels, "status"])
    due = GaugeMetricFamily("syncportal_due_records", "Records whose next attempt is due.", labels=labels)
    oldest = GaugeMetricFamily(
        "syncportal_oldest_due_timestamp_seconds", "When the record that waits longest became due.", labels=labels
    )
    for pk, named in names.items():
        one = standing.get(pk, record_counts.Standing())
        for status in Status:
            records.add_metric([*named, status.value], one.counts.get(status, 0))
        due.add_metric(named, one.due)
        if one.oldest_due_at is not None:
            oldest.add_metric(named, one.oldest_due_at.timestamp())
    return iter((records, due, oldest))


def _attempts(names: _Names) -> Iterator[Metric]:
    labels = ["remote", "resource"]
    attempts = CounterMetricFamily(
        "syncportal_attempts", "Attempts by what they came to.", labels=[*labels, "outcome", "error"]
    )
    duration = HistogramMetricFamily(
        "syncportal_attempt_duration_seconds", "Last exchange of the attempts that succeeded.", labels=labels
    )
    ever = Rollup.objects.filter(span_s=EVER_S).order_by()
    for pk, outcome, error, number in ever.values_list("resource_id", "outcome", "error", "attempts"):
        if pk in names:  # else made while this reads
            attempts.add_metric([*names[pk], outcome, error], number)
    good = ever.filter(outcome__in=SUCCEEDED).values_list("resource_id")
    for pk, total_ms, *took in good.annotate(ms=Sum("total_ms"), **{f"sum_{name}": Sum(name) for name in BUCKETS}):
        bounds = [*(str(bound / 1000) for bound in BOUNDS_MS), "+Inf"]
        sums = [int(sum(took[: place + 1])) for place in range(len(took))]
        if pk in names:
            duration.add_metric(names[pk], buckets=list(zip(bounds, sums, strict=True)), sum_value=int(total_ms) / 1000)
    return iter((attempts, duration))


def _open_items(names: _Names) -> Iterator[Metric]:
    labels = ["remote", "resource"]
    conflicts = GaugeMetricFamily("syncportal_open_conflicts", "Conflicts that wait for a person.", labels=labels)
    differences = GaugeMetricFamily(
        "syncportal_open_discrepancies", "Confirmed differences that are open.", labels=labels
    )
    for family, rows in ((conflicts, Conflict.objects.open()), (differences, Discrepancy.objects.open())):
        found = dict(rows.order_by().values_list("resource_id").annotate(number=Count("pk")))
        for pk, named in names.items():
            family.add_metric(named, found.get(pk, 0))
    alerts = GaugeMetricFamily("syncportal_open_alerts", "Alerts that are not over, by severity.", labels=["severity"])
    live = Alert.objects.filter(state__in=sorted(LIVE)).order_by().values_list("severity")
    for severity, number in live.annotate(number=Count("pk")):
        alerts.add_metric([severity], number)
    return iter((conflicts, differences, alerts))


def _compensations(numbers: dict[str, float]) -> Iterator[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    for name, value in numbers.items():
        bare, _, label = name.partition('{outcome="')
        if bare not in families:
            families[bare] = GaugeMetricFamily(
                f"syncportal_{bare}", "Compensating tasks.", labels=["outcome"] if label else None
            )
        families[bare].add_metric([label.removesuffix('"}')] if label else [], value)
    return iter(families.values())


def _remotes() -> Iterator[Metric]:
    breaker = GaugeMetricFamily("syncportal_breaker_open", "1 while a remote's breaker is open.", labels=["remote"])
    paused = GaugeMetricFamily("syncportal_remote_paused", "1 while a remote is paused.", labels=["remote"])
    for slug, state, stopped in Gate.objects.order_by("pk").values_list("remote__slug", "breaker", "paused"):
        breaker.add_metric([slug], state == Breaker.OPEN)
        paused.add_metric([slug], stopped)
    return iter((breaker, paused))


def _workers(workers: tuple[heartbeat.Worker, ...]) -> Iterator[Metric]:
    alive = GaugeMetricFamily("syncportal_workers_alive", "Supervisors that beat.")
    alive.add_metric([], sum(worker.alive for worker in workers))
    seen = GaugeMetricFamily("syncportal_worker_seen_timestamp_seconds", "Last heartbeat.", labels=["worker"])
    restarts = GaugeMetricFamily("syncportal_worker_restarts", "How often the pool was restarted.", labels=["worker"])
    for worker in workers:
        seen.add_metric([worker.name], worker.seen_at.timestamp())
        restarts.add_metric([worker.name], worker.restarts)
    return iter((alive, seen, restarts))


def _duties() -> Iterator[Metric]:
    begun = GaugeMetricFamily("syncportal_duty_begun_timestamp_seconds", "When a duty last began.", labels=["duty"])
    fine = GaugeMetricFamily("syncportal_duty_ok", "1 when a duty's last run went well.", labels=["duty"])
    for duty in Duty.objects.all():
        fine.add_metric([duty.name], duty.last_ok)
        if duty.last_started_at is not None:
            begun.add_metric([duty.name], duty.last_started_at.timestamp())
    return iter((begun, fine))
