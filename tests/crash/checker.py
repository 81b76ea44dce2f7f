"""Judges one run from the remote's log, the rows and what was said; knows nothing of the engine's code.

A violation is a sentence. Rules: every object is at its snapshot, or fully applied with all others, or holds a third
party's value, or is under an open item; no write of ours overwrote what its sender had not read, and no undo a third
party's value; `rolledBack: true` was never false, when it was said or afterwards; applied means applied; nothing is
held for nobody; a record's base is what the remote held at that version.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.crash import database
from tests.crash.remote import Author, FakeRemote, Landed
from tests.crash.scenario import START, WANTED, Mode
from tests.crash.world import Said, World

ABSENT = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the system's own books say. status: None when there are no books; items: objects with an open item."""

    status: str | None
    items: frozenset[str]


def violations(world: World) -> list[str]:
    """Return everything that is wrong with a finished run of ours."""
    evidence, found = books(world)
    return [*world.problems, *found, *judge(world.remote, world.objects, evidence, world.said, world.mode)]


def judge(
    remote: FakeRemote, objects: Sequence[str], evidence: Evidence, said: Sequence[Said], mode: Mode
) -> list[str]:
    """Return what is wrong at the remote, given the books: the same for us and for the negative controls."""
    found = _all_or_nothing(remote, objects, evidence)
    if mode.conditional:
        found += [text for landed in remote.log if (text := _overwrote(landed)) is not None]
    return found + _lies(remote, objects, said)


def _ours(object_id: str, data: Mapping[str, Any]) -> set[str]:
    """Return the fields that hold what the step wrote."""
    return {name for name, value in WANTED[object_id].items() if data.get(name, ABSENT) == value}


def _step_landings(remote: FakeRemote, object_id: str) -> list[Landed]:
    return [
        landed for landed in remote.log
        if landed.object_id == object_id and landed.author is Author.US and _ours(object_id, landed.after)
        and not _ours(object_id, landed.before)
    ]  # fmt: skip


def _all_or_nothing(remote: FakeRemote, objects: Sequence[str], evidence: Evidence) -> list[str]:
    found = []
    applied = {name: _is_applied(remote, name) for name in objects}
    if evidence.status == "applied":
        return [f"{name}: said applied, but is not" for name, ok in applied.items() if not ok]
    if evidence.status == "running":
        found.append("the group still runs")
    if evidence.status is None and all(applied.values()):
        return found
    for name in objects:
        wrong = _not_restored(remote, name)
        if wrong and name not in evidence.items:
            found.append(f"{name}: {', '.join(wrong)} neither at the snapshot nor a third party's, and no open item")
    return found


def _is_applied(remote: FakeRemote, object_id: str) -> bool:
    """Tell whether the step's write landed and every field still holds it, or what a third party wrote later."""
    landings = _step_landings(remote, object_id)
    stored = remote.objects[object_id]
    if not landings:
        return False
    for name, value in WANTED[object_id].items():
        author, position = stored.authors.get(name, (Author.START, -1))
        later = author is Author.THIRD and position > landings[0].position
        if stored.data.get(name, ABSENT) != value and not later:
            return False
    return True


def _not_restored(remote: FakeRemote, object_id: str) -> list[str]:
    """Return the fields whose value is neither the one before the step nor a third party's."""
    landings = _step_landings(remote, object_id)
    stored = remote.objects[object_id]
    before = landings[0].before if landings else {"id": object_id, **START}
    wrong = []
    for name in sorted({*before, *stored.data}):
        value, author = stored.data.get(name, ABSENT), stored.authors.get(name, (Author.START, -1))[0]
        # Without conditional writes a late write of ours may have buried a third party's value: the snapshot is right.
        known = {before.get(name, ABSENT)} | (set() if remote.conditional else {START.get(name, ABSENT)})
        if value not in known and author is not Author.THIRD:
            wrong.append(name)
    return wrong


def _overwrote(landed: Landed) -> str | None:
    """Tell whether a write of ours changed a third party's value that its sender had not read, or undid one."""
    if landed.author is not Author.US:
        return None
    for name in {*landed.before, *landed.after}:
        author, position = landed.authors_before.get(name, (Author.START, -1))
        if author is not Author.THIRD or landed.before.get(name) == landed.after.get(name):
            continue
        by_step = name in WANTED[landed.object_id] and landed.after.get(name) == WANTED[landed.object_id][name]
        if position >= landed.had_read:
            return f"{landed.object_id}: overwrote {name} of a third party unread"
        if not by_step:
            return f"{landed.object_id}: undid {name} of a third party"
    return None


