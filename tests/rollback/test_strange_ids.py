"""Ids of remotes are texts: slashes, bars, percents, quotes, spaces and other scripts come through unchanged."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from reconciliation import workers as reconciling
from rollback import operate
from rollback.models import CompensatingTask, Group
from syncportal.demo import DemoMaster, accounts
from syncportal.demo.seed import account_rows
from syncportal.sync import pull
from syncportal.sync.events import Actor
from syncportal.sync.models import Record
from tests.factories import drain
from tests.rollback.scene import ADDRESS, Scene

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
API = "/api/v1"
STRANGE = ["a/b/../c|x", "100%25%2F {0}\\n ", 'it\'s "quoted" <b>', "Zoë-日本-🚲", "q?a=1&b#c;+"]


@pytest.mark.parametrize("external_id", STRANGE)
def test_an_id_comes_through_everywhere_as_it_is(master: DemoMaster, external_id: str) -> None:
    strange, plain = account_rows(2)
    strange["id"] = external_id
    master.reset((accounts(rows=(strange, plain)),))
    alert = {"version_drift": "alert", "data_mismatch": "alert"}
    scene = Scene(master, {"policy": {"lag_s": 0, "repair": alert, "compensation": {"attempts": 1, "base_s": 0.01}}})
    assert pull.run(pull.start(scene.resource).pk).created == 2
    Record.objects.update(owner=scene.people["owner"])
    record = Record.objects.get(external_id=external_id)
    owner, operator = scene.caller("owner"), scene.caller("operator")

    [found] = owner.get(f"{API}/records/", {"externalId": external_id}).json()["results"]
    assert (found["id"], found["externalId"]) == (record.pk, external_id)
    patched = owner.patch(
        f"{API}/records/{record.pk}/", {"data": {"city": "Åbo"}}, HTTP_IF_MATCH=f'"{record.revision}"'
    )
    assert patched.status_code in {200, 202}, patched.content
    drain()
    assert master.get("accounts", external_id)["city"] == "Åbo"

    applied = owner.post(ADDRESS, scene.body(external_id, request_id=f"r {external_id}".strip()))
    assert applied.status_code == 200, applied.content
    assert applied.json()["groups"][0]["results"][0]["occurrenceId"] == external_id
    assert master.get("accounts", external_id)["city"] == "Porto"
    scene.break_write(plain["id"])
    scene.master.faults.add("status", status=503, phase="write", object_id=external_id, skip=1, times=1)
    failed = owner.post(ADDRESS, scene.body(external_id, plain["id"], city="Nowhere"))
    assert failed.json()["groups"][0]["reconciliationTasks"][0]["occurrenceId"] == external_id
    task = CompensatingTask.objects.get()
    operate.close(task.pk, why="test", actor=Actor("user", scene.people["operator"].pk, "operator"))
    assert Record.objects.get(pk=record.pk).data["city"] == "Nowhere"

    owner.patch(f"{API}/records/{record.pk}/", {"data": {"city": "Mine"}})
    master.edit("accounts", external_id, city="Theirs")
    drain()
    [conflict] = owner.get(f"{API}/conflicts/", {"state": "open"}).json()["results"]
    page = reverse("admin:sync_conflict_change", args=[conflict["id"]])
    seen = {"revision": conflict["revision"], "remoteVersion": conflict["remoteVersion"]}

    for user in scene.people.values():
        user.is_staff = True
        user.save()
    browser = Client()
    browser.force_login(scene.people["operator"])
    pages = [page, reverse("admin:sync_record_change", args=[record.pk]),
             f"{reverse('admin:sync_record_changelist')}",
             reverse("admin:rollback_group_change", args=[Group.objects.latest("pk").pk]),
             reverse("admin:rollback_compensatingtask_change", args=[task.pk])]  # fmt: skip
    for address in pages:
        assert escape(external_id) in browser.get(address).content.decode(), address
    listed = browser.get(reverse("admin:sync_record_changelist"), {"q": external_id}).content.decode()
    assert reverse("admin:sync_record_change", args=[record.pk]) in listed

    resolved = owner.post(f"{API}/conflicts/{conflict['id']}/resolve/", {"action": "use_remote", **seen})
    assert resolved.status_code == 200, resolved.content
    master.edit("accounts", external_id, city="Elsewhere")
    assert operator.post(f"{API}/reconciliation-runs/", {"resource": scene.resource.slug}).status_code == 202
    reconciling.run_waiting(seconds=20)
    [row] = operator.get(f"{API}/discrepancies/", {"state": "open"}).json()["results"]
    assert (row["externalId"], row["kind"]) == (external_id, "data_mismatch")
    shown = browser.get(reverse("admin:reconciliation_discrepancy_change", args=[row["id"]])).content.decode()
    assert escape(external_id) in shown
    fixed = operator.post(f"{API}/discrepancies/{row['id']}/fix/", {"direction": "take_remote"})
    assert (fixed.status_code, fixed.json()["state"]) == (200, "fixed")
    assert Record.objects.get(pk=record.pk).data["city"] == "Elsewhere"
