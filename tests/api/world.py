"""A small world for API tests: two owners, a viewer, an operator, records in known states, callers with keys.

Owns: making rows past the product's verbs where a test needs a state at once. Guarantees: nothing here asserts.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.utils import timezone
from rest_framework.test import APIClient

from reconciliation import models as reconciliation
from rollback import models as rollback
from syncportal.access.keys import ALL_SCOPES, Scope, create_key
from syncportal.access.roles import ADMINISTRATORS, OPERATIONS, OWNERS, VIEWERS
from syncportal.bulk import journal
from syncportal.bulk.journal import NewOperation
from syncportal.bulk.models import BulkOperation
from syncportal.ops.models import Alert, AlertRule
from syncportal.remote.models import Resource
from syncportal.sync import conflict_store, error_groups, records, transitions
from syncportal.sync.causes import cause_of
from syncportal.sync.conflict_store import Opening
from syncportal.sync.error_models import ErrorGroup
from syncportal.sync.models import Conflict, Event, Record, SyncJob, SyncLog
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from tests.factories import make_remote, make_resource

ROLES = {"owner": OWNERS, "other": OWNERS, "viewer": VIEWERS, "operator": OPERATIONS, "admin": ADMINISTRATORS}
ACCOUNT = {
    "id": "A", "name": "Ada", "email": "ada@example.org", "tier": "gold", "active": True, "version": 3,
    "updated_at": "2026-01-01T00:00:00Z",
}  # fmt: skip


def person(name: str, role: str | None = None) -> User:
    """Make a user, in one of the product's roles."""
    user = User.objects.create_user(name, password="a long password")
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


def caller(user: User | None, *scopes: Scope) -> APIClient:
    """Return a client with a key of the user's; with all scopes unless some are named, without any key for None."""
    client = APIClient(raise_request_exception=False)
    if user is not None:
        now = timezone.now()
        key = create_key(user, name="test", scopes=scopes or ALL_SCOPES, expires_at=now + timedelta(days=1), now=now)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


def stored(resource: Resource, external_id: str = "A", *, owner: User | None = None, **data: Any) -> Record:
    """Make a record that agrees with its master."""
    now = timezone.now()
    content = {**ACCOUNT, "id": external_id, **data}
    state = RecordState(
        id=0, resource_id=resource.pk, external_id=external_id, data=content, base=content,
        version=str(content["version"]), revision=1, intent=Intent.UPDATE, owner_id=owner.pk if owner else None,
        deleted_at=None, synced_at=now,
    )  # fmt: skip
    [record_id] = records.insert([state], now=now)
    transitions.insert([transitions.NewJob(record_id, resource.remote_id, False, 4)], now=now)
    return Record.objects.get(pk=record_id)


def put_into(record: Record, status: str, **values: Any) -> None:
    """Put the record's job into a status at once."""
    due = {"due_at": timezone.now()} if status in {"PENDING", "RETRY_PENDING"} else {"due_at": None}
    SyncJob.objects.filter(pk=record.pk).update(status=status, **{**due, **values})


def in_conflict(record: Record, **remote: Any) -> Conflict:
    """Open a conflict on the record's e-mail: both sides changed it."""
    now = timezone.now()
    base = dict(record.data)
    local = {**base, "email": "local@example.org"}
    theirs = {**base, "email": "remote@example.org", "version": 4, **remote}
    Record.objects.filter(pk=record.pk).update(data=local, revision=2)
    records.remember_content([record.pk])
    record.refresh_from_db()
    put_into(record, "VERSION_CONFLICT", reason="concurrent_edit", detail="Changed on both sides")
    opening = Opening(
        record_id=record.pk, resource_id=record.resource_id, reason="concurrent_edit", base=base, local=local,
        remote=theirs, fields=("/email",), revision=2, remote_version="4",
    )  # fmt: skip
    return Conflict.objects.get(pk=conflict_store.open_or_renew([opening], now=now)[opening.record_id])


