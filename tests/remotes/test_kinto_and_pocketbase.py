"""The main job against real third-party servers: Kinto enforces If-Match, PocketBase ignores it."""

import json
from typing import Any

import pytest

from syncportal.remote.models import Resource
from syncportal.sync import local, pull
from syncportal.sync.drain import drain
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict, Record, SyncJob
from syncportal.sync.resolve import Action, Decision, resolve
from tests.remotes.outside import COMPARED, Outside
from tests.remotes.servers import Server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.remote_server]


def test_the_main_job_end_to_end(server: Server, resource: Resource, somebody: Actor) -> None:
    outside = Outside(server)

    pulled = pull.run(pull.start(resource).pk)
    assert (pulled.seen, pulled.created, pulled.invalid) == (120, 120, 0)
    records = list(Record.objects.filter(resource=resource).order_by("external_id"))
    again = pull.run(pull.start(resource).pk)
    assert (again.unchanged, again.updated) == (120, 0)

    edited, conflicting, disjoint = records[:20], records[20:23], records[23:25]
    for number, record in enumerate(edited):
        local.save(local.Edit(record.pk, {"title": f"Edited {number} – Ä", "seats": 40 + number}), actor=somebody)
    for record in conflicting:
        outside.edit(record.external_id, title="Changed outside")
        local.save(local.Edit(record.pk, {"title": "Changed here"}), actor=somebody)
    for record in disjoint:
        outside.edit(record.external_id, site="Moved outside")
        local.save(local.Edit(record.pk, {"title": "Renamed here"}), actor=somebody)
    made = local.create_many(
        resource,
        [{"code": f"NEW-{n}", "title": f"Brand new {n}", "seats": n, "status": "open"} for n in (1, 2)],
        actor=somebody,
        owner_id=None,
    )
    local.save(local.Edit(records[30].pk, delete=True), actor=somebody)
    drain()

    stuck = {
        job.pk: (job.status, job.reason, job.detail)
        for job in SyncJob.objects.exclude(status__in=["SYNCED", "SKIPPED", "VERSION_CONFLICT"])
    }
    assert stuck == {}
    conflicts = list(Conflict.objects.open().select_related("record").order_by("record__external_id"))
    assert [conflict.record_id for conflict in conflicts] == [record.pk for record in conflicting]
    assert all(conflict.fields == ["/title"] for conflict in conflicts)

    decisions: list[tuple[Action, dict[str, Any]]] = [
        (Action.USE_REMOTE, {}),
        (Action.PUSH_LOCAL, {}),
        (Action.MERGE, {"/title": {"value": "Agreed"}}),
    ]
    for conflict, (action, fields) in zip(conflicts, decisions, strict=True):
        decision = Decision(action, conflict.record.revision, conflict.remote_version, fields)
        resolve(conflict.pk, decision, actor=somebody)
    drain()

    there = outside.contents()
    assert len(there) == 121
    assert records[30].external_id not in there
    for number, record in enumerate(edited):
        shown = there[record.external_id]
        assert (shown["title"], shown["seats"]) == (f"Edited {number} – Ä", 40 + number)
    titles = [there[record.external_id]["title"] for record in conflicting]
    assert titles == ["Changed outside", "Changed here", "Agreed"]
    for record in disjoint:
        shown = there[record.external_id]
        assert (shown["title"], shown["site"]) == ("Renamed here", "Moved outside")
    assert sorted(item["code"] for item in there.values() if item["code"].startswith("NEW")) == ["NEW-1", "NEW-2"]
    assert {Record.objects.get(pk=saved.record_id).external_id for saved in made} <= there.keys()

    for record in Record.objects.present().filter(resource=resource).select_related("job"):
        assert record.job.status in {"SYNCED", "SKIPPED"}, (record.job.status, record.job.detail)
        shown = there[record.external_id]
        assert {name: record.data.get(name) for name in COMPARED} == {name: shown.get(name) for name in COMPARED}
    assert not Conflict.objects.open().exists()
    last = pull.run(pull.start(resource).pk)
    assert (last.created, last.updated, last.busy, last.invalid) == (0, 0, 0, 0)


def test_the_servers_refusals_reach_the_record(server: Server, resource: Resource, somebody: Actor) -> None:
    outside = Outside(server)
    pull.run(pull.start(resource).pk)
    record = Record.objects.filter(resource=resource).order_by("external_id")[50]
    taken = Record.objects.filter(resource=resource).order_by("external_id")[51]
    local.save(local.Edit(record.pk, {"code": taken.data["code"]}), actor=somebody)
    drain()
    record.refresh_from_db()
    if server.name == "pocketbase":
        assert (record.job.status, record.job.reason) == ("ERROR", "rejected")
        assert "code" in record.job.detail
        assert outside.contents()[record.external_id]["code"] == record.base["code"]
    else:
        assert record.job.status == "SYNCED"
        assert json.dumps(outside.contents()[record.external_id]).count(taken.data["code"]) == 1
