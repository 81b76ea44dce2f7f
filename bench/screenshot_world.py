"""The installation that the pictures show: agreement, edits, failures, conflicts, undone groups, alerts, hostile words.

Owns: filling an empty database through the product's own functions, and which address shows what. Guarantees: every
page of the product has an address here, with the state that is hardest to draw. Does not: start or photograph anything.
"""

import copy
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group as Role
from django.contrib.auth.models import User
from django.db.models import Model
from django.utils import timezone

from reconciliation import engine, runs
from reconciliation.models import Discrepancy, Run
from rollback import compensate
from rollback.models import CompensatingTask, Group
from syncportal.access import keys, roles
from syncportal.access.models import ApiKey
from syncportal.bulk import journal, work
from syncportal.bulk.models import BulkOperation
from syncportal.demo import DemoMaster
from syncportal.demo import groups as demo_groups
from syncportal.demo.client import DemoControl
from syncportal.ops import duties, heartbeat
from syncportal.ops.alerts import channels, evaluate, rule_store, sending, silences
from syncportal.ops.alerts.models import Alert, AlertRule, Channel, Delivery
from syncportal.remote import configuration, connection, probe
from syncportal.remote.models import Gate, Resource
from syncportal.sync import drain as draining
from syncportal.sync import local, operate, pull, records, transitions
from syncportal.sync.error_models import ErrorGroup
from syncportal.sync.events import Actor
from syncportal.sync.local import Edit
from syncportal.sync.models import Conflict, Event, Record, SyncJob, SyncLog
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> "quoted" & long ' + "word" * 60
Pages = dict[str, str]

LISTS: Pages = {
    "start": "/admin/", "my_work": "/admin/work/", "records": "/admin/sync/record/",
    "conflicts": "/admin/sync/conflict/", "errors": "/admin/sync/errorgroup/", "log": "/admin/sync/synclog/",
    "events": "/admin/sync/event/", "groups": "/admin/rollback/group/", "tasks": "/admin/rollback/compensatingtask/",
    "runs": "/admin/reconciliation/run/", "discrepancies": "/admin/reconciliation/discrepancy/",
    "bulk": "/admin/bulk/bulkoperation/", "alerts": "/admin/ops/alert/", "deliveries": "/admin/ops/delivery/",
    "silences": "/admin/ops/silence/", "rules": "/admin/ops/alertrule/", "channels": "/admin/ops/channel/",
    "digest": "/admin/ops/alert/digest/", "remotes": "/admin/remote/remote/", "resources": "/admin/remote/resource/",
    "workers": "/admin/ops/heartbeat/", "timetable": "/admin/ops/duty/", "users": "/admin/auth/user/",
    "roles": "/admin/auth/group/", "keys": "/admin/access/apikey/",
}  # fmt: skip
FORMS: Pages = {
    "add_remote": "/admin/remote/remote/add/", "add_resource": "/admin/remote/resource/add/",
    "add_record": "/admin/sync/record/add/", "add_rule": "/admin/ops/alertrule/add/",
    "add_channel": "/admin/ops/channel/add/", "add_key": "/admin/access/apikey/add/",
    "add_user": "/admin/auth/user/add/", "add_role": "/admin/auth/group/add/",
    "password": "/admin/password_change/", "password_done": "/admin/password_change/done/",
}  # fmt: skip
SIGNED_OUT: Pages = {"login": "/admin/login/?next=/admin/"}
PROBLEMS: Pages = {"missing": "/admin/nothing-here/", "refused": "/admin/ops/channel/", "api_docs": "/api/docs/"}


def people() -> dict[str, User]:
    """Make one person for each role."""
    roles.make_roles()
    named = {"operator": roles.OPERATIONS, "owner": roles.OWNERS, "viewer": roles.VIEWERS, "idle": roles.OWNERS}
    made = {"root": User.objects.create_superuser("root", "root@example.org", "x")}
    for name, role in named.items():
        made[name] = User.objects.create_user(name, f"{name}@example.org", "x", is_staff=True)
        made[name].groups.add(Role.objects.get(name=role))
    return made


def drain(*, later_s: float = 0) -> None:
    """Push what is due at a time that lies ahead."""
    at = timezone.now() + timedelta(seconds=later_s)
    draining.drain(clock=lambda: at, budget=draining.Budget(call_s=10, lease_s=90, task_s=None))


