"""What must hold on every page: who gets in, no change on GET, CSRF, hostile text, strict CSP."""

from html.parser import HTMLParser
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.urls import reverse

from syncportal.bulk import journal
from syncportal.bulk.models import BulkOperation
from syncportal.sync.models import Conflict, Event, Pull, Record, SyncJob, SyncLog
from tests.admin.conftest import HOSTILE, World
from tests.factories import drain, edit

READS = {
    "list": ("sync_record_changelist", "olga otto ops vera anna"),
    "record": ("sync_record_change", "olga ops vera anna"),
    "foreign record": ("sync_record_change", "ops vera anna"),
    "state": ("sync_record_state", "olga ops vera anna"),
    "history": ("sync_record_timeline", "olga ops vera anna"),
    "delete": ("sync_record_delete", "olga ops anna"),
    "add": ("sync_record_add", "olga otto ops anna"),
    "conflicts": ("sync_conflict_changelist", "olga otto ops vera anna"),
    "conflict": ("sync_conflict_change", "olga ops vera anna"),
    "log": ("sync_synclog_changelist", "olga otto ops vera anna"),
    "exchange": ("sync_synclog_change", "olga ops vera anna"),
    "events": ("sync_event_changelist", "olga otto ops vera anna"),
    "remotes": ("remote_remote_changelist", "ops vera anna"),
    "remote": ("remote_remote_change", "ops vera anna"),
    "remote history": ("remote_remote_history", "ops vera anna"),
    "new remote": ("remote_remote_add", "anna"),
    "resources": ("remote_resource_changelist", "olga otto ops vera anna"),
    "resource": ("remote_resource_change", "olga otto ops vera anna"),
    "resource history": ("remote_resource_history", "olga otto ops vera anna"),
    "new resource": ("remote_resource_add", "anna"),
    "pull": ("remote_resource_pull", "olga otto ops vera anna"),
    "probe": ("remote_resource_probe", "ops anna"),
    "workers": ("ops_heartbeat_changelist", "ops vera anna"),
    "timetable": ("ops_duty_changelist", "ops vera anna"),
    "keys": ("access_apikey_changelist", "olga otto ops vera anna nobody"),
    "new key": ("access_apikey_add", "olga otto ops vera anna nobody"),
    "bulk operations": ("bulk_bulkoperation_changelist", "olga otto ops vera anna"),
    "bulk operation": ("bulk_bulkoperation_change", "ops anna"),
    "bulk progress": ("bulk_bulkoperation_progress", "ops anna"),
}
WRITES = {
    "save": ("sync_record_change", "olga ops anna", {}),
    "delete": ("sync_record_delete", "olga ops anna", {"revision": "0"}),
    "requeue": ("sync_record_do/requeue", "olga ops anna", {}),
    "assign": ("sync_record_do/assign", "ops anna", {"owner": "nobody"}),
    "create": ("sync_record_add", "olga otto ops anna", {}),
    "decide": ("sync_conflict_change", "olga ops anna", {}),
    "start in bulk": ("bulk_bulkoperation_start", "ops", {}),
    "cancel in bulk": ("bulk_bulkoperation_do/cancel", "ops anna", {}),
    "pause": ("remote_remote_do/pause", "ops anna", {}),
    "resume": ("remote_remote_do/resume", "ops anna", {}),
    "save remote": ("remote_remote_change", "anna", {}),
    "new remote": ("remote_remote_add", "anna", {}),
    "save resource": ("remote_resource_change", "anna", {}),
    "new resource": ("remote_resource_add", "anna", {}),
    "probe with writes": ("remote_resource_do/probe-write", "ops anna", {}),
    "run a duty": ("ops_duty_run", "ops anna", {}),
    "pause a duty": ("ops_duty_pause", "ops anna", {}),
    "resume a duty": ("ops_duty_resume", "ops anna", {}),
    "new key": ("access_apikey_add", "olga otto ops vera anna nobody", {}),
}


