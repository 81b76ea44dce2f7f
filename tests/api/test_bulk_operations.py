"""Retrying an error group over HTTP: exactly the frozen records, in steps, by who may, followed to each row's end."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from syncportal.access.keys import Scope
from syncportal.bulk import work
from syncportal.bulk.models import BulkOperation
from syncportal.sync.models import Event, SyncJob
from tests.api.world import World, draft_retry, error_group, put_into

pytestmark = pytest.mark.django_db(transaction=True)
OPERATIONS = "/api/v1/bulk-operations/"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once."""
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0)


def retry_of(world: World) -> str:
    """Let one record of each owner fail for one cause; return the address that retries them."""
    group = error_group(world.resource, world.people["owner"])
    error_group(world.resource, world.people["other"])
    return f"/api/v1/error-groups/{group.pk}/retry/"


def test_operations_retry_a_group_and_follow_it_to_the_end_of_each_row(world: World) -> None:
    client, address = world.caller("operator"), retry_of(world)
    answer = client.post(address, {}, HTTP_IDEMPOTENCY_KEY="once")
    shown = answer.json()
    assert (answer.status_code, shown["state"], shown["total"], shown["ramp"]) == (202, "running", 2, True)
    again = client.post(address, {}, HTTP_IDEMPOTENCY_KEY="once")
    assert again.json()["id"] == shown["id"] and BulkOperation.objects.count() == 1
    at = f"{OPERATIONS}{shown['id']}/"
    work.run(shown["id"], seconds=1)
    now = client.get(at).json()
    assert (now["underWay"], now["waiting"]) == (1, 1), "the first step is one record"
    acted = Event.objects.get(kind="job.requeued")
    assert (acted.actor_kind, acted.actor_label) == ("api_key", "operator (test)")
    SyncJob.objects.filter(status="PENDING").update(status="SYNCED", error_group=None)
    work.run(shown["id"], seconds=1)
    SyncJob.objects.filter(status="PENDING").update(status="ERROR", detail="Refused again.")
    work.run(shown["id"], seconds=1)
    now = client.get(at).json()
    assert (now["state"], now["done"], now["failed"], now["underWay"]) == ("stopped", 1, 1, 0)
    assert "Refused again." in now["reason"] and now["notDone"] == [{"why": "Error: Refused again.", "count": 1}]
    rows = client.get(f"{at}rows/").json()["results"]
    assert sorted(row["state"] for row in rows) == ["done", "failed"]
    [failed] = client.get(f"{at}rows/?state=failed").json()["results"]
    assert SyncJob.objects.get(pk=failed["target"]).status == "ERROR"
    assert client.post(f"{at}go-on/", {}).status_code == 202


def test_a_preview_freezes_the_records_and_is_started_later(world: World) -> None:
    client, address = world.caller("operator"), retry_of(world)
    shown = client.post(address, {"dryRun": True}).json()
    assert (shown["state"], shown["preview"]) == ("draft", {"taken": 2, "leftOut": []})
    frozen = set(BulkOperation.objects.get().rows.values_list("target_id", flat=True))
    put_into(world.record, "ERROR", error_group_id=address.split("/")[4])
    one = SyncJob.objects.get(pk=min(frozen))
    SyncJob.objects.filter(pk=one.pk).update(status="SYNCED", error_group=None)
    at = f"{OPERATIONS}{shown['id']}/"
    why = [{"why": "both sides agree", "count": 1}]
    assert client.get(at).json()["preview"] == {"taken": 1, "leftOut": why}
    assert not Event.objects.filter(kind="job.requeued").exists()
    started = client.post(f"{at}start/", {}).json()
    assert (started["state"], started["preview"]) == ("running", None)
    assert client.post(f"{at}start/", {}).json()["code"] == "not_a_draft"
    work.run(shown["id"], seconds=1)
    assert set(SyncJob.objects.filter(status="PENDING").values_list("pk", flat=True)) == frozen - {one.pk}
    ended = client.post(f"{at}cancel/", {}).json()
    assert (ended["state"], ended["reason"]) == ("cancelled", "Cancelled by operator (test).")


def test_an_owner_retries_own_records_only(world: World) -> None:
    client, address = world.caller("owner", Scope.READ, Scope.WRITE), retry_of(world)
    shown = client.post(address, {}).json()
    assert (shown["total"], shown["startedBy"]) == (1, "owner (test)")
    [row] = BulkOperation.objects.get().rows.all()
    assert SyncJob.objects.select_related("record").get(pk=row.target_id).record.owner == world.people["owner"]
    assert [one["id"] for one in client.get(OPERATIONS).json()["results"]] == [shown["id"]]
    assert world.caller("other").get(f"{OPERATIONS}{shown['id']}/").status_code == 404
    assert world.caller("other").post(f"{OPERATIONS}{shown['id']}/cancel/", {}).status_code == 404
    assert world.caller("viewer").get(OPERATIONS).json()["results"] == []
    assert world.caller("operator").get(f"{OPERATIONS}{shown['id']}/").json()["total"] == 1


def test_who_may_not_retry_is_refused_and_nothing_is_frozen(world: World) -> None:
    address = retry_of(world)
    for client, status in (
        (world.caller("viewer"), 403), (world.caller("nobody"), 404), (world.caller("owner", Scope.READ), 403),
        (world.caller("operator", Scope.READ, Scope.WRITE), 403),
    ):  # fmt: skip
        assert client.post(address, {}).status_code == status
    SyncJob.objects.update(status="SYNCED", error_group=None)
    answer = world.caller("operator").post(address, {})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_retry")
    assert not BulkOperation.objects.exists()


def test_the_list_reads_no_rows_however_many_failed(world: World) -> None:
    client = world.caller("operator")
    drafts = [draft_retry(world.people["operator"], world.record) for _ in range(5)]
    BulkOperation.objects.filter(pk__in=[draft.pk for draft in drafts]).update(failed=1)
    with CaptureQueriesContext(connection) as asked:
        shown = client.get(OPERATIONS).json()["results"]
    assert len(shown) == 5 and {one["notDone"] for one in shown} == {None}
    assert sum('FROM "bulk_bulkrow"' in query["sql"] for query in asked) == 0


def test_a_preview_of_somebody_else_or_of_an_act_that_asks_for_more_is_not_started(world: World) -> None:
    client = world.caller("operator")
    theirs = draft_retry(world.people["owner"], world.record)
    assert client.post(f"{OPERATIONS}{theirs.pk}/start/", {}).status_code == 403
    mine = draft_retry(world.people["operator"], world.record)
    BulkOperation.objects.filter(pk=mine.pk).update(act="records.assign")
    assert client.post(f"{OPERATIONS}{mine.pk}/start/", {}).json()["code"] == "needs_parameters"
    BulkOperation.objects.filter(pk=mine.pk).update(act="records.of_another_version")
    assert client.post(f"{OPERATIONS}{mine.pk}/start/", {}).json()["code"] == "unknown_act"
    assert client.get(f"{OPERATIONS}{mine.pk}/").status_code == 409
    assert client.get(OPERATIONS).status_code == 200
