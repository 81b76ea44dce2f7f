"""The main job against real third-party servers: Kinto enforces If-Match, PocketBase ignores it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from django.core.management import call_command

from syncportal.remote.models import Resource
from syncportal.sync import local, pull
from syncportal.sync.drain import drain
from syncportal.sync.events import Actor
from syncportal.sync.models import Conflict, Record, SyncJob
from syncportal.sync.resolve import Action, Decision, resolve
from tests.remotes.servers import Server, running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.remote_server]

COMPARED = ("code", "title", "site", "worker", "seats", "rate", "status", "confirmed")


class Outside:
    """Somebody else at the same server, speaking to it without us."""

    def __init__(self, server: Server) -> None:
        self.session = requests.Session()
        self.kinto = server.name == "kinto"
        self.url = f"{server.base_url}/buckets/ops/collections/shifts/records" if self.kinto else (
            f"{server.base_url}/api/collections/shifts/records"
        )  # fmt: skip
        if self.kinto:
            self.session.auth = ("admin", "s3cret")
        else:
            self.session.headers["Authorization"] = f"Bearer {server.token}"

    def edit(self, external_id: str, **changes: Any) -> None:
        body = {"data": changes} if self.kinto else changes
        self.session.patch(f"{self.url}/{external_id}", json=body, timeout=10).raise_for_status()

    def contents(self) -> dict[str, dict[str, Any]]:
        """Return every object by id, read page by page."""
        found: dict[str, dict[str, Any]] = {}
        if self.kinto:
            url: str | None = f"{self.url}?_limit=100"
            while url:
                answer = self.session.get(url, timeout=10)
                found |= {item["id"]: item for item in answer.json()["data"]}
                url = answer.headers.get("Next-Page")
            return found
        for page in range(1, 10):
            answer = self.session.get(f"{self.url}?perPage=100&page={page}", timeout=10).json()
            found |= {item["id"]: item for item in answer["items"]}
            if page >= answer["totalPages"]:
                break
        return found


@pytest.fixture(scope="module", params=["kinto", "pocketbase"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(request.param, path="/v1" if request.param == "kinto" else "") as started:
        yield started


@pytest.fixture
def resource(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Resource:
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    monkeypatch.setenv("TEST_KINTO_CREDENTIAL", "admin:s3cret")
    monkeypatch.setenv("TEST_POCKETBASE_TOKEN", server.token)
    text = (Path(__file__).parent / "remotes.yaml").read_text()
    text = text.replace("KINTO_URL", server.base_url).replace("POCKETBASE_URL", server.base_url)
    file = tmp_path / "remotes.yaml"
    file.write_text(text)
    call_command("configure", str(file), verbosity=0)
    return Resource.objects.select_related("remote").get(slug=f"{server.name}-shifts")


@pytest.fixture
def somebody() -> Actor:
    person = User.objects.create_user("somebody")
    return Actor("user", person.pk, "somebody")


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
