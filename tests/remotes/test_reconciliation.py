"""Reconciliation on real servers: outside edits, deletions and additions are found exactly and fixed by policy."""

from collections.abc import Mapping
from typing import Any

import pytest

from reconciliation import timetable
from reconciliation.models import Discrepancy
from syncportal.remote.models import Resource
from syncportal.sync import pull
from syncportal.sync.models import Record
from tests.factories import drain
from tests.reconciliation.scene import adds_up, reconcile
from tests.remotes.outside import COMPARED, Outside
from tests.remotes.servers import Server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.remote_server]


def ours() -> dict[str, dict[str, Any]]:
    rows = Record.objects.present()
    return {str(row.external_id): {name: row.data.get(name) for name in COMPARED} for row in rows}


def under(resource: Resource, policy: Mapping[str, Any]) -> Resource:
    resource.config = {**resource.config, "policy": {"lag_s": 0, **policy}}
    resource.save()
    return resource


def test_what_somebody_else_did_is_found_exactly_and_fixed(server: Server, resource: Resource) -> None:
    outside = Outside(server)
    pull.run(pull.start(resource).pk)
    ids = sorted(ours())
    edited, deleted = ids[3:6], ids[10:12]
    for external_id in edited:
        outside.edit(external_id, title="Changed outside")
    for external_id in deleted:
        outside.delete(external_id)
    added = outside.add(code="OUT-1", title="Added outside", seats=3)
    resource = under(resource, {"repair": {"missing_local": "take_remote", "missing_remote": "push_local"}})
    plan = reconcile(resource, dry_run=True)
    truth = dict.fromkeys(edited, "data_mismatch") | dict.fromkeys(deleted, "missing_remote") | {added: "missing_local"}
    assert dict(Discrepancy.objects.open().values_list("external_id", "kind")) == truth
    assert (plan.planned, plan.fixed, adds_up(plan)) == (6, 0, True)
    run = reconcile(resource)
    assert (run.state, run.fixed, run.needing_action) == ("finished", 6, 0)
    drain()
    again = reconcile(resource)
    assert (again.matched, again.checked, Discrepancy.objects.open().count()) == (again.checked, len(ids) + 1, 0)
    assert ours() == {external_id: outside.compared()[external_id] for external_id in ours()}
    assert ours().keys() == outside.compared().keys()
    assert {row["title"] for external_id, row in ours().items() if external_id in edited} == {"Changed outside"}


def test_two_sides_that_were_just_pulled_agree_whatever_the_spelling(server: Server, resource: Resource) -> None:
    pull.run(pull.start(resource).pk)
    run = reconcile(under(resource, {}))
    assert (run.state, run.matched) == ("finished", run.checked)
    sample = timetable.sample(resource, size=10)
    read = reconcile(resource, record_ids=sample)
    assert (read.matched, read.checked) == (len(sample), len(sample))
