"""A resource's configuration, compiled: what every call and decision about it needs, precomputed and frozen.

Owns: `RemoteSpec`, `ResourceSpec` and `spec_for`, which caches by primary key and content, so that building a client
per drain is cheap. Guarantees: immutable, safe to share between threads; no secret in it.
Does not: validate (configuration.py refuses what does not fit before it is saved), or talk to anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

from jsonschema import Draft202012Validator

from syncportal.kernel import pointer as pointers
from syncportal.kernel.pointer import MISSING
from syncportal.remote import knobs, schemas
from syncportal.remote.compiling import remote_parts, resource_parts
from syncportal.remote.equality import Comparator
from syncportal.remote.errors import StatusRules
from syncportal.remote.models import Remote, Resource

LONGEST_ID = 500


@dataclass(frozen=True)
class RemoteSpec:
    """One remote, compiled."""

    slug: str
    remote_id: int
    base_url: str
    headers: Mapping[str, str] = field(default_factory=knobs.nothing)
    content_type: str = "application/json"
    auth: knobs.AuthSpec = knobs.AuthSpec()
    limits: knobs.LimitsSpec = knobs.LimitsSpec()
    breaker: knobs.BreakerSpec = knobs.BreakerSpec()
    transient: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ResourceSpec:
    """One resource, compiled. `conditional` says whether the remote really refuses a stale write of ours."""

    slug: str
    resource_id: int
    remote: RemoteSpec
    comparator: Comparator
    rules: StatusRules
    id_pointers: tuple[str, ...]
    listing: knobs.ListSpec | None
    detail: knobs.DetailSpec
    create: knobs.CreateSpec = knobs.CreateSpec()
    update: knobs.UpdateSpec = knobs.UpdateSpec()
    delete: knobs.DeleteSpec = knobs.DeleteSpec()
    version: knobs.VersionSpec = knobs.VersionSpec()
    precondition: knobs.PreconditionSpec = knobs.PreconditionSpec()
    policy: knobs.PolicySpec = field(default_factory=knobs.PolicySpec)
    schema: Mapping[str, Any] | None = None
    checksum: knobs.ChecksumSpec | None = None
    modified_since: knobs.ModifiedSinceSpec | None = None
    window: knobs.WindowSpec | None = None
    read_only: tuple[str, ...] = ()
    write_map: Mapping[str, str] = field(default_factory=knobs.nothing)
    write_format: Mapping[str, str] = field(default_factory=knobs.nothing)
    tombstone: Mapping[str, Any] = field(default_factory=knobs.nothing)
    idempotency_header: str | None = None
    conditional: bool = False
    stripped: tuple[str, ...] = ()

    @property
    def most_reads(self) -> int:
        """Return how often in a row a read is tried that nobody waits for.

        First as often as tells that the whole remote is down (its breaker opens then, and no try counts until it
        answers), then as often as anything else is tried.
        """
        return self.remote.breaker.failures + self.policy.max_attempts

    @property
    def create_id(self) -> str:
        """Say who chooses the id of a new object: "server" or "client"."""
        return self.create.id

    @property
    def has_lookup(self) -> bool:
        """Say whether an ambiguous create can be looked up by a natural key."""
        return bool(self.create.lookup) and self.listing is not None

    @property
    def has_list(self) -> bool:
        """Say whether the remote can list this resource."""
        return self.listing is not None

    @property
    def semantics(self) -> str:
        """Say what an update's body means: "merge" (fields sent) or "replace" (the whole object)."""
        return self.update.semantics

    @property
    def gone(self) -> frozenset[int]:
        """Return the statuses that mean the object does not exist."""
        return self.rules.gone

    @cached_property
    def validator(self) -> Draft202012Validator | None:
        """Return the compiled JSON Schema with format checks and without network, None when there is no schema."""
        return None if self.schema is None else schemas.compiled(self.schema)

    def external_id_of(self, data: Mapping[str, Any]) -> str | None:
        """Return the object's id: its parts joined by "|", a "|" or "%" inside a part percent-encoded.

        None without one, or where it is longer than can be kept.
        """
        parts = []
        for at in self.id_pointers:
            value = pointers.get(data, at, None)
            if value is None or isinstance(value, (bool, dict, list)) or value == "":
                return None
            parts.append(str(int(value)) if isinstance(value, float) and value.is_integer() else str(value))
        found = self.join_id(parts)
        return found if len(found) <= LONGEST_ID else None

    @staticmethod
    def join_id(parts: Sequence[str]) -> str:
        """Return the id made of these parts."""
        if len(parts) == 1:
            return parts[0]
        return "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)

    def id_parts(self, external_id: str) -> tuple[str, ...]:
        """Split an id into its parts, one per id pointer; raises ValueError when their number differs."""
        if len(self.id_pointers) == 1:
            return (external_id,)
        parts = tuple(part.replace("%7C", "|").replace("%25", "%") for part in external_id.split("|"))
        if len(parts) != len(self.id_pointers):
            raise ValueError(
                f"the id {external_id!r} has {len(parts)} parts, {self.slug} wants {len(self.id_pointers)}"
            )
        return parts

    def is_tombstone(self, data: Mapping[str, Any]) -> bool:
        """Say whether the object says of itself that it is deleted; the value "*" means anything but null and false."""
        for at, wanted in self.tombstone.items():
            found = pointers.get(data, at, MISSING)
            if found is MISSING:
                continue
            if wanted == "*" and found not in (None, False, "", 0):
                return True
            if self.comparator.same(at, found, wanted) and found is not None:
                return True
        return False

    def writable(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return `data` without what is never written: read-only places and the version."""
        kept: Any = data
        for pattern in self.stripped:
            kept = pointers.remove(kept, pattern)
        return kept if isinstance(kept, dict) else {}

    def is_read_only(self, pointer: str) -> bool:
        """Say whether the place `pointer` is stripped before a write."""
        return any(pointers.matches(pattern, pointer) for pattern in self.stripped)

    def is_mapped(self, pointer: str) -> bool:
        """Say whether a write says the place `pointer`, or one above or below it, in another place (write_map)."""
        return any(pointers.matches(at, pointer) or pointers.matches(pointer, at) for at in self.write_map)

    def unmapped(self, data: Mapping[str, Any], name: str) -> Any:
        """Return the member `name` of `data` without its mapped places; None when nothing is left."""
        kept: Any = {name: data.get(name)}
        for at in self.write_map:
            kept = pointers.remove(kept, at)
        return kept.get(name) or None

    def is_remote_only(self, pointer: str) -> bool:
        """Say whether only the remote fills in the place `pointer`: read-only, the version, an id that it makes."""
        if self.is_read_only(pointer) and not self.is_mapped(pointer):
            return True
        return self.create_id == "server" and any(pointers.matches(at, pointer) for at in self.id_pointers)

    @property
    def guards_create(self) -> bool:
        """Say whether a create sent twice cannot make two objects nor overwrite one."""
        conditional = self.create_id == "client" and self.conditional and self.precondition.send == "if_match"
        return bool(self.idempotency_header) or conditional

    def editable_fields(self) -> list[str]:
        """Return the schema's top-level names that a person may change: not read-only, not the id, not the version."""
        names = (self.schema or {}).get("properties") or {}
        mapped = {pointers.parse(at)[0] for at in self.write_map if at}
        ids = {pointers.parse(at)[0] for at in self.id_pointers if at}
        return [
            name
            for name, rule in names.items()
            if name not in ids
            and not (isinstance(rule, Mapping) and rule.get("readOnly") is True)
            and (name in mapped or not self.is_read_only(pointers.build((name,))))
        ]


_cache: dict[int, tuple[object, ResourceSpec]] = {}
_lock = Lock()
_CACHE_SIZE = 512


def spec_for(resource: Resource) -> ResourceSpec:
    """Return the compiled spec of `resource`; one query at most (its remote), none when that is loaded."""
    remote = resource.remote
    key = (resource.slug, resource.updated_at, resource.config, resource.guarantees, remote.pk, remote.slug,
           remote.updated_at, remote.base_url, remote.config)  # fmt: skip
    cached = _cache.get(resource.pk) if resource.pk else None
    if cached is not None and cached[0] == key:
        return cached[1]
    spec = compile_spec(resource, remote=remote)
    if resource.pk:
        with _lock:
            if len(_cache) >= _CACHE_SIZE:
                _cache.clear()
            _cache[resource.pk] = (key, spec)
    return spec


def remote_spec(remote: Remote) -> RemoteSpec:
    """Compile one remote."""
    return RemoteSpec(slug=remote.slug, remote_id=remote.pk, **remote_parts(remote.base_url, remote.config))


def compile_spec(resource: Resource, *, remote: Remote) -> ResourceSpec:
    """Compile a resource, saved or not; expects configuration that configuration.py accepted."""
    compiled = remote_spec(remote)
    parts = resource_parts(resource.config, guarantees=resource.guarantees, transient=compiled.transient)
    return ResourceSpec(slug=resource.slug, resource_id=resource.pk, remote=compiled, **parts)
