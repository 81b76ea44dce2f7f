"""Changing what remotes and resources are: validated, planned, applied, with history.

Owns: the only writers of Remote and Resource (`save_remote`, `save_resource`, `save_guarantees`, `note_late_writes`,
`apply`), used by `manage.py configure`, the admin, the probe and undos. Guarantees: nothing invalid is stored; applying
a file twice changes nothing the second time; a file is applied whole or not at all; what is not in the file stays as it
is; secrets are never part of a plan. Does not: delete anything.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from syncportal.kernel.tx import atomic_retry
from syncportal.remote import auth
from syncportal.remote.configfile import ConfigurationInvalid, parse
from syncportal.remote.knob_checks import remote_problems, resource_problems
from syncportal.remote.knob_rules import REMOTE, RESOURCE, check_remote, check_resource
from syncportal.remote.knob_rules import base_url as base_url_rule
from syncportal.remote.knob_rules import slug as slug_rule
from syncportal.remote.models import Remote, Resource
from syncportal.remote.rules import Found, Problem, below, nearest, text

__all__ = [
    "Change",
    "ConfigurationInvalid",
    "Plan",
    "Problem",
    "apply",
    "note_late_writes",
    "parse",
    "plan",
    "save_guarantees",
    "save_remote",
    "save_resource",
    "validate_remote_config",
    "validate_resource_config",
]

_OWN_REMOTE_KEYS = ("slug", "name", "base_url", "resources")
_OWN_RESOURCE_KEYS = ("slug", "name")
_PROBED_KNOBS = (
    "list",
    "detail",
    "create",
    "update",
    "delete",
    "version",
    "precondition",
    "conflict",
    "idempotency_header",
)
LATE_WRITES = "late_writes"
_ABSENT = object()


def validate_remote_config(config: Any) -> list[Problem]:
    """Return every problem of a remote's configuration (without slug, name, base_url), empty when it can be saved."""
    found: Found = []
    check_remote(config, "", found)
    return sorted(found or remote_problems(config))


def validate_resource_config(config: Any) -> list[Problem]:
    """Return every problem of a resource's configuration (without slug and name), empty when it can be saved."""
    found: Found = []
    check_resource(config, "", found)
    return sorted(found or resource_problems(config))