def undo() -> None:
    """Run the compensating tasks that are due within a minute."""
    at = timezone.now() + timedelta(minutes=1)
    compensate.run_due(seconds=20, clock=lambda: at)


def configure(master: DemoMaster) -> None:
    """Load the demo's two remotes, pointed at this master."""
    text = Path("syncportal/demo/remotes.yaml").read_text(encoding="utf-8")
    text = text.replace("http://127.0.0.1:8900/api", master.api_url)
    configuration.apply(configuration.plan(configuration.parse(text)))


def fill(master: DemoMaster, known: dict[str, User]) -> Pages:
    """Pull, edit, fail and conflict; return the pages that show it."""
    actor = Actor("user", known["operator"].pk, "operator")
    for resource in Resource.objects.all():
        pull.run(pull.start(resource).pk)
        connection.test(resource.remote)
    rows = {row.external_id: row.pk for row in Record.objects.all()}
    operate.assign([rows[f"ACC-{i:04d}"] for i in range(1, 16)], owner_id=known["owner"].pk, actor=actor)
    for i in range(1, 6):
        local.save(Edit(rows[f"ACC-{i:04d}"], {"city": "Bergen", "credit": 900 + i}), actor=actor)
    drain()
    clashes = {
        "ACC-0010": ({"city": "Lund"}, {"city": "Ghent"}),
        "ACC-0011": ({"city": "Bergen", "notes": "Call first.", "credit": 300}, {"city": "Oslo", "credit": 410}),
        "ACC-0012": ({"name": "Our name", "tier": "gold", "credit": 300}, {"name": HOSTILE[:110], "credit": 500}),
    }
    for name, (ours, theirs) in clashes.items():
        local.save(Edit(rows[name], ours), actor=actor)
        master.edit("accounts", name, theirs)
    drain()
    for name, status in (("ACC-0013", 503), ("ACC-0014", 422), ("ACC-0015", 500), ("ACC-0017", 500)):
        settings = {"status": status, "body": {"error": f"Not now. {HOSTILE}" if status == 422 else "Not now."}}
        master.faults.add_json({"kind": "status", "settings": settings, "object_id": name, "phase": "write"})
        local.save(Edit(rows[name], {"notes": f"Changed. {HOSTILE}"}), actor=actor)
    drain()
    for seconds in (10, 60, 400):
        drain(later_s=seconds)
    local.save(Edit(rows["ACC-0016"], {"city": "Tartu"}), actor=actor)
    heartbeat.beat(heartbeat.Beat("worker-1", 4711, "running", canary_age_s=2), now=timezone.now())
    cases = {row.record.external_id: f"/admin/sync/conflict/{row.pk}/" for row in Conflict.objects.all()}
    record = "/admin/sync/record/{}/change/".format
    failed = SyncLog.objects.filter(outcome="retry_later").first() or SyncLog.objects.earliest("pk")
    return {
        "detail_record": record(rows["ACC-0001"]),
        "detail_record_failed": record(rows["ACC-0013"]),
        "detail_record_conflict": record(rows["ACC-0011"]),
        "detail_record_hostile": record(rows["ACC-0014"]),
        "detail_shift": record(rows["SH-0001"]),
        "detail_timeline": f"/admin/sync/record/{rows['ACC-0014']}/timeline/",
        "detail_delete": f"/admin/sync/record/{rows['ACC-0001']}/delete/",
        "detail_conflict": cases["ACC-0011"],
        "detail_conflict_small": cases["ACC-0010"],
        "detail_conflict_hostile": cases["ACC-0012"],
        "detail_log": f"/admin/sync/synclog/{failed.pk}/",
        "detail_error": f"/admin/sync/errorgroup/{ErrorGroup.objects.earliest('pk').pk}/",
        "add_record_form": "/admin/sync/record/add/?resource=shifts",
        "filtered": "/admin/sync/record/?status=stopped&resource=accounts",
        "dead": "/admin/sync/record/?status=DEAD_LETTER",
        "nothing": "/admin/sync/record/?q=nothinglikethis",
    }