def _lies(remote: FakeRemote, objects: Sequence[str], said: Sequence[Said]) -> list[str]:
    found = []
    settled: Said | None = None
    for one in said:
        if settled is not None and one.status != settled.status:
            found.append(f"said {settled.status}, later {one.status}")
        if one.status in {"applied", "rejected", "rolled_back", "compensated"}:
            settled = settled or one
        if one.rolled_back:
            now = {name: {key: value for (at, key), value in one.fields.items() if at == name} for name in objects}
            found += [f"{name}: said rolled back while applied" for name in objects if _wrote(name, now[name])]
    first = next((one for one in said if one.rolled_back), None)
    if first is not None:
        late = [landed for landed in remote.log[first.position :] if landed.author is Author.US]
        found += [
            f"{landed.object_id}: applied after rolledBack was said to be true"
            for landed in late
            if _wrote(landed.object_id, landed.after)
        ]
    return found


def _wrote(object_id: str, data: Mapping[str, Any]) -> bool:
    """Tell whether an object shows what only the step writes (a removed field may be somebody else's doing)."""
    return any(data.get(name) == value for name, value in WANTED[object_id].items() if value is not None)


# --- the books


def books(world: World) -> tuple[Evidence, list[str]]:
    """Return what our rows say, and what is wrong with them."""
    groups = database.rows("SELECT id, status FROM rollback_group")
    tasks = database.rows(
        "SELECT task_id, occurrence_id, status, reason, record_id, outstanding FROM rollback_compensatingtask"
    )
    jobs = database.rows(
        "SELECT r.id, r.external_id, r.data, r.base, r.version, r.deleted_at, j.status, j.held_by, j.in_doubt, "
        "(SELECT count(*) FROM sync_conflict c WHERE c.record_id = r.id AND c.state = 'open') AS conflicts "
        "FROM sync_record r JOIN sync_syncjob j ON j.record_id = r.id"
    )
    open_tasks = {t["occurrence_id"] for t in tasks if t["status"] != "succeeded"}
    conflicts = {j["external_id"] for j in jobs if j["conflicts"]}
    status = groups[0]["status"] if groups else "rejected"
    found = _holds(jobs, groups, tasks) + _tasks(tasks, status)
    for job in jobs:
        value = world.edited.get(job["external_id"])
        if value is not None and _json(job["data"]).get("y") != value:
            found.append(f"{job['external_id']}: the edit is lost")
        if value is not None:
            found += _edited(world.remote, job, in_conflict=job["external_id"] in conflicts)
        elif job["external_id"] not in open_tasks | conflicts and not job["held_by"]:
            found += _agreement(world.remote, job)
    return Evidence(status, frozenset(open_tasks | conflicts)), found


def _holds(jobs: Sequence[Mapping], groups: Sequence[Mapping], tasks: Sequence[Mapping]) -> list[str]:
    living = {f"group:{g['id']}" for g in groups if g["status"] == "running"}
    living |= {f"task:{_uuid(t['task_id'])}" for t in tasks if t["status"] != "succeeded"}
    found = [f"{j['external_id']}: held by nobody alive" for j in jobs if j["held_by"] and j["held_by"] not in living]
    held = {j["held_by"] for j in jobs}
    open_ones = {f"task:{_uuid(t['task_id'])}": t for t in tasks if t["status"] != "succeeded"}
    return found + [f"{t['occurrence_id']}: its open task lost the hold" for h, t in open_ones.items() if h not in held]


def _uuid(value: Any) -> str:
    text = str(value)
    return text if "-" in text else f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _tasks(tasks: Sequence[Mapping], status: str) -> list[str]:
    states = {t["status"] for t in tasks}
    found = []
    if states & {"pending", "processing"}:
        found.append("a task is still open after everything")
    if status in {"applied", "rejected"} and tasks:
        found.append(f"a group {status} has tasks")
    expected = "needs_attention" if "failed_permanent" in states else None
    if expected and status != expected:
        found.append(f"a task failed for good, yet the group is {status}")
    if status == "needs_attention" and not expected:
        found.append("the group needs attention for no reason")
    return found


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _agreement(remote: FakeRemote, job: Mapping) -> list[str]:
    """A free record agrees with what the remote held at the version that the record names."""
    name, data, base = job["external_id"], _json(job["data"]), _json(job["base"])
    found = []
    if job["status"] not in {"SYNCED", "SKIPPED"}:
        found.append(f"{name}: free, but {job['status']}")
    if data != base:
        found.append(f"{name}: data and base differ")
    if remote.history.get((name, job["version"])) != base:
        found.append(f"{name}: base is not what the remote held at version {job['version']}")
    return found


def _edited(remote: FakeRemote, job: Mapping, *, in_conflict: bool) -> list[str]:
    """A record edited meanwhile waits for its push from content that the remote had, or for a person."""
    name = job["external_id"]
    wanted = {"VERSION_CONFLICT"} if in_conflict else {"PENDING"}
    found = [] if job["status"] in wanted else [f"{name}: edited, but {job['status']}"]
    if remote.history.get((name, job["version"])) != _json(job["base"]):
        found.append(f"{name}: base is not what the remote held at version {job['version']}")
    return found