@pytest.fixture
def busy(world: World) -> World:
    """Make one of everything: a conflict, a failure, a log, events; texts are hostile."""
    world.conflict(world.records[0], remote={"city": HOSTILE[0], "name": HOSTILE[1]}, city=HOSTILE[2], name=HOSTILE[5])
    world.master.faults.add("status", object_id="ACC-0002", status=422)
    edit(world.records[1], notes=" ".join(HOSTILE), city=HOSTILE[6])
    drain()
    SyncJob.objects.filter(pk=world.records[1].pk).update(detail=" ".join(HOSTILE), held_by="")
    Record.objects.filter(pk=world.records[2].pk).update(title=HOSTILE[0], external_id=HOSTILE[1])
    SyncLog.objects.update(detail=HOSTILE[0], url=HOSTILE[1], response_body=HOSTILE[6], request_body=HOSTILE[5])
    Event.objects.filter(kind="sync.failed").update(data={"detail": HOSTILE[0], "reason": HOSTILE[1]})
    resource = world.resource
    type(resource).objects.filter(pk=resource.pk).update(
        name=HOSTILE[0], guarantees={"problems": HOSTILE, "promise": HOSTILE[1], "conditional_writes": "no"}
    )
    type(resource.remote).objects.filter(pk=resource.remote_id).update(name=HOSTILE[5])
    ops = world.people["ops"]
    ids = [record.pk for record in world.records]
    journal.prepare(journal.NewOperation("records.requeue", ids, ops.pk, HOSTILE[0]), now=resource.created_at)
    Pull.objects.create(resource=resource, state="done", problem=HOSTILE[0], started_at=resource.created_at)
    return world


def address(world: World, name: str, *, foreign: bool = False) -> str:
    name, _, extra = name.partition("/")
    conflict, log = Conflict.objects.get(), SyncLog.objects.filter(record=world.records[1]).first()
    assert log is not None
    record = world.records[2] if foreign else world.records[0]
    ids: dict[str, list[Any]] = {
        "sync_record": [record.pk], "sync_conflict": [conflict.pk], "sync_synclog": [log.pk],
        "bulk_bulkoperation": [BulkOperation.objects.get().pk],
        "remote_remote": [world.resource.remote_id], "remote_resource": [world.resource.pk],
        "ops_duty": ["seal"],
    }  # fmt: skip
    model = name.rsplit("_", 1)[0]
    arguments = [] if name.endswith(("changelist", "add", "bulk")) else ids[model]
    return reverse(f"admin:{name}", args=[*arguments, *([extra] if extra else [])])


def counts() -> dict[str, Any]:
    """Return every row of our tables that a page could change, as text."""
    state: dict[str, Any] = {}
    for label in ("sync", "remote", "bulk"):
        for model in apps.get_app_config(label).get_models():
            state[model.__name__] = sorted(str(row) for row in model._default_manager.values_list())
    return state


def test_everybody_gets_exactly_as_far_as_their_role_allows(busy: World) -> None:
    wrong = []
    for label, (name, allowed) in READS.items():
        url = address(busy, name, foreign=label == "foreign record")
        for who in busy.people:
            status = busy.client(who).get(url).status_code
            if (status == 200) != (who in allowed.split()):
                wrong.append((label, who, status))
        answer = Client().get(url)
        if answer.status_code != 302 or "/login/" not in answer["Location"]:
            wrong.append((label, "stranger", answer.status_code))
    assert wrong == []


def test_writes_are_refused_by_role_and_scope(busy: World) -> None:
    wrong = []
    for label, (name, allowed, data) in WRITES.items():
        url = address(busy, name)
        for who in busy.people:
            if who in allowed.split():
                continue
            before = counts()
            status = busy.client(who).post(url, data).status_code
            if status not in (403, 404) or counts() != before:
                wrong.append((label, who, status))
        for who in allowed.split():
            status = busy.client(who).post(url, data).status_code
            if status in (403, 404, 405, 500):
                wrong.append((label, who, status))
    assert wrong == []


