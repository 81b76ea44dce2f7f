"""Health: /healthz says that this process answers, /readyz that the installation can work.

Guarantees: no login, no details that help a stranger, never a stack trace; 503 names each part that is missing.
Does not: reach remotes; a master that is down is no reason to restart us.
"""

from collections.abc import Callable

import structlog
from django.db import Error as DatabaseTrouble
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from syncportal.kernel.clock import db_now
from syncportal.ops import heartbeat

log = structlog.get_logger(__name__)

OK = "ok"
_seen_migrated: set[str] = set()


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether database, migrations and a worker are there; 503 when not."""
    checks = readiness()
    ready = all(answer == OK for answer in checks.values())
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


def readiness() -> dict[str, str]:
    """Return "ok", or what is missing, for each part."""
    database = _asked(_database)
    if database != OK:
        return {"database": database, "migrations": "unknown", "worker": "unknown"}
    migrations = _asked(_migrations)
    return {
        "database": database,
        "migrations": migrations,
        "worker": _asked(_worker) if migrations == OK else "unknown",
    }


def pending_migrations() -> list[str]:
    """Return the migrations that are not applied yet."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def _asked(part: Callable[[], str]) -> str:
    try:
        return part()
    except DatabaseTrouble:
        log.exception("readyz.database")
        connection.close()
        return "unreachable"


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return OK if cursor.fetchone() == (1,) else "unreachable"


def _migrations() -> str:
    """Look once: what this process's code needs does not change, and migrations are not taken back while it runs."""
    name = str(connection.settings_dict["NAME"])
    if name not in _seen_migrated:
        if pending_migrations():
            return "pending"
        _seen_migrated.add(name)
    return OK


def _worker() -> str:
    return OK if heartbeat.alive(db_now()) else "no heartbeat"