def normalized(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return valid configuration as it is stored: a repair that YAML read as false is `off`."""
    repair = (config.get("policy") or {}).get("repair") if isinstance(config.get("policy"), Mapping) else None
    if not repair or False not in repair.values():
        return dict(config)
    mended = {kind: "off" if action is False else action for kind, action in repair.items()}
    return {**config, "policy": {**config["policy"], "repair": mended}}


@dataclass(frozen=True, slots=True)
class Difference:
    """One place that a change moves; `before` or `after` is None when it is absent there."""

    pointer: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """What applying a file does to one remote or resource."""

    kind: str
    action: str
    slug: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One remote or resource as a file wants it; `remote` is the slug of a resource's remote."""

    slug: str
    name: str
    config: dict[str, Any]
    base_url: str = ""
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid file and what applying it would change now."""

    remotes: tuple[_Wanted, ...]
    resources: tuple[_Wanted, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """The row and whether this call made or changed it."""

    row: Any
    created: bool
    changed: bool


def plan(document: Any) -> Plan:
    """Check a whole document and compare it with what is stored; raises ConfigurationInvalid with every problem."""
    found: Found = []
    remotes, resources = _wanted(document, found)
    if found:
        raise ConfigurationInvalid(sorted(found))
    stored = {remote.slug: remote for remote in Remote.objects.filter(slug__in=[want.slug for want in remotes])}
    known = {
        resource.slug: resource
        for resource in Resource.objects.select_related("remote").filter(slug__in=[want.slug for want in resources])
    }
    for want in resources:
        row = known.get(want.slug)
        if row is not None and row.remote.slug != want.remote:
            found.append(
                Problem("", f"the resource {want.slug!r} belongs to the remote {row.remote.slug!r}: it cannot move")
            )
    if found:
        raise ConfigurationInvalid(found)
    changes = [_change("remote", want, stored.get(want.slug)) for want in remotes]
    changes += [_change("resource", want, known.get(want.slug)) for want in resources]
    return Plan(remotes, resources, tuple(change for change in changes if change is not None))


def apply(planned: Plan, *, actor: Any = None, reason: str = "configure") -> tuple[Change, ...]:
    """Store a plan in one transaction and return what changed."""

    def work() -> None:
        for want in planned.remotes:
            save_remote(
                slug=want.slug, name=want.name, base_url=want.base_url, config=want.config, actor=actor, reason=reason
            )
        remotes = {row.slug: row for row in Remote.objects.filter(slug__in={want.remote for want in planned.resources})}
        for want in planned.resources:
            save_resource(
                remote=remotes[want.remote], slug=want.slug, name=want.name, config=want.config, actor=actor,
                reason=reason,
            )  # fmt: skip

    atomic_retry(work)
    return planned.changes


def save_remote(
    *, slug: str, name: str, base_url: str, config: Mapping[str, Any], secret: str | None = None, actor: Any = None,
    reason: str = "",
) -> Saved:  # fmt: skip
    """Create or change the remote `slug`; a `secret` of None keeps the stored one, "" removes it.

    Raises ConfigurationInvalid and then has changed nothing.
    """
    found: Found = []
    slug_rule(slug, "/slug", found)
    base_url_rule(base_url, "/base_url", found)
    found += validate_remote_config(config)
    if found:
        raise ConfigurationInvalid(found)

    def work() -> Saved:
        row = Remote.objects.select_for_update().filter(slug=slug).first() or Remote(slug=slug)
        values = {"name": name, "base_url": base_url, "config": normalized(config)}
        if secret is not None:
            values["secret"] = secret
        saved = _save(row, values, actor=actor, reason=reason)
        if saved.changed and not saved.created:
            auth.forget_token(row.pk)
        return saved

    return atomic_retry(work)


def save_resource(
    *, remote: Remote, slug: str, name: str, config: Mapping[str, Any], actor: Any = None, reason: str = ""
) -> Saved:
    """Create or change the resource `slug` of `remote`; raises ConfigurationInvalid and then has changed nothing.

    A change of what the probe looked at drops the guarantee card: it no longer says anything about this resource.
    """
    found: Found = []
    slug_rule(slug, "/slug", found)
    found += validate_resource_config(config)
    if found:
        raise ConfigurationInvalid(found)

    def work() -> Saved:
        row = Resource.objects.select_for_update().filter(slug=slug).first()
        if row is not None and row.remote_id != remote.pk:
            raise ConfigurationInvalid([Problem("/slug", f"{slug!r} is taken by a resource of another remote")])
        row = row or Resource(slug=slug, remote=remote)
        values: dict[str, Any] = {"name": name, "config": normalized(config)}
        if any(row.config.get(knob) != config.get(knob) for knob in _PROBED_KNOBS):
            values |= {"guarantees": {}, "probed_at": None}
        return _save(row, values, actor=actor, reason=reason)

    return atomic_retry(work)


def save_guarantees(resource: Resource, *, card: Mapping[str, Any], now: datetime, actor: Any = None) -> None:
    """Store what the probe found out about `resource`; what undos met stays on the card."""

    def work() -> None:
        row = Resource.objects.select_for_update().get(pk=resource.pk)
        met = {LATE_WRITES: row.guarantees[LATE_WRITES]} if LATE_WRITES in row.guarantees else {}
        _save(row, {"guarantees": {**card, **met}, "probed_at": now}, actor=actor, reason="probe")

    atomic_retry(work)


def note_late_writes(resource: Resource, *, promise: str, now: datetime) -> None:
    """Keep on the guarantee card that an undo could not make the remote refuse a late write; the first time counts.

    promise: what held instead, in words. A change of what the probe looks at drops it with the card.
    """
    if (resource.guarantees.get(LATE_WRITES) or {}).get("promise") == promise:
        return

    def work() -> None:
        row = Resource.objects.select_for_update().get(pk=resource.pk)
        if (row.guarantees.get(LATE_WRITES) or {}).get("promise") == promise:
            return
        met = {"promise": promise, "seen_at": now.isoformat()}
        _save(row, {"guarantees": {**row.guarantees, LATE_WRITES: met}}, actor=None, reason="met by an undo")

    atomic_retry(work)


def _save(row: Any, values: Mapping[str, Any], *, actor: Any, reason: str) -> Saved:
    created = row.pk is None
    changed = created or any(getattr(row, name) != value for name, value in values.items())
    if changed:
        for name, value in values.items():
            setattr(row, name, value)
        row._history_user = actor if getattr(actor, "pk", None) else None
        row._change_reason = reason[:100]
        row.save()
    return Saved(row, created, changed)


def _wanted(document: Any, found: Found) -> tuple[tuple[_Wanted, ...], tuple[_Wanted, ...]]:
    remotes: list[_Wanted] = []
    resources: list[_Wanted] = []
    if not isinstance(document, dict) or not isinstance(document.get("remotes"), list):
        found.append(Problem("", "the file must be a mapping with a list under 'remotes'"))
        return (), ()
    for key in document:
        if key != "remotes":
            found.append(Problem(below("", key), f"unknown key {key!r}; {nearest(str(key), ['remotes'])}"))
    for index, given in enumerate(document["remotes"]):
        at = f"/remotes/{index}"
        if not isinstance(given, dict):
            found.append(Problem(at, "must be a mapping"))
            continue
        config = {key: value for key, value in given.items() if key not in _OWN_REMOTE_KEYS}
        slug = _slug_and_name(given, at, found)
        if "base_url" in given:
            base_url_rule(given["base_url"], at + "/base_url", found)
        else:
            found.append(Problem(at, "'base_url' is missing"))
        _refuse_unknown(config, (*_OWN_REMOTE_KEYS, *REMOTE), at, found)
        found += [Problem(at + problem.pointer, problem.message) for problem in validate_remote_config(config)]
        remotes.append(_Wanted(slug, given.get("name") or "", normalized(config), base_url=given.get("base_url") or ""))
        listed = given.get("resources", [])
        if not isinstance(listed, list):
            found.append(Problem(at + "/resources", "must be a list"))
            continue
        for place, item in enumerate(listed):
            resources += _wanted_resource(item, f"{at}/resources/{place}", slug, found)
    _unique("remote", "/remotes", [want.slug for want in remotes], found)
    _unique("resource", "/remotes", [want.slug for want in resources], found)
    return tuple(remotes), tuple(resources)


def _wanted_resource(given: Any, at: str, remote: str, found: Found) -> list[_Wanted]:
    if not isinstance(given, dict):
        found.append(Problem(at, "must be a mapping"))
        return []
    config = {key: value for key, value in given.items() if key not in _OWN_RESOURCE_KEYS}
    slug = _slug_and_name(given, at, found)
    _refuse_unknown(config, (*_OWN_RESOURCE_KEYS, *RESOURCE), at, found)
    found += [Problem(at + problem.pointer, problem.message) for problem in validate_resource_config(config)]
    return [_Wanted(slug, given.get("name") or "", normalized(config), remote=remote)]


def _slug_and_name(given: Mapping[str, Any], at: str, found: Found) -> str:
    if "slug" not in given:
        found.append(Problem(at, "'slug' is missing"))
    else:
        slug_rule(given["slug"], at + "/slug", found)
    if given.get("name") is not None:
        text(limit=200)(given["name"], at + "/name", found)
    return str(given.get("slug") or "")


def _refuse_unknown(config: dict[str, Any], valid: Collection[str], at: str, found: Found) -> None:
    """Answer unknown keys of this level here, where the hint also knows the names that are not knobs."""
    for key in [key for key in config if key not in valid]:
        del config[key]
        found.append(Problem(below(at, key), f"unknown key {key!r}; {nearest(str(key), valid)}"))


def _unique(kind: str, at: str, slugs: list[str], found: Found) -> None:
    for slug in sorted({slug for slug in slugs if slug and slugs.count(slug) > 1}):
        found.append(Problem(at, f"the {kind} slug {slug!r} is used more than once"))


def _change(kind: str, want: _Wanted, row: Remote | Resource | None) -> Change | None:
    after: dict[str, Any] = {"name": want.name, **want.config}
    before: dict[str, Any] = {}
    if row is not None:
        before = {"name": row.name, **row.config}
    if kind == "remote":
        after["base_url"] = want.base_url
        if isinstance(row, Remote):
            before["base_url"] = row.base_url
    differences = tuple(_differences(before, after, ""))
    if row is None:
        return Change(kind, "create", want.slug, tuple(d for d in differences if d.after not in ("", None)))
    return Change(kind, "update", want.slug, differences) if differences else None


def _differences(before: Any, after: Any, at: str) -> list[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[Difference] = []
        for name in sorted({*before, *after}):
            found += _differences(before.get(name, _ABSENT), after.get(name, _ABSENT), below(at, name))
        return found
    if before is after or (before == after and type(before) is type(after)):
        return []
    return [Difference(at, None if before is _ABSENT else before, None if after is _ABSENT else after)]
