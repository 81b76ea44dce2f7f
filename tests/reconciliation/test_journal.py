"""Runs and discrepancies as rows: one run at a time, one row an object, and who wins when two act."""

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from reconciliation import findings, journal, repairs, reports, runs
from reconciliation.findings import Finding
from reconciliation.journal import AlreadyRunning, Fenced, NewRun, Progress, Suspicion
from reconciliation.models import Discrepancy, Run, Suspect
from reconciliation.states import Direction, Kind, Phase, RunState, State
from syncportal.demo import DemoMaster
from syncportal.sync.events import Actor
from syncportal.sync.models import Event, Record
from tests.factories import T0, edit, make_resource, take

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
LATER = T0 + timedelta(minutes=5)


@pytest.fixture
def pat() -> Actor:
    return Actor("user", User.objects.create(username="pat").pk, "pat")


def a_run(master: DemoMaster) -> Run:
    run = journal.insert(NewRun(make_resource(master).pk), now=T0)
    claimed = journal.claim(run.pk, now=T0)
    assert claimed is not None
    return claimed


def a_finding(run: Run, record: Record, **changes: object) -> Finding:
    values = {
        "resource_id": run.resource_id, "external_id": record.external_id, "record_id": record.pk,
        "kind": Kind.DATA_MISMATCH, "cause": "changed_remotely", "revision": record.revision, "status": "SYNCED",
        "local_version": record.version, "remote_version": "2", "remote_digest": "d", "planned": "take_remote",
        "differences": ({"pointer": "/city", "local": "Lund", "remote": "Oslo"},),
    }  # fmt: skip
    return Finding(**{**values, **changes})


def find(found: list[Finding], *, run_id: int, now: datetime) -> dict[str, findings.Found]:
    with transaction.atomic():
        return findings.find(found, run_id=run_id, now=now)


def test_a_resource_has_one_run_at_a_time(master: DemoMaster) -> None:
    run = a_run(master)
    with pytest.raises(AlreadyRunning) as refused:
        journal.insert(NewRun(run.resource_id), now=T0)
    assert refused.value.run_id == run.pk
    journal.end(run, RunState.FINISHED, problem="", now=T0)
    assert journal.insert(NewRun(run.resource_id), now=T0).pk != run.pk


def test_a_slice_that_lost_its_lease_writes_nothing(master: DemoMaster) -> None:
    first = a_run(master)
    assert journal.claim(first.pk, now=T0 + timedelta(seconds=30)) is None
    second = journal.claim(first.pk, now=LATER)
    assert second is not None and second.claim_no == first.claim_no + 1
    with pytest.raises(Fenced):
        journal.advance(first, Progress(cursor={"page": "x"}), now=LATER)
    with pytest.raises(Fenced):
        journal.end(first, RunState.FINISHED, problem="", now=LATER)
    progress = Progress(phase=Phase.CONFIRMING, cursor={"page": "y"})
    progress.counts.update(checked=3, matched=2)
    journal.advance(second, progress, now=LATER, worked_ms=7)
    stored = Run.objects.get(pk=first.pk)
    assert (stored.cursor, stored.phase, stored.checked, stored.worked_ms) == ({"page": "y"}, "confirming", 3, 7)


def test_a_duplicate_key_outweighs_what_was_suspected_before(master: DemoMaster) -> None:
    run = a_run(master)
    journal.suspect(run.pk, [Suspicion("a", Kind.MISSING_REMOTE), Suspicion("b", Kind.DATA_MISMATCH)])
    journal.suspect(run.pk, [Suspicion("a"), Suspicion("b", Kind.DUPLICATE_KEY, ("page-1",))])
    kinds = dict(Suspect.objects.values_list("external_id", "kind"))
    assert kinds == {"a": "missing_remote", "b": "duplicate_key"}
    assert journal.suspected_as(run.pk, ["a", "c"]) == {"a": "missing_remote"}
    journal.end(run, RunState.FINISHED, problem="", now=T0)
    assert not Suspect.objects.exists()


def test_an_object_keeps_one_row_that_closes_and_counts_its_returns(master: DemoMaster) -> None:
    run = a_run(master)
    (record,) = take(master, run.resource, "ACC-0001")
    finding = a_finding(run, record)
    first = find([finding], run_id=run.pk, now=T0)["ACC-0001"]
    assert (first.state, first.news) == (State.OPEN, True)
    assert not find([finding], run_id=run.pk, now=LATER)["ACC-0001"].news
    assert findings.close(run.resource_id, ["ACC-0001"], now=LATER) == 1
    again = find([finding], run_id=run.pk, now=LATER)["ACC-0001"]
    row = Discrepancy.objects.get()
    assert (again.discrepancy_id, again.news, row.reopened, row.settled_at) == (row.pk, True, 1, None)


