"""A big installation in set-based SQL: a million records, millions of exchanges, and all that goes with it.

Owns: the mix of statuses, outcomes and ages. Guarantees: the roll-ups are summed up from the sync log by SQL of its
own, not by the product. The numbers depend on the sizes only.
"""

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.db import connection

from syncportal.remote.models import Gate, Remote, Resource
from syncportal.sync import rollups

REMOTES, RESOURCES, OWNERS = 3, 10, 40
DAYS = 35
CODES = ("http_503", "timeout", "http_500", "http_422", "dns", "http_409", "schema", "connection_refused")


def postgres() -> bool:
    """Tell which of the two databases this is."""
    return connection.vendor == "postgresql"


def run(*statements: str) -> None:
    """Run some statements."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def numbers(count: int) -> str:
    """Return a source of the rows n = 1 … count."""
    if postgres():
        return f"generate_series(1, {count}) AS s(n)"
    return f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c) AS s"


def ago(seconds: str) -> str:
    """Return the moment that lies so many seconds (an SQL expression) in the past."""
    if postgres():
        return f"now() - ({seconds}) * interval '1 second'"
    # As Django writes times, down to the microsecond: without the fraction a text comparison goes wrong.
    return f"strftime('%Y-%m-%d %H:%M:%S', 'now', '-' || ({seconds}) || ' seconds') || '.000001'"


def pick(expression: str, choices: Iterable[tuple[int, str]]) -> str:
    """Return the choice of a number from 0 to 999; the shares are thousandths, the last one takes the rest."""
    cases, limit = "", 0
    options = list(choices)
    for share, value in options[:-1]:
        limit += share
        cases += f" WHEN ({expression}) % 1000 < {limit} THEN {value}"
    return f"CASE{cases} ELSE {options[-1][1]} END"


def connections() -> None:
    """Make remotes, resources and owners."""
    for number in range(1, REMOTES + 1):
        remote = Remote.objects.create(slug=f"remote-{number}", name=f"Remote {number}", base_url="http://127.0.0.1:1")
        Gate.objects.create(remote=remote)
    remotes = list(Remote.objects.order_by("pk"))
    for number in range(1, RESOURCES + 1):
        Resource.objects.create(
            remote=remotes[number % REMOTES], slug=f"resource-{number}", name=f"Resource {number}", config={}
        )
    User.objects.bulk_create([User(username=f"owner-{number}", is_staff=True) for number in range(1, OWNERS + 1)])


def records(count: int) -> None:
    """Make records with their jobs: 94 % agree, one in a hundred is deleted, a few wait or stand still."""
    first = Resource.objects.order_by("pk").values_list("pk", flat=True)[0]
    owner = User.objects.filter(username="owner-1").values_list("pk", flat=True)[0]
    mix = [(900, "'SYNCED'"), (40, "'SKIPPED'"), (30, "'RETRY_PENDING'"), (10, "'PENDING'"), (10, "'ERROR'"),
           (5, "'VALIDATION_FAILED'"), (3, "'VERSION_CONFLICT'"), (2, "'DEAD_LETTER'")]  # fmt: skip
    status = pick("r.id % 1000 * 919", mix)
    waits = f"({status}) IN ('PENDING', 'RETRY_PENDING')"
    false = "false" if postgres() else "0"
    cast = "::jsonb" if postgres() else ""
    # Scattered, so that every owner has every status and outcome.
    whose = f"{owner} + n / 25 * 2654435761 % 4294967296 / 100 % {OWNERS}"
    data = f"""('{{"id": "X-' || n || '", "name": "Account ' || n || '", "credit": ' || (n % 1000) || '}}'){cast}"""
    run(
        f"""INSERT INTO sync_record (resource_id, external_id, title, data, base, version, revision, intent, owner_id,
              content_hash, synced_at, deleted_at, created_at, updated_at)
            SELECT {first} + n * 31 % {RESOURCES}, 'X-' || n, 'Account ' || n, {data}, {data}, '1', 1, 'update',
              CASE WHEN n % 25 = 0 THEN {whose} END, '', {ago("n % 86400")},
              CASE WHEN n % 100 = 7 THEN {ago("n % 864000")} END, {ago("3000000")}, {ago("n % 2592000")}
            FROM {numbers(count)}""",
        f"""INSERT INTO sync_syncjob (record_id, remote_id, resource_id, status, reason, detail, attempts, max_attempts,
              due_at, claim_no, claimed_by, in_doubt, sends, idempotency_key, key_for, rebases, worker_deaths, held_by,
              correlation_id, status_since, updated_at)
            SELECT r.id, x.remote_id, x.id, CASE WHEN r.deleted_at IS NULL THEN {status} ELSE 'SYNCED' END, '', '',
              0, 4,
              CASE WHEN r.deleted_at IS NULL AND {waits} THEN {ago("r.id % 900")} END,
              1, '', {false}, '[]', '', '', 0, 0, '', '', {ago("r.id % 900000")}, {ago("r.id % 900000")}
            FROM sync_record r JOIN remote_resource x ON x.id = r.resource_id""",
    )


def logs(count: int, *, records: int) -> None:
    """Make exchanges of the last 35 days, evenly; 93 % of the attempts succeed, one exchange in ten is not the last."""
    first = Resource.objects.order_by("pk").values_list("pk", flat=True)[0]
    left = f"({count} - n) * {DAYS * 86400}.0 / {count}"
    outcome = pick("n % 1000 * 919", [(880, "'complete'"), (50, "'skip'"), (40, "'retry_later'"), (10, "'fail'"),
                                (5, "'reject'"), (5, "'give_up'"), (5, "'postpone'"), (5, "'rebase'")])  # fmt: skip
    code = (
        "CASE n % 13 " + " ".join(f"WHEN {i} THEN '{code}'" for i, code in enumerate(CODES)) + f" ELSE '{CODES[0]}' END"
    )
    final = "n / 10 % 10 <> 3" if postgres() else "(n / 10 % 10 <> 3)"
    run(
        f"""INSERT INTO sync_synclog (record_id, resource_id, at, claim_no, attempt, purpose, method, url,
              request_headers, request_body, http_status, response_headers, response_body, response_bytes,
              duration_ms, outcome, final, error_kind, error_code, detail, verdicts, correlation_id)
            SELECT r, {first} + r * 31 % {RESOURCES}, {ago("l")}, 1, 1, 'write', 'PUT', 'http://127.0.0.1:1/x/' || r,
              '{{}}', '{{"id": 1}}', 200, '{{}}', '{{"id": 1}}', 9, 20 + n * 37 % 400 + CASE WHEN n % 50 = 0 THEN 3000
              ELSE 0 END, o, f, CASE WHEN o IN ('complete', 'skip', 'rebase') OR NOT f THEN '' ELSE 'server_fault' END,
              CASE WHEN o IN ('complete', 'skip', 'rebase') OR NOT f THEN '' ELSE c END,
              CASE WHEN o IN ('complete', 'skip', 'rebase') THEN '' ELSE 'The remote answered with an error.' END,
              '[]', ''
            FROM (SELECT n, 1 + n * 13 % {records} AS r, {left} AS l, {outcome} AS o, {code} AS c, {final} AS f
                  FROM {numbers(count)}) AS rows"""
    )


def events(count: int, *, records: int) -> None:
    """Make events of the worker."""
    data = "'{\"attempt\": 1}'"
    run(
        f"""INSERT INTO sync_event (at, kind, record_id, resource_id, actor_kind, actor_label, data, correlation_id,
              seal)
            SELECT {ago(f"({count} - n) * {DAYS * 86400}.0 / {count}")},
              {pick("n % 1000 * 919", [(900, "'sync.succeeded'"), (95, "'sync.failed'"), (5, "'sync.dead_lettered'")])},
              1 + n * 13 % {records}, NULL, 'worker', 'worker', {data}, '', '' FROM {numbers(count)}"""
    )


def conflicts(count: int) -> None:
    """Open a conflict for each record that stands in one, and remember `count` that were resolved."""
    columns = (
        "record_id, resource_id, state, reason, local, fields, revision, created_at, updated_at, resolution, choices"
    )
    run(
        f"""INSERT INTO sync_conflict ({columns}) SELECT 1 + n, (SELECT min(id) FROM remote_resource), 'resolved',
              'concurrent_edit', '{{}}', '["/name"]', 1, {ago("2000000")}, {ago("1000000")}, 'use_remote', '{{}}'
            FROM {numbers(count)}""",
        f"""INSERT INTO sync_conflict ({columns}) SELECT r.id, r.resource_id, 'open', 'concurrent_edit', '{{}}',
              '["/name"]', 1, {ago("r.id % 90000")}, {ago("60")}, '', '{{}}'
            FROM sync_record r JOIN sync_syncjob j ON j.record_id = r.id WHERE j.status = 'VERSION_CONFLICT'""",
    )


def groups(count: int) -> None:
    """Make requests of one group with one step; a third of them was undone, some tasks wait for a person."""
    user = User.objects.order_by("pk").values_list("pk", flat=True)[0]
    status = pick("q.id % 1000 * 919", [(660, "'applied'"), (325, "'compensated'"), (15, "'needs_attention'")])
    ended = "CASE WHEN g.status = 'compensated' THEN 'succeeded' ELSE 'failed_permanent' END"
    reason = "CASE WHEN g.status = 'compensated' THEN '' WHEN g.id % 5 = 0 THEN 'gone' ELSE 'closed' END"
    uuid = "gen_random_uuid()" if postgres() else "lower(hex(randomblob(16)))"
    false = "false" if postgres() else "0"
    run(
        f"""INSERT INTO rollback_groupedupdate (request_id, user_id, actor_kind, actor_label, body_hash, correlation_id,
              created_at)
            SELECT 'req-' || n, {user}, 'user', '', '', '', {ago(f"{count} - n")} FROM {numbers(count)}""",
        f"""INSERT INTO rollback_group (request_id, group_id, position, status, inline, claim_no, created_at,
              updated_at)
            SELECT q.id, 'g1', 0, {status}, {false}, 1, q.created_at, q.created_at FROM rollback_groupedupdate q""",
        f"""INSERT INTO rollback_step (group_id, position, record_id, resource_id, occurrence_id, changes, status, key,
              placeholder)
            SELECT g.id, 0, r.id, r.resource_id, r.external_id, '{{}}', 'applied', '', {false}
            FROM rollback_group g JOIN sync_record r ON r.id = g.id""",
        f"""INSERT INTO rollback_compensatingtask (task_id, step_id, record_id, resource_id, request_id, group_id,
              occurrence_id, snapshot, applied, unknown, status, reason, attempts, max_attempts, outstanding,
              weaker_promise, force, claim_no, created_at, updated_at)
            SELECT {uuid}, s.id, s.record_id, s.resource_id, 'req-' || g.id, g.group_id, s.occurrence_id, '{{}}',
              '{{}}', {false}, {ended}, {reason}, 1, 10, '[]', '', {false}, 1, g.created_at, g.created_at
            FROM rollback_group g JOIN rollback_step s ON s.group_id = g.id WHERE g.status <> 'applied'""",
    )


def sums() -> None:
    """Sum the final exchanges up, as the product would have while they were written."""
    for span_s in rollups.SPANS_S:
        size = span_s or 10**12
        begin = (
            f"to_timestamp(floor(extract(epoch FROM at) / {size}) * {size})"
            if postgres()
            else f"strftime('%Y-%m-%d %H:%M:%S', CAST(strftime('%s', at) AS INTEGER) / {size} * {size}, 'unixepoch')"
        )
        low, buckets = -1, []
        for bound in (*rollups.BOUNDS_MS, 10**9):
            buckets.append(f"SUM(CASE WHEN duration_ms > {low} AND duration_ms <= {bound} THEN 1 ELSE 0 END)")
            low = bound
        counted = ", ".join(f"'{name}'" for name in sorted(rollups.COUNTED))
        run(
            f"""INSERT INTO sync_rollup ({", ".join(rollups.KEY)}, attempts, total_ms, {", ".join(rollups.BUCKETS)})
                SELECT {span_s}, {begin}, resource_id, outcome,
                  CASE WHEN error_code <> '' THEN error_code ELSE error_kind END, COUNT(*), SUM(duration_ms),
                  {", ".join(buckets)}
                FROM sync_synclog WHERE final AND outcome IN ({counted}) GROUP BY 1, 2, 3, 4, 5"""
        )


def analyze() -> None:
    """Let the database learn what it holds."""
    run("VACUUM ANALYZE" if postgres() else "ANALYZE")
