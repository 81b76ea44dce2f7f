"""Remotes, resources and records for tests, configured against a demo master.

Owns: the one configuration of the demo's accounts and shifts that tests use, and a clock that tests move.
Guarantees: nothing here asserts anything.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from syncportal.demo import DemoMaster
from syncportal.demo.seed import ACCOUNT_SCHEMA, SHIFT_SCHEMA
from syncportal.remote.models import Remote, Resource
from syncportal.remote.payloads import EMPTY, Answer, Exchange, Headers, RemoteObject
from syncportal.remote.spec import ResourceSpec, compile_spec
from syncportal.sync import drain as draining
from syncportal.sync import local, records, transitions
from syncportal.sync.claims import Claim, Send
from syncportal.sync.events import Actor
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PERSON = Actor("user", label="pat")
_numbers = itertools.count(1)

ACCOUNTS: dict[str, Any] = {
    "list": {
        "path": "/accounts",
        "items": "/items",
        "page": {"style": "offset", "param": "offset", "total": "/total", "size_param": "limit", "size": 50},
    },
    "detail": {"path": "/accounts/{0}"},
    "id": ["/id"],
    "version": {"from": "body", "pointer": "/version"},
    "precondition": {"send": "if_match", "format": '"{}"'},
    "create": {"method": "POST", "path": "/accounts", "id": "server"},
    "update": {"method": "PUT", "semantics": "replace"},
    "idempotency_header": "Idempotency-Key",
    "read_only": ["/updated_at"],
    "schema": ACCOUNT_SCHEMA,
}
SHIFTS: dict[str, Any] = {
    "list": {
        "path": "/shifts",
        "items": "/items",
        "page": {
            "style": "body_cursor",
            "pointer": "/next_cursor",
            "param": "cursor",
            "size_param": "limit",
            "size": 50,
        },
    },
    "detail": {"path": "/shifts/{0}"},
    "id": ["/id"],
    "version": {"from": "body", "pointer": "/version"},
    "precondition": {"send": "if_match", "format": '"{}"'},
    "create": {"method": "POST", "path": "/shifts", "id": "server", "lookup": {"code": "/code"}},
    "update": {"method": "PATCH", "semantics": "merge"},
    "read_only": ["/updated_at"],
    "schema": SHIFT_SCHEMA,
}
NEW_ACCOUNT = {"name": "Fresh", "email": "fresh@example.org", "tier": "gold", "active": True}
NEW_SHIFT = {"code": "NEW-1", "title": "Late shift", "seats": 2}


def config_of(kind: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a resource configuration with other keys; None removes one."""
    merged = {**kind, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def make_remote(url: str, **config: Any) -> Remote:
    """Make a remote; `config` replaces keys of its configuration."""
    slug = f"remote-{next(_numbers)}"
    limits = {"concurrency": 4, "total_timeout_s": 1, "connect_timeout_s": 1}
    return Remote.objects.create(slug=slug, name=slug, base_url=url, config={"limits": limits, **config})


def make_resource(master: DemoMaster | Remote, kind: Mapping[str, Any] = ACCOUNTS, **changes: Any) -> Resource:
    """Make a resource of a new remote on the master, or of the given remote."""
    remote = master if isinstance(master, Remote) else make_remote(master.api_url)
    return Resource.objects.create(remote=remote, slug=f"resource-{next(_numbers)}", config=config_of(kind, **changes))


def spec_of(kind: Mapping[str, Any] = ACCOUNTS, **changes: Any) -> ResourceSpec:
    """Compile a spec without a database."""
    remote = Remote(slug="r", base_url="http://127.0.0.1:1/api", config={})
    return compile_spec(Resource(remote=remote, slug="x", config=config_of(kind, **changes)), remote=remote)


def collection_of(resource: Resource) -> str:
    """Return the name of the demo collection that a resource stands for."""
    return str(resource.config["detail"]["path"]).split("/")[1]


def take(master: DemoMaster, resource: Resource, *external_ids: str, owner: User | None = None) -> list[Record]:
    """Make records that agree with what the master holds, as a pull would."""
    now = timezone.now()
    documents = [master.get(collection_of(resource), external_id) for external_id in external_ids]
    states = [
        RecordState(
            id=0,
            resource_id=resource.pk,
            external_id=external_id,
            data=document,
            base=document,
            version=str(document["version"]) if "version" in document else None,
            revision=1,
            intent=Intent.UPDATE,
            owner_id=owner.pk if owner else None,
            deleted_at=None,
            synced_at=now,
        )
        for external_id, document in zip(external_ids, documents, strict=True)
    ]
    ids = records.insert(states, now=now)
    transitions.insert([transitions.NewJob(pk, resource.remote_id, False, 4) for pk in ids], now=now)
    return [Record.objects.get(pk=pk) for pk in ids]


def agreed(count: int) -> list[Record]:
    """Make records of a new resource that agree with a master nobody has to run."""
    resource = make_resource(make_remote("http://127.0.0.1:1/api"))
    now = timezone.now()
    plain = {"name": "Ann", "email": "a@example.org", "tier": "gold", "active": True, "version": 1}
    rows = [{"id": f"A{n}", **plain} for n in range(count)]
    states = [RecordState(0, resource.pk, row["id"], row, row, "1", 1, Intent.UPDATE, None, None) for row in rows]
    ids = records.insert(states, now=now)
    transitions.insert([transitions.NewJob(pk, resource.remote_id, False, 4) for pk in ids], now=now)
    return list(Record.objects.select_related("resource__remote").filter(pk__in=ids).order_by("pk"))


def edit(record: Record, **changes: Any) -> local.Saved:
    """Save changes to a record as a person does."""
    return local.save(local.Edit(record.pk, changes), actor=PERSON)


def delete(record: Record) -> local.Saved:
    """Delete a record as a person does."""
    return local.save(local.Edit(record.pk, delete=True), actor=PERSON)


def create(resource: Resource, data: Mapping[str, Any]) -> Record:
    """Make a new record as a person does."""
    return Record.objects.get(pk=local.create(resource, dict(data), actor=PERSON, owner_id=None).record_id)


def job_of(record: Record) -> SyncJob:
    """Return the record's job as it stands now."""
    return SyncJob.objects.get(pk=record.pk)


@dataclass
class Clock:
    """The database's time as a test has it; it begins now, because saving reads the real one."""

    now: datetime = field(default_factory=timezone.now)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> datetime:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        return self.now

    def to(self, moment: datetime | None) -> datetime:
        """Let time pass until a moment that lies ahead."""
        if moment is None:
            raise AssertionError("there is no such moment")
        self.now = max(self.now, moment)
        return self.now


def drain(clock: Clock | None = None, **options: Any) -> draining.DrainReport:
    """Push everything that is due, at the clock's time."""
    clock = clock or Clock(timezone.now() + timedelta(milliseconds=1))
    return draining.drain(clock=clock, budget=draining.Budget(call_s=10, lease_s=90, task_s=None), **options)


def shown(document: Mapping[str, Any], *, external_id: str | None = "A", version: str | None = None) -> RemoteObject:
    """Make a RemoteObject from a document whose version stands in it."""
    known = str(document["version"]) if "version" in document else None
    return RemoteObject(external_id, dict(document), version or known)


def answer(document: Any = EMPTY, *, status: int = 200, **headers: str) -> Answer:
    """Make an Answer as the client hands it over."""
    exchange = Exchange("test", "GET", "http://remote/x", {}, None, status, {}, None, 0, T0, 1)
    return Answer(
        status, Headers({name.replace("_", "-"): value for name, value in headers.items()}), document, exchange
    )


def a_claim(
    base: Mapping[str, Any] | None,
    data: Mapping[str, Any],
    *,
    intent: str = Intent.UPDATE,
    version: str | None = "1",
    sends: tuple[Send, ...] = (),
    **other: Any,
) -> Claim:
    """Make a Claim for the pure decisions."""
    operation = intent if intent == Intent.DELETE or base is not None else Intent.CREATE
    current = Send(str(operation), dict(data), version, "key-now", T0)
    values = {
        "record_id": 1, "remote_id": 1, "resource_id": 1, "external_id": "A", "revision": 2, "attempt": 1,
        "max_attempts": 4, "claim_no": 1, "rebases": 0, "lease_until": T0 + timedelta(seconds=90),
    }  # fmt: skip
    return Claim(
        intent=str(intent), data=dict(data), base=dict(base) if base is not None else None, version=version,
        sends=sends, current=current, **{**values, **other},
    )  # fmt: skip


def a_send(content: Mapping[str, Any] | None, *, version: str | None = "1", age_s: float = 0, **other: Any) -> Send:
    """Make a Send that left `age_s` seconds before T0."""
    values = {"operation": "update" if content is not None else "delete", "key": "key-then", **other}
    return Send(content=dict(content) if content is not None else None, version=version,
                sent_at=T0 - timedelta(seconds=age_s), **values)  # fmt: skip