def send_groups(master: DemoMaster, portal_url: str, sender: User) -> Pages:
    """Send grouped updates that end in every way there is; return the pages that show them."""
    key = keys.create_key(sender, name=HOSTILE[:100], scopes=keys.ALL_SCOPES, expires_at=None, now=timezone.now())
    keys.create_key(
        sender, name="Nightly import", scopes=[keys.Scope.READ], expires_at=timezone.now() + timedelta(days=3),
        now=timezone.now(),
    )  # fmt: skip
    gone = keys.create_key(sender, name="Old", scopes=[keys.Scope.READ], expires_at=None, now=timezone.now())
    keys.revoke(keys.check_key(gone, now=timezone.now()).pk, now=timezone.now())
    portal, control = demo_groups.Portal(portal_url, key), DemoControl(master.url)
    for name in ("succeeds", "undone", "healed"):
        demo_groups.CASES[name](portal, control)
    undo()
    demo_groups.CASES["stuck"](portal, control)
    undo()
    demo_groups._refuse(control, "SH-0015")
    demo_groups._fail_undo(control, "SH-0014")
    portal.send(demo_groups._body("SH-0014", "SH-0015"))
    pages = {f"detail_group_{row.status}": f"/admin/rollback/group/{row.pk}/" for row in Group.objects.all()}
    pages |= {
        f"detail_task_{row.status}": f"/admin/rollback/compensatingtask/{row.pk}/"
        for row in CompensatingTask.objects.all()
    }
    return pages | {"detail_key": f"/admin/access/apikey/{ApiKey.objects.earliest('pk').pk}/change/"}


def compare(master: DemoMaster, user: User) -> Pages:
    """Compare both sides after edits outside, act on some in bulk, and return the pages that show it."""
    resource = Resource.objects.get(slug="shifts")
    policy = {"repair": dict.fromkeys(("version_drift", "data_mismatch"), "alert"), "lag_s": 0}
    Resource.objects.filter(pk=resource.pk).update(config={**resource.config, "policy": policy})
    resource.refresh_from_db()
    actor = Actor("user", user.pk, user.username)
    for number in range(1, 7):
        outside = {"title": f"Moved by somebody else {HOSTILE}"[: 30 * number], "seats": 9}
        master.edit("shifts", f"SH-{number + 15:04d}", outside)
        run = runs.start(resource, actor=actor, dry_run=number == 6)
        while engine.run_slice(run.pk, seconds=10).goes_on:
            pass
    found = list(Discrepancy.objects.order_by("pk").values_list("pk", flat=True))
    failed = list(SyncJob.objects.filter(status__in=["DEAD_LETTER", "ERROR"]).values_list("pk", flat=True))
    made = {}
    for name, act, ids, ramp in (("draft", "discrepancies.take_remote", found, False),
                                 ("running", "discrepancies.take_remote", found, False),
                                 ("ramp", "records.requeue", failed, True)):  # fmt: skip
        made[name] = journal.prepare(
            journal.NewOperation(act, ids, user.pk, user.username, ramp=ramp), now=timezone.now()
        ).pk
        if name != "draft":
            work.begin(made[name], parameters={})
            work.run(made[name], seconds=5)
    return {
        "runs_of": "/admin/reconciliation/run/?resource=shifts",
        "detail_run": f"/admin/reconciliation/run/{run.pk}/",
        "detail_discrepancy": f"/admin/reconciliation/discrepancy/{found[-1]}/",
        **{f"detail_bulk_{name}": f"/admin/bulk/bulkoperation/{pk}/" for name, pk in made.items()},
    }


def alarm(user: User) -> Pages:
    """Raise alerts, tell of them, silence one; return the pages that show them."""
    rule_store.ensure()
    channels.ensure()
    now, actor = timezone.now(), Actor("user", user.pk, user.username)
    channels.store(None, channels.Wanted(name="Night shift", via="email", target="night@example.org"), actor=user)
    first = Resource.objects.get(slug="accounts")
    gate = {"breaker": "open", "opened_at": now - timedelta(minutes=4), "open_until": now, "last_error": HOSTILE}
    Gate.objects.update_or_create(remote=first.remote, defaults=gate)
    evaluate.evaluate(now)
    sending.send_due(seconds=10)
    match = silences.Match(remote_id=Resource.objects.get(slug="shifts").remote_id)
    silences.make(match, reason=f"Maintenance {HOSTILE}", ends_at=now + timedelta(hours=2), actor=actor, now=now)
    for duty in duties.DUTIES[:4]:
        duties.run_now(duty.name)
    duties.pause("retention", reason=f"Audit {HOSTILE}", actor=actor, now=now)
    rule, channel = AlertRule.objects.get(kind="success_rate"), Channel.objects.get(name="Night shift")
    pages = {f"detail_alert_{row.kind}": f"/admin/ops/alert/{row.pk}/" for row in Alert.objects.all()}
    if told := Delivery.objects.first():
        pages["detail_delivery"] = f"/admin/ops/delivery/{told.pk}/"
    return pages | {
        "alerts_all": "/admin/ops/alert/?state=all",
        "detail_rule": f"/admin/ops/alertrule/{rule.pk}/change/",
        "detail_rule_history": f"/admin/ops/alertrule/{rule.pk}/history/",
        "detail_channel": f"/admin/ops/channel/{channel.pk}/change/",
        "detail_channel_history": f"/admin/ops/channel/{channel.pk}/history/",
    }