def test_what_is_ignored_stays_ignored_until_it_changes(master: DemoMaster, pat: Actor) -> None:
    run = a_run(master)
    (record,) = take(master, run.resource, "ACC-0001")
    finding = a_finding(run, record)
    row_id = find([finding], run_id=run.pk, now=T0)["ACC-0001"].discrepancy_id
    assert repairs.ignore([row_id, 10**9], reason="Agreed with sales", actor=pat) == {row_id}
    assert repairs.ignore([row_id], reason="Twice", actor=pat) == set()
    assert find([finding], run_id=run.pk, now=LATER)["ACC-0001"].state == State.IGNORED
    other = a_finding(run, record, remote_digest="e")
    assert find([other], run_id=run.pk, now=LATER)["ACC-0001"].state == State.OPEN
    told = Event.objects.get(kind="discrepancy.ignored")
    assert (told.record_id, told.actor_label, told.data["reason"]) == (record.pk, "pat", "Agreed with sales")


def test_a_preview_names_every_row_it_leaves_out_and_asking_takes_the_rest(master: DemoMaster, pat: Actor) -> None:
    run = a_run(master)
    first, second, third = take(master, run.resource, "ACC-0001", "ACC-0002", "ACC-0003")
    found = find(
        [a_finding(run, first), a_finding(run, second), a_finding(run, third, kind=Kind.DUPLICATE_KEY)],
        run_id=run.pk, now=T0,
    )  # fmt: skip
    ids = [found[name].discrepancy_id for name in ("ACC-0001", "ACC-0002", "ACC-0003")]
    edit(second, city="Bergen")
    seen = repairs.preview([*ids, 10**9], direction=Direction.TAKE_REMOTE)
    assert (seen.ids, seen.by_kind) == ((ids[0],), {"data_mismatch": 1})
    assert seen.left_out == {
        10**9: "not found", ids[1]: "pending", ids[2]: "duplicate key at the remote cannot be repaired this way",
    }  # fmt: skip
    asked = repairs.request(ids, direction=Direction.TAKE_REMOTE, actor=pat)
    assert asked.ids == (ids[0],)
    assert repairs.request(ids, direction=Direction.PUSH_LOCAL, actor=pat).left_out[ids[0]] == "already asked for"
    assert list(Discrepancy.objects.wanted().values_list("pk", "wanted")) == [(ids[0], "take_remote")]


def test_a_plan_is_applied_once_and_only_the_newest(master: DemoMaster, pat: Actor) -> None:
    resource = make_resource(master)
    records = take(master, resource, "ACC-0001", "ACC-0002")
    started = runs.start(resource, actor=pat, dry_run=True)
    assert (started.origin, started.expected, started.phase) == ("person", 2, "listing")
    with pytest.raises(runs.NotPossible, match="not finished"):
        runs.apply_plan(started.pk, actor=pat)
    run = journal.claim(started.pk, now=timezone.now())
    assert run is not None
    find([a_finding(run, records[0]), a_finding(run, records[1], planned="")], run_id=run.pk, now=timezone.now())
    journal.end(run, RunState.FINISHED, problem="", now=timezone.now())
    assert runs.plan_of(run) == {"take_remote": 1}
    assert runs.apply_plan(run.pk, actor=pat) == 1
    with pytest.raises(runs.NotPossible) as refused:
        runs.apply_plan(run.pk, actor=pat)
    assert refused.value.code == "already_applied"
    dry = runs.start(resource, actor=pat, dry_run=True)
    claimed = journal.claim(dry.pk, now=timezone.now())
    assert claimed is not None
    journal.end(claimed, RunState.FINISHED, problem="", now=timezone.now())
    runs.start(resource, actor=pat)
    with pytest.raises(runs.NotPossible) as refused:
        runs.apply_plan(dry.pk, actor=pat)
    assert refused.value.code == "superseded"


def test_an_owner_sees_the_discrepancies_of_own_records_and_no_runs(master: DemoMaster, pat: Actor) -> None:
    run = a_run(master)
    owner = User.objects.get(pk=pat.user_id)
    (mine,) = take(master, run.resource, "ACC-0001", owner=owner)
    (other,) = take(master, run.resource, "ACC-0002")
    missing = a_finding(run, mine, external_id="ACC-0009", record_id=None, kind=Kind.MISSING_LOCAL)
    find([a_finding(run, mine), a_finding(run, other), missing], run_id=run.pk, now=T0)
    assert [row.record_id for row in Discrepancy.objects.visible_to(owner)] == [mine.pk]
    assert not Run.objects.visible_to(owner).exists()
    groups = reports.by_kind_and_cause(Discrepancy.objects.all())
    assert [(group.kind, group.cause, group.count) for group in groups] == [
        ("data_mismatch", "changed_remotely", 2), ("missing_local", "changed_remotely", 1),
    ]  # fmt: skip
    assert reports.last_runs(Run.objects.all())[run.resource_id].pk == run.pk
