"""Runs and discrepancies over HTTP: who may, what is refused and why, and one effect for one idempotency key."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from reconciliation import workers
from reconciliation.models import Discrepancy, Run
from syncportal.access.roles import OPERATIONS, OWNERS, VIEWERS
from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.models import Resource
from syncportal.sync.models import Record
from tests.factories import edit
from tests.reconciliation.scene import agreed, reconcile

pytestmark = pytest.mark.django_db(transaction=True)
RUNS, ROWS = "/api/v1/reconciliation-runs/", "/api/v1/discrepancies/"
ALERT = {"repair": {"data_mismatch": "alert"}}


def client_of(name: str, role: str | None = None) -> APIClient:
    user, _ = User.objects.get_or_create(username=name)
    if role:
        user.groups.add(Group.objects.get(name=role))
    client = APIClient()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> APIClient:
    return client_of("operator", OPERATIONS)


def differing(master: DemoMaster, count: int = 1) -> tuple[Resource, dict[str, Record]]:
    """Reconcile a resource of which some objects were edited outside."""
    master.reset((accounts(60), shifts(1)))
    resource, records = agreed(master, policy=ALERT)
    for number in range(1, count + 1):
        master.edit("accounts", f"ACC-{number:04}", city="Elsewhere")
    reconcile(resource)
    return resource, records


def test_a_run_is_started_followed_and_applied(master: DemoMaster, operator: APIClient) -> None:
    master.reset((accounts(60), shifts(1)))
    resource, records = agreed(master)
    master.edit("accounts", "ACC-0001", city="Elsewhere")
    master.edit("accounts", "ACC-0002", city="Elsewhere")
    body = {"resource": resource.slug, "dryRun": True}
    started = operator.post(RUNS, body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert started.status_code == 202 and started.json()["state"] == "running"
    again = operator.post(RUNS, body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert (again.json()["id"], again["Idempotent-Replayed"]) == (started.json()["id"], "true")
    refused = operator.post(RUNS, body, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_running")
    assert refused.json()["run"] == started.json()["id"]
    at = f"{RUNS}{started.json()['id']}/"
    early = operator.post(f"{at}apply/", {}, format="json")
    assert (early.status_code, early.json()["code"]) == (409, "still_running")
    workers.run_waiting(seconds=30)
    run = operator.get(at).json()
    assert (run["state"], run["counts"]["data_mismatch"], run["planned"], run["fixed"]) == ("finished", 2, 2, 0)
    edit(records["ACC-0002"], city="Mine")
    applied = operator.post(f"{at}apply/", {}, format="json")
    assert (applied.status_code, applied.json()["repairs"]) == (202, 2)
    workers.repair()
    rows = {row["externalId"]: row["state"] for row in operator.get(f"{ROWS}?run={run['id']}").json()["results"]}
    assert rows == {"ACC-0001": "fixed", "ACC-0002": "open"}
    assert "cannot be repaired now: pending" in Discrepancy.objects.get(external_id="ACC-0002").outcome
    assert Record.objects.get(external_id="ACC-0002").data["city"] == "Mine"


def test_a_discrepancy_has_exactly_the_contracts_members(master: DemoMaster, operator: APIClient) -> None:
    resource, records = differing(master)
    [row] = operator.get(f"{ROWS}?resource={resource.slug}&state=open&kind=data_mismatch").json()["results"]
    assert row == {
        "id": row["id"], "run": Run.objects.get().pk, "record": records["ACC-0001"].pk, "resource": resource.slug,
        "externalId": "ACC-0001", "kind": "data_mismatch", "cause": "changed_remotely", "state": "open",
        "differences": [{"pointer": "/city", "local": records["ACC-0001"].data["city"], "remote": "Elsewhere"}],
        "localVersion": "1", "remoteVersion": "2", "reopened": 0,
    }  # fmt: skip
    assert operator.get(f"{ROWS}{row['id']}/").json() == row
    assert operator.get(f"{ROWS}?state=closed").json()["results"] == []
    assert operator.get(f"{ROWS}?kind=nonsense").status_code == 400


@pytest.mark.parametrize("direction", ["take_remote", "push_local"])
def test_a_discrepancy_is_fixed_in_either_direction_once(
    master: DemoMaster, operator: APIClient, direction: str
) -> None:
    differing(master)
    row = Discrepancy.objects.get()
    fixed = operator.post(f"{ROWS}{row.pk}/fix/", {"direction": direction}, format="json")
    assert (fixed.status_code, fixed.json()["state"]) == (200, "fixed")
    record = Record.objects.get(external_id="ACC-0001")
    assert (record.version, record.base["city"], record.revision) == ("2", "Elsewhere", 2)
    taken = direction == "take_remote"
    assert (record.data["city"] == "Elsewhere", record.job.status) == (taken, "SYNCED" if taken else "PENDING")
    again = operator.post(f"{ROWS}{row.pk}/fix/", {"direction": direction}, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "already_settled")


def test_a_fix_of_what_moved_changes_nothing(master: DemoMaster, operator: APIClient) -> None:
    _, records = differing(master, 2)
    first, second = Discrepancy.objects.order_by("external_id")
    master.edit("accounts", "ACC-0001", city="Later")
    edit(records["ACC-0002"], city="Mine")
    answers = [
        operator.post(f"{ROWS}{row.pk}/fix/", {"direction": "take_remote"}, format="json").json()["code"]
        for row in (first, second)
    ]
    assert answers == ["moved", "record_busy"]
    assert [record.revision for record in Record.objects.filter(external_id__in=["ACC-0001", "ACC-0002"])] == [2, 1]
    assert set(Discrepancy.objects.values_list("state", flat=True)) == {"open"}


def test_a_discrepancy_is_ignored_with_a_reason(master: DemoMaster, operator: APIClient) -> None:
    resource, _ = differing(master)
    row = Discrepancy.objects.get()
    answer = operator.post(f"{ROWS}{row.pk}/ignore/", {"reason": "Known"}, format="json")
    assert (answer.status_code, answer.json()["state"]) == (200, "ignored")
    row.refresh_from_db()
    assert row.ignore_reason == "Known"
    assert operator.post(f"{ROWS}{row.pk}/ignore/", {"reason": "Again"}, format="json").status_code == 409
    run = reconcile(resource)
    assert (run.ignored, run.needing_action, Discrepancy.objects.get().state) == (1, 0, "ignored")


def test_people_see_and_do_what_is_theirs(master: DemoMaster) -> None:
    _, records = differing(master, 2)
    owner, viewer, nobody = client_of("owner", OWNERS), client_of("viewer", VIEWERS), client_of("nobody")
    mine, others = Discrepancy.objects.order_by("external_id")
    Record.objects.filter(pk=records["ACC-0001"].pk).update(owner=User.objects.get(username="owner"))

    def seen(client: APIClient, at: str) -> list[Any]:
        return [row["id"] for row in client.get(at).json()["results"]]

    assert (seen(owner, ROWS), seen(owner, RUNS)) == ([mine.pk], [])
    assert len(seen(viewer, ROWS)) == 2 and len(seen(viewer, RUNS)) == 1
    assert (seen(nobody, ROWS), seen(nobody, RUNS)) == ([], [])
    take = {"direction": "take_remote"}
    assert viewer.post(f"{ROWS}{mine.pk}/fix/", take, format="json").status_code == 403
    assert owner.post(f"{ROWS}{others.pk}/fix/", take, format="json").status_code == 404
    assert owner.post(f"{ROWS}{mine.pk}/fix/", take, format="json").status_code == 200
    for client in (owner, viewer, nobody):
        assert client.post(RUNS, {"resource": "x"}, format="json").status_code == 403


def test_a_run_is_cancelled_once(master: DemoMaster, operator: APIClient) -> None:
    resource, _ = agreed(master)
    at = f"{RUNS}{operator.post(RUNS, {'resource': resource.slug}, format='json').json()['id']}/"
    for name, role, status in (("viewer", VIEWERS, 403), ("owner", OWNERS, 404)):
        assert client_of(name, role).post(f"{at}cancel/", {}, format="json").status_code == status
    assert operator.post(f"{at}cancel/", {"why": "x"}, format="json").status_code == 422
    assert operator.get(at).json()["state"] == "running"
    for replayed in (None, "true"):
        ended = operator.post(f"{at}cancel/", {}, format="json", HTTP_IDEMPOTENCY_KEY="k")
        assert (ended.status_code, ended.json()["state"]) == (200, "cancelled")
        assert ended.get("Idempotent-Replayed") == replayed
    again = operator.post(f"{at}cancel/", {}, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "not_running")
    assert operator.post(RUNS, {"resource": resource.slug}, format="json").status_code == 202, "another may start"


def test_a_program_may_ignore_a_discrepancy_without_a_reason(master: DemoMaster, operator: APIClient) -> None:
    differing(master)
    row = Discrepancy.objects.get()
    answer = operator.post(f"{ROWS}{row.pk}/ignore/")
    assert (answer.status_code, answer.json()["state"]) == (200, "ignored")


def test_wrong_bodies_are_refused_with_a_pointer(master: DemoMaster, operator: APIClient) -> None:
    resource, records = differing(master)
    row = Discrepancy.objects.get()
    cases = [
        (RUNS, {"resource": "none"}, "/resource"), (RUNS, {}, "/resource"),
        (RUNS, {"resource": resource.slug, "state": "finished"}, "/state"),
        (RUNS, {"resource": resource.slug, "records": [10**9]}, "/records"),
        (f"{ROWS}{row.pk}/fix/", {"direction": "sideways"}, "/direction"),
        (f"{ROWS}{row.pk}/ignore/", {"reason": "x" * 501}, "/reason"),
    ]  # fmt: skip
    for at, body, pointer in cases:
        answer = operator.post(at, body, format="json")
        assert (answer.status_code, [e["pointer"] for e in answer.json()["errors"]]) == (422, [pointer]), (at, body)