def connections(user: User) -> Pages:
    """Probe a resource; return the pages about connections and people."""
    first = Resource.objects.get(slug="accounts")
    probe.run(first, actor=user)
    remote, resource, person = (
        f"/admin/remote/remote/{first.remote_id}", f"/admin/remote/resource/{first.pk}", f"/admin/auth/user/{user.pk}",
    )  # fmt: skip
    role = f"/admin/auth/group/{Role.objects.earliest('pk').pk}"
    return {
        "detail_remote": f"{remote}/change/", "detail_remote_history": f"{remote}/history/",
        "detail_resource": f"{resource}/change/", "detail_resource_history": f"{resource}/history/",
        "detail_probe": f"{resource}/probe/", "detail_user": f"{person}/change/",
        "detail_user_password": f"{person}/password/", "detail_user_delete": f"{person}/delete/",
        "detail_user_history": f"{person}/history/", "detail_role": f"{role}/change/",
        "detail_role_delete": f"{role}/delete/", "detail_role_history": f"{role}/history/",
        "detail_app": "/admin/auth/",
    }  # fmt: skip


def many(count: int) -> None:
    """Add rows in bulk, as a big installation has them."""
    resource, now = Resource.objects.get(slug="shifts"), timezone.now()
    states = []
    for i in range(count):
        data = {"code": f"X-{i:06d}", "title": f"Shift {i} of a large installation", "seats": i % 9}
        states.append(
            RecordState(
                id=0, resource_id=resource.pk, external_id=f"X-{i:06d}", data=data, base=data, version="1",
                revision=1, intent=Intent.UPDATE, owner_id=None, deleted_at=None, synced_at=now,
            )
        )  # fmt: skip
    ids = records.insert(states, now=now)
    transitions.insert([transitions.NewJob(pk, resource.remote_id, False, 4) for pk in ids], now=now)
    copies(Conflict, [{"record_id": pk} for pk in ids], state="open")
    copies(Discrepancy, [{"external_id": f"X-{i:06d}", "record_id": pk} for i, pk in enumerate(ids)], state="open")
    copies(Event, [{"record_id": pk} for pk in ids], kind="discrepancy.found")
    copies(SyncLog, [{"record_id": pk} for pk in ids], record__isnull=False)
    copies(BulkOperation, [{}] * count)
    copies(Run, [{}] * count, state="finished")
    scopes = [{"scope_key": f"remote:{i + 1_000}", "scope_name": f"remote {i}"} for i in range(count)]
    copies(Alert, scopes, state="open")
    copies(Delivery, [{"uid": uuid.uuid4()} for _ in range(count)])
    copies(ErrorGroup, [{"id": i + 1, "message": f"Refused for the reason {i}."} for i in range(500)])
    copies(Group, [{"group_id": f"many-{i}"} for i in range(count)], status="applied")
    copies(User, [{"username": f"person-{i}"} for i in range(count)], username="owner")


def copies(model: type[Model], changes: Sequence[Mapping[str, Any]], **like: Any) -> None:
    """Add a copy of one row with each of the changes, past the product's verbs: rows to be looked at only."""
    first = model._default_manager.filter(**like).order_by("-pk").first()
    if first is None:
        raise LookupError(f"no {model.__name__} to copy")
    rows = []
    for change in changes:
        row = copy.copy(first)
        row.pk = None
        for name, value in change.items():
            setattr(row, name, value)
        rows.append(row)
    model._default_manager.bulk_create(rows, batch_size=500)