def test_looking_changes_nothing(busy: World) -> None:
    before = counts()
    for label, (name, _) in READS.items():
        assert busy.client("anna").get(address(busy, name)).status_code == 200, label
    assert counts() == before
    for name in ("sync_record_do/requeue", "bulk_bulkoperation_start", "remote_remote_do/pause",
                 "remote_resource_do/pull"):  # fmt: skip
        assert busy.client("anna").get(address(busy, name)).status_code == 405
    assert counts() == before


def test_every_write_needs_its_token(busy: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(busy.people["anna"])
    before = counts()
    for name, _, data in WRITES.values():
        assert client.post(address(busy, name), data).status_code == 403
    assert counts() == before


OWN_SCRIPTS = ("/static/", "/admin/jsi18n/")


class _Danger(HTMLParser):
    """Collects what a browser would run or load on a page that is not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element as a browser parses it."""
        given = dict(attrs)
        if tag == "script" and not (given.get("src") or "").startswith(OWN_SCRIPTS):
            self.found.append(f"script {given}")
        if tag in ("img", "iframe", "object", "embed", "style", "base"):
            self.found.append(f"{tag} {given}")
        for name, value in attrs:
            target = (value or "").strip().lower()
            if name.startswith("on") or name == "style":
                self.found.append(f"{tag} {name}={value}")
            if name in ("href", "action", "formaction", "src", "hx-get") and target.startswith(
                ("javascript:", "data:", "//")
            ):
                self.found.append(f"{tag} {name}={value}")


def dangers(text: str) -> list[str]:
    parser = _Danger()
    parser.feed(text)
    return parser.found


def test_hostile_text_is_text_on_every_page(busy: World) -> None:
    client, found = busy.client("anna"), []
    pages = [address(busy, name, foreign=foreign) for name, _ in READS.values() for foreign in (False, True)]
    pages += [reverse("admin:index"), reverse("admin:sync_record_change", args=[busy.records[1].pk]),
              f"{reverse('admin:sync_record_add')}?resource={busy.resource.slug}",
              f"{reverse('admin:sync_record_changelist')}?q={HOSTILE[0]}&status={HOSTILE[1]}"]  # fmt: skip
    for url in pages:
        answer = client.get(url)
        assert answer.status_code == 200, url
        found += [(url, one) for one in dangers(answer.content.decode())]
    assert found == []


def test_the_search_for_danger_finds_some() -> None:
    for text in HOSTILE[:2] + HOSTILE[5:7] + ['<a href=" javascript:alert(1)">x</a>', '<p style="color:red">']:
        assert dangers(text), text


def test_hostile_input_is_never_an_error_page(busy: World) -> None:
    client, record = busy.client("anna"), busy.records[0]
    strange = ["\x00", "x" * 5000, "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace"), "[" * 3000]
    for url in (address(busy, name) for name, _ in READS.values()):
        for query in ("?back=%00%ff", "?before=9999999999999999999-x", "?revision=-1&seen=%00", "?p=abc", "?e=1",
                      "?o=99", "?resource=%00", "?owner=99999999999999999999", "?remote=x"):  # fmt: skip
            assert client.get(url + query).status_code < 500, url + query
    for text in strange:
        data = {"seen": text, "revision": text, "zone": text, "/name": text, "action": text, "ids": text, "owner": text,
                "remote_version": text, "rest": text, "slug": text, "base_url": text, "external_id": text}  # fmt: skip
        for name in ("sync_record_change", "sync_record_delete", "sync_record_add", "sync_conflict_change",
                     "bulk_bulkoperation_start", "sync_record_do/assign", "sync_record_do/link", "remote_remote_add",
                     "remote_remote_change", "remote_resource_change", "remote_resource_add"):  # fmt: skip
            assert client.post(address(busy, name), data).status_code < 500, (name, text[:10])
    for name in ("sync_record_change", "sync_conflict_change", "sync_synclog_change", "remote_remote_change"):
        assert client.get(reverse(f"admin:{name}", args=[987654321])).status_code == 404
    record.refresh_from_db()
    assert connection.connection is not None
