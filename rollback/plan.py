"""A grouped update as it was asked for: read, checked as a whole, and compared with earlier requests. Pure.

Every problem is listed with its JSON Pointer before anything is written.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from syncportal.kernel import pointer, strict_json
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.validation import Problem

MAX_STEPS = 200
MAX_ID = 200
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One occurrence to change. changes: RFC 7396. expected_version: None to take any."""

    resource: str
    occurrence_id: str
    changes: Json
    expected_version: str | None
    at: str


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """One atomic group."""

    group_id: str
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that can be carried out. request_id: "" when the server is to make one."""

    request_id: str
    groups: tuple[PlannedGroup, ...]
    validate_only: bool
    body_hash: str


class TooManySteps(Exception):
    """The request holds more than 200 updates; split it."""


class InvalidPlan(Exception):
    """The request cannot be carried out; nothing was written. `problems` lists everything that is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


def read(body: Any, *, specs: Mapping[str, ResourceSpec]) -> Plan:
    """Return the plan that a request's JSON asks for; raises TooManySteps or InvalidPlan with all problems.

    specs: every known resource by its slug.
    """
    plan, problems = examine(body, specs=specs)
    if problems:
        raise InvalidPlan(problems)
    return plan


def examine(body: Any, *, specs: Mapping[str, ResourceSpec]) -> tuple[Plan, list[Problem]]:
    """Return as much of the plan as can be read, and everything that is wrong; raises TooManySteps.

    A requestId that cannot be read is empty; a step that cannot be read has an empty resource, an empty occurrence_id
    or no changes.
    """
    if not isinstance(body, dict):
        raise InvalidPlan([Problem("", "type", "The request must be a JSON object.")])
    if _count(body) > MAX_STEPS:
        raise TooManySteps
    reader = _Reader(specs)
    plan = reader.plan(body)
    return plan, in_order(reader.problems)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems in the order of the request's places."""
    return sorted(
        problems, key=lambda found: [(not part.isdigit(), int(part) if part.isdigit() else 0, part)
                                     for part in found.pointer.split("/")],
    )  # fmt: skip


def _count(body: Json) -> int:
    groups = body.get("groups")
    if not isinstance(groups, list):
        return 0
    updates = (group.get("updates") for group in groups if isinstance(group, dict))
    return sum(len(found) for found in updates if isinstance(found, list))


class _Reader:
    """Walks the request once and keeps every problem."""

    def __init__(self, specs: Mapping[str, ResourceSpec]) -> None:
        self.specs = specs
        self.problems: list[Problem] = []
        self.group_ids: set[str] = set()
        self.occurrences: set[tuple[str, str]] = set()

    def _wrong(self, at: str, code: str, detail: str) -> None:
        self.problems.append(Problem(at, code, detail))

    def _known_keys(self, found: Json, allowed: set[str], at: str) -> None:
        for name in found.keys() - allowed:
            self._wrong(f"{at}{pointer.build((name,))}", "unknown_key", f"There is no key {name!r} here.")

    def plan(self, body: Json) -> Plan:
        self._known_keys(body, {"requestId", "resource", "validateOnly", "groups"}, "")
        request_id = body.get("requestId", "")
        if "requestId" in body and not self._identifier(request_id, "/requestId"):
            request_id = ""
        validate_only = body.get("validateOnly", False)
        if not isinstance(validate_only, bool):
            self._wrong("/validateOnly", "type", "Must be true or false.")
        groups = body.get("groups")
        read_groups: list[PlannedGroup] = []
        if not isinstance(groups, list) or not groups:
            self._wrong("/groups", "required", "At least one group is needed.")
        else:
            read_groups = [self._group(g, f"/groups/{n}", body.get("resource")) for n, g in enumerate(groups)]
        hashed = hashlib.sha256(strict_json.dumps_canonical(body).encode()).hexdigest()
        return Plan(request_id, tuple(read_groups), validate_only is True, hashed)

    def _identifier(self, value: Any, at: str, *, limit: int = MAX_ID) -> bool:
        if isinstance(value, str) and 0 < len(value) <= limit and value.isprintable():
            return True
        self._wrong(at, "type", f"Must be a text of 1 to {limit} printable characters.")
        return False

    def _group(self, found: Any, at: str, resource: Any) -> PlannedGroup:
        if not isinstance(found, dict):
            self._wrong(at, "type", "A group must be a JSON object.")
            return PlannedGroup("", ())
        self._known_keys(found, {"groupId", "resource", "updates"}, at)
        group_id = found.get("groupId")
        if self._identifier(group_id, f"{at}/groupId"):
            if group_id in self.group_ids:
                self._wrong(f"{at}/groupId", "duplicate", "Another group of this request has the same groupId.")
            self.group_ids.add(str(group_id))
        updates = found.get("updates")
        if not isinstance(updates, list) or not updates:
            self._wrong(f"{at}/updates", "required", "A group needs at least one update.")
            updates = []
        inherited = found.get("resource", resource)
        return PlannedGroup(
            str(group_id), tuple(self._step(u, f"{at}/updates/{n}", inherited) for n, u in enumerate(updates))
        )

    def _step(self, found: Any, at: str, inherited: Any) -> PlannedStep:
        empty = PlannedStep("", "", {}, None, at)
        if not isinstance(found, dict):
            self._wrong(at, "type", "An update must be a JSON object.")
            return empty
        self._known_keys(found, {"occurrenceId", "changes", "expectedVersion", "resource"}, at)
        slug = found.get("resource", inherited)
        spec = self.specs.get(slug) if isinstance(slug, str) else None
        if spec is None:
            where = f"{at}/resource" if "resource" in found else at
            detail = "Name the resource." if slug is None else f"There is no resource {str(slug)[:60]!r}."
            self._wrong(where, "unknown_resource", detail)
        occurrence, changes = found.get("occurrenceId"), found.get("changes")
        readable = self._identifier(occurrence, f"{at}/occurrenceId", limit=500)
        if readable:
            if (str(slug), str(occurrence)) in self.occurrences:
                self._wrong(f"{at}/occurrenceId", "duplicate", "This object is changed twice in one request.")
            self.occurrences.add((str(slug), str(occurrence)))
        if not isinstance(changes, dict) or not changes:
            self._wrong(f"{at}/changes", "required", "Name at least one field to change.")
            changes = {}
        self._changes(changes, f"{at}/changes", spec)
        version = found.get("expectedVersion")
        if isinstance(version, int) and not isinstance(version, bool):
            version = str(version)
        if version is not None and not (isinstance(version, str) and 0 < len(version) <= 255):
            self._wrong(f"{at}/expectedVersion", "type", "Must be the version as text.")
            version = None
        return PlannedStep(str(slug) if spec else "", str(occurrence) if readable else "", changes, version, at)

    def _changes(self, changes: Json, at: str, spec: ResourceSpec | None) -> None:
        if spec is None:
            return
        for name in changes:
            place = pointer.build((name,))
            if (spec.is_read_only(place) and not spec.is_mapped(place)) or any(
                pointer.matches(place, own) for own in spec.id_pointers
            ):
                self._wrong(at + place, "read_only", "Only the remote sets this field.")
