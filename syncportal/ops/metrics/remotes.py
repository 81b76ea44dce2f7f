"""How each remote is doing: whether calls go out, its last connection test, what waits for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from syncportal.ops.metrics.scope import Scope
from syncportal.remote.limits import BREAKER_OPEN, PAUSED
from syncportal.remote.models import Breaker, Gate, Remote, Resource
from syncportal.sync.record_counts import Standing
from syncportal.sync.states import CLAIMABLE

RUNNING = "running"
MOST = 50


@dataclass(frozen=True, slots=True)
class RemoteState:
    """A remote: `calls` is running, paused or breaker_open, since when and until when; `waiting` counts its backlog."""

    id: int
    slug: str
    name: str
    calls: str
    detail: str
    since: datetime | None
    until: datetime | None
    last_check: str
    last_check_label: str
    last_check_ms: int | None
    last_check_at: datetime | None
    waiting: int
    due: int
    oldest_due_at: datetime | None


def read(scope: Scope, *, standing: Mapping[int, Standing]) -> tuple[RemoteState, ...]:
    """Return the scope's remotes, the troubled ones first."""
    rows = Remote.objects.select_related("gate").defer("secret", "config").order_by("slug")
    chosen = scope.remote or (scope.resource.remote if scope.resource else None)
    if chosen is not None:
        rows = rows.filter(pk=chosen.pk)
    owns: dict[int, list[Standing]] = {}
    for resource_id, remote_id in Resource.objects.order_by().values_list("pk", "remote_id"):
        if resource_id in standing:
            owns.setdefault(remote_id, []).append(standing[resource_id])
    found = [_state(row, owns.get(row.pk, [])) for row in rows[:MOST]]
    return tuple(sorted(found, key=lambda remote: (remote.calls == RUNNING, remote.slug)))


def _state(row: Remote, standing: list[Standing]) -> RemoteState:
    gate: Gate | None = getattr(row, "gate", None)
    calls, detail, since, until = RUNNING, "", None, None
    if gate is not None and gate.paused:
        calls, detail, since = PAUSED, gate.pause_detail or gate.pause_reason, gate.paused_at
    elif gate is not None and gate.breaker == Breaker.OPEN:
        calls, detail, since, until = BREAKER_OPEN, gate.last_error, gate.opened_at, gate.open_until
    return RemoteState(
        id=row.pk,
        slug=row.slug,
        name=str(row),
        calls=calls,
        detail=detail,
        since=since,
        until=until,
        last_check=gate.last_check if gate else "",
        last_check_label=str(gate.get_last_check_display()) if gate and gate.last_check else "",
        last_check_ms=gate.last_check_ms if gate else None,
        last_check_at=gate.last_check_at if gate else None,
        waiting=sum(one.counts.get(status, 0) for one in standing for status in CLAIMABLE),
        due=sum(one.due for one in standing),
        oldest_due_at=min((one.oldest_due_at for one in standing if one.oldest_due_at), default=None),
    )