def failed_task(record: Record, user: User, *, request_id: str = "req-of-the-world") -> rollback.CompensatingTask:
    """Leave a group of the user's whose undo failed for good."""
    now = timezone.now()
    request = rollback.GroupedUpdate.objects.create(
        request_id=request_id, user=user, actor_kind="user", actor_label=user.username, body_hash="0", created_at=now
    )
    group = rollback.Group.objects.create(
        request=request, group_id="g1", position=0, status="needs_attention", created_at=now, updated_at=now
    )
    step = rollback.Step.objects.create(
        group=group, position=0, record=record, resource=record.resource, occurrence_id=record.external_id,
        changes={"city": "Porto"}, status="undo_pending", snapshot=record.data, snapshot_version="3",
        applied={**record.data, "city": "Porto", "version": 4}, applied_version="4",
    )  # fmt: skip
    return rollback.CompensatingTask.objects.create(
        step=step, record=record, resource=record.resource, request_id=request_id, group_id="g1",
        occurrence_id=record.external_id, snapshot=record.data, applied=step.applied, unknown=False,
        status="failed_permanent", reason="max_attempts", attempts=10, created_at=now, updated_at=now,
        last_error={"code": "timeout", "detail": "No answer.", "httpStatus": None},
    )  # fmt: skip


def differing(record: Record) -> reconciliation.Discrepancy:
    """Leave a finished dry run that found the record's e-mail different, and planned nothing."""
    now = timezone.now()
    run = reconciliation.Run.objects.create(
        resource=record.resource, dry_run=True, state="finished", phase="done", checked=1, data_mismatch=1,
        started_at=now, progress_at=now, finished_at=now,
    )  # fmt: skip
    return reconciliation.Discrepancy.objects.create(
        resource=record.resource, external_id=record.external_id, record=record, run=run, kind="data_mismatch",
        cause="changed_remotely", revision=record.revision, status="SYNCED", local_version=record.version,
        remote_version="4", found_at=now, seen_at=now,
        differences=[{"pointer": "/email", "local": "ada@example.org", "remote": "private@example.org"}],
    )  # fmt: skip


def open_alert(resource: Resource) -> Alert:
    """Leave an alert about a resource that nobody has taken on."""
    now = timezone.now()
    rule = AlertRule.objects.filter(kind="dead_letters").first() or AlertRule.objects.create(
        kind="dead_letters", severity="warning", scope="resource", threshold=1
    )
    alert, _ = Alert.objects.update_or_create(
        rule=rule, kind=rule.kind, scope_key=f"resource:{resource.pk}", remote=resource.remote, resource=resource,
        defaults={"scope_name": str(resource), "severity": "warning", "summary": "1 dead letter", "since": now,
                  "opened_at": now, "seen_at": now, "state": "open", "acknowledged_by": None,
                  "acknowledged_label": "", "acknowledged_at": None},
    )  # fmt: skip
    return alert


def error_group(resource: Resource, owner: User, *, code: str = "http_422") -> ErrorGroup:
    """Leave a record of the owner's that fails, and the group of its cause."""
    now, record = timezone.now(), stored(resource, f"F-{owner.username}-{code}", owner=owner)
    cause = cause_of(remote_id=resource.remote_id, kind="rejected", code=code, message="Refused.")
    error_groups.add([cause], now=now)
    put_into(record, "ERROR", error_group_id=cause.id)
    exchange(record, outcome="fail", error_group_id=cause.id, error_code=code)
    return ErrorGroup.objects.get(pk=cause.id)


def draft_retry(user: User, *records: Record) -> BulkOperation:
    """Leave a preview of the user's: requeue these records in steps."""
    ids = [record.pk for record in records]
    new = NewOperation("records.requeue", ids, user.pk, user.username, ramp=True)
    return journal.prepare(new, now=timezone.now())


def exchange(record: Record, **values: Any) -> SyncLog:
    """Leave an entry in the sync log."""
    return SyncLog.objects.create(
        **{
            "record": record, "resource": record.resource, "at": timezone.now(), "purpose": "write", "method": "PUT",
            "url": "http://remote/accounts/A", "http_status": 200, "outcome": "complete", "final": True, **values,
        }
    )  # fmt: skip


def happened(record: Record | None, kind: str = "sync.succeeded", **values: Any) -> Event:
    """Leave an event."""
    resource = record.resource if record else None
    return Event.objects.create(
        **{"at": timezone.now(), "kind": kind, "record": record, "resource": resource, "actor_kind": "worker", **values}
    )


@dataclass
class World:
    """Two owners with a record each, and people who look and operate."""

    resource: Resource = field(default_factory=lambda: make_resource(make_remote("http://127.0.0.1:9/api")))
    people: dict[str, User] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.people = {name: person(name, role) for name, role in ROLES.items()} | {"nobody": person("nobody")}
        self.record = stored(self.resource, "A", owner=self.people["owner"])
        self.others = stored(self.resource, "B", owner=self.people["other"])

    def caller(self, name: str, *scopes: Scope) -> APIClient:
        """Return a client with a key of the named person's."""
        return caller(self.people[name] if name else None, *scopes)
