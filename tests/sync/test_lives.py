"""Whole lives of records under faults, late deliveries, other people's edits, dying workers and deciding persons.

Real transitions and rows, virtual time, and a remote in memory whose every applied write is kept. Field `ours` is only
edited here, `theirs` only at the remote, `both` on either side: so at the end it is known what each must hold.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from syncportal.remote.client import Deadline
from syncportal.remote.errors import Conflict as StaleWrite
from syncportal.remote.errors import Missing, Rejected, ServerFault, Timeout, Unreachable
from syncportal.remote.models import Resource
from syncportal.remote.payloads import ReadResult, RemoteObject, WriteResult
from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import executor, local, operate, records, resolve, sweep, transitions
from syncportal.sync.claims import Claim, Outcome
from syncportal.sync.models import Conflict, Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.resolve import Action, Decision
from syncportal.sync.settle import settle
from syncportal.sync.states import AGREED, CLAIMABLE, STOPPED, Intent, Status
from tests.factories import PERSON, SHIFTS, answer, make_remote, make_resource

NONE, LOST, APPLIED, LATE, FAULT, REFUSED, DOWN = ["none", "lost", "applied", "late", "fault", "refused", "down"]
SCHEMA = {"type": "object", "properties": {name: {"type": ["string", "null"]} for name in ("ours", "theirs", "both")}}


@dataclass
class Delivery:
    """A write on its way: `key` names it, `made_at` is when it left."""

    object_id: str
    data: dict[str, Any] | None
    expected: str | None
    key: str
    made_at: datetime


@dataclass
class Remote:
    """The other side. `applied` counts our writes by their key; `unread` is what we have not read, by object."""

    conditional: bool
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    applied: Counter = field(default_factory=Counter)
    late: list[Delivery] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    overwritten: list[str] = field(default_factory=list)
    made: int = 0

    def apply(self, delivery: Delivery, *, late: bool = False) -> dict[str, Any]:
        held = self.objects.get(delivery.object_id)
        if held is None:
            raise Missing("gone", code="http_404", status=404)
        if self.conditional and delivery.expected is not None and str(held["version"]) != delivery.expected:
            raise StaleWrite("stale", code="http_412", status=412)
        if not late and self.seen.get(delivery.object_id) != held["version"]:
            self.overwritten.append(delivery.object_id)
        self.applied[delivery.key] += 1
        if delivery.data is None:
            return self.objects.pop(delivery.object_id)
        kept = {name: value for name, value in delivery.data.items() if name not in {"id", "version"}}
        self.objects[delivery.object_id] = {"id": delivery.object_id, **kept, "version": held["version"] + 1}
        self.seen[delivery.object_id] = held["version"] + 1
        return self.objects[delivery.object_id]

    def edit(self, object_id: str, **changes: str) -> None:
        held = self.objects[object_id]
        self.objects[object_id] = {**held, **changes, "version": held["version"] + 1}

    def deliver(self, number: int, now: datetime, *, settle_s: float) -> None:
        delivery = self.late.pop(number)
        if not self.conditional and now - delivery.made_at >= timedelta(seconds=settle_s):
            return
        try:
            self.apply(delivery, late=True)
        except (Missing, StaleWrite):
            return


@dataclass
class Client:
    """The remote as the executor sees it; `faults` are met by the next calls in turn."""

    spec: ResourceSpec
    remote: Remote
    now: datetime
    faults: list[str] = field(default_factory=list)

    def read(self, external_id: str, *, purpose: str, deadline: Deadline) -> ReadResult:
        self._meet(self.faults.pop(0) if self.faults else NONE, None)
        held = self.remote.objects.get(external_id)
        if held is None:
            raise Missing("gone", code="http_404", status=404)
        self.remote.seen[external_id] = held["version"]
        return ReadResult(self._shown(held), answer(held))

    def update(
        self, external_id: str, *, data: Mapping, base: Mapping, expected_version: str | None, **more: Any
    ) -> Any:
        changes = {name: data.get(name) for name in {*data, *base} if data.get(name) != base.get(name)}
        merged = {**self.remote.objects.get(external_id, {}), **changes}
        return self._write(external_id, merged, expected_version, more["idempotency_key"])

    def delete(self, external_id: str, *, expected_version: str | None, **more: Any) -> Any:
        return self._write(external_id, None, expected_version, more["idempotency_key"])

    def _write(self, external_id: str, data: dict | None, expected: str | None, key: str) -> WriteResult:
        expected = expected if self.remote.conditional else None
        delivery = Delivery(external_id, data, expected, key, self.now)
        self._meet(self.faults.pop(0) if self.faults else NONE, delivery)
        after = self.remote.apply(delivery)
        if data is None:
            return WriteResult(None, None, answer(status=204))
        return WriteResult(self._shown(after), str(after["version"]), answer(after), external_id)

    def _meet(self, fault: str, delivery: Delivery | None) -> None:
        if fault == DOWN:
            raise Unreachable("down", code="refused")
        if fault == REFUSED and delivery is not None:
            raise Rejected("no", code="http_422", status=422)
        if fault in {LOST, LATE, APPLIED, FAULT} and delivery is not None:
            if fault == LATE:
                self.remote.late.append(delivery)
            elif fault in {APPLIED, FAULT}:
                self.remote.apply(delivery)
            kind = ServerFault if fault == FAULT else Timeout
            raise kind("unknown", code="unknown", maybe_applied=True)

    def _shown(self, held: Mapping[str, Any]) -> RemoteObject:
        return RemoteObject(held["id"], dict(held), str(held["version"]))


class Lives(RuleBasedStateMachine):
    """Two records of one resource."""

    @initialize(conditional=st.booleans())
    def begin(self, conditional: bool) -> None:
        rule_ = SHIFTS["precondition"] if conditional else {"send": "none"}
        self.resource: Resource = make_resource(
            make_remote("http://127.0.0.1:1/api"), SHIFTS, precondition=rule_, schema=SCHEMA, read_only=None
        )
        self.spec = spec_for(self.resource)
        self.remote = Remote(conditional)
        self.now = timezone.now() + timedelta(seconds=1)
        self.step = 0
        self.wanted: dict[int, dict[str, str | None]] = {}
        self.rejected: set[int] = set()
        self.crashed: list[Outcome] = []
        for name in ("A", "B"):
            document = {"id": name, "ours": "0", "theirs": "0", "both": "0", "version": 1}
            self.remote.objects[name] = document
            self.remote.seen[name] = 1
            state = RecordState(0, self.resource.pk, name, document, document, "1", 1, Intent.UPDATE, None, None)
            [pk] = records.insert([state], now=self.now)
            transitions.insert([transitions.NewJob(pk, self.resource.remote_id, False, 4)], now=self.now)
            self.wanted[pk] = {"id": name, "ours": "0", "theirs": "0"}

    def value(self) -> str:
        self.step += 1
        return str(self.step)

    def pick(self, which: bool) -> int:
        return sorted(self.wanted)[which]

    # --- what happens

    @rule(which=st.booleans(), name=st.sampled_from(["ours", "both"]))
    def somebody_edits_here(self, which: bool, name: str) -> None:
        pk, value = self.pick(which), self.value()
        local.save(local.Edit(pk, {name: value}), actor=PERSON)
        if name == "ours":
            self.wanted[pk]["ours"] = value

    @rule(which=st.booleans())
    def somebody_takes_an_edit_back(self, which: bool) -> None:
        pk = self.pick(which)
        value = (Record.objects.get(pk=pk).base or {}).get("ours")
        local.save(local.Edit(pk, {"ours": value}), actor=PERSON)
        self.wanted[pk]["ours"] = value

    @rule(which=st.booleans(), name=st.sampled_from(["theirs", "both"]))
    def somebody_edits_there(self, which: bool, name: str) -> None:
        pk, value = self.pick(which), self.value()
        self.remote.edit(str(self.wanted[pk]["id"]), **{name: value})
        if name == "theirs":
            self.wanted[pk]["theirs"] = value

    @rule(
        faults=st.lists(st.sampled_from([NONE, LOST, APPLIED, LATE, FAULT, REFUSED, DOWN]), max_size=3),
        finish=st.sampled_from(["settle", "settle", "settle", "die before", "die after", "edit meanwhile"]),
    )
    def a_worker_pushes(self, faults: list[str], finish: str) -> None:
        for claim in self.claim():
            if finish == "die before":
                continue
            outcome = self.attempt(claim, faults)
            if finish == "die after":
                self.crashed.append(outcome)
                continue
            if finish == "edit meanwhile":
                self.somebody_edits_here(claim.record_id != self.pick(False), "ours")
            assert self.settle([outcome]) == 1

    @rule(seconds=st.sampled_from([1, 6, 31, 95, 160]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        with transaction.atomic():
            sweep.rescue(self.now)

    @precondition(lambda self: self.remote.late)
    @rule(number=st.integers(0, 5))
    def a_late_write_arrives(self, number: int) -> None:
        self.remote.deliver(number % len(self.remote.late), self.now, settle_s=self.spec.policy.settle_s)

    @precondition(lambda self: self.crashed)
    @rule()
    def a_worker_that_was_thought_dead_comes_back(self) -> None:
        outcome = self.crashed.pop()
        job = SyncJob.objects.get(pk=outcome.claim.record_id)
        still_its = job.status == Status.PROCESSING and job.claim_no == outcome.claim.claim_no
        assert self.settle([outcome]) == int(still_its), "the result of a stale holder is dropped"

    @rule(which=st.booleans())
    def an_operator_requeues(self, which: bool) -> None:
        operate.requeue([self.pick(which)], actor=PERSON)
        self.later_than_real_time()

    @rule(which=st.booleans(), action=st.sampled_from([Action.PUSH_LOCAL, Action.USE_REMOTE, Action.MERGE]))
    def a_person_decides(self, which: bool, action: Action) -> None:
        conflict = Conflict.objects.open().filter(record_id=self.pick(which)).first()
        if conflict is not None:
            self.decide(conflict, action)

    # --- how

    def later_than_real_time(self) -> None:
        self.now = max(self.now, timezone.now() + timedelta(seconds=1))

    def claim(self) -> list[Claim]:
        self.later_than_real_time()
        return transitions.claim_many(self.resource.remote_id, limit=9, holder="w", now=self.now, lease_s=90)

    def attempt(self, claim: Claim, faults: list[str]) -> Outcome:
        client = Client(self.spec, self.remote, self.now, list(faults))
        return executor.attempt(claim, client, deadline=Deadline(10), now=self.now, chance=lambda: 0.0)

    def settle(self, outcomes: list[Outcome]) -> int:
        with transaction.atomic():
            return settle(outcomes, specs={self.resource.pk: self.spec}, now=self.now)

    def decide(self, conflict: Conflict, action: Action) -> None:
        pk = conflict.record_id
        fields = dict.fromkeys(conflict.fields, "local") if action is Action.MERGE else {}
        decision = Decision(action, Record.objects.get(pk=pk).revision, conflict.remote_version, fields)
        resolve.resolve(conflict.pk, decision, actor=PERSON)
        if action is Action.USE_REMOTE:
            self.wanted[pk]["ours"] = conflict.remote["ours"]
        elif action is Action.PUSH_LOCAL or "/theirs" in fields:
            self.wanted[pk]["theirs"] = None  # a person decided against the remote's values as they were seen
        self.later_than_real_time()

    # --- what always holds

    @invariant()
    def what_is_not_confirmed_has_a_live_job_or_a_named_stop(self) -> None:
        for record in Record.objects.filter(pk__in=self.wanted).select_related("job"):
            waiting = record.job.status in CLAIMABLE or record.job.status == Status.PROCESSING
            if record.job.status in AGREED:
                assert not record.job.in_doubt
                assert not self.spec.comparator.differing(record.base, record.data)
            else:
                assert waiting or record.job.status in STOPPED
            is_open = Conflict.objects.open().filter(record=record).exists()
            assert is_open is (record.job.status == Status.VERSION_CONFLICT)

    @invariant()
    def no_write_was_applied_twice(self) -> None:
        assert not [key for key, times in self.remote.applied.items() if times > 1]

    @invariant()
    def nothing_unread_was_overwritten(self) -> None:
        assert self.remote.overwritten == []

    def teardown(self) -> None:
        """Faults stop; everything comes to rest and both sides agree on what each of them wanted."""
        if not hasattr(self, "wanted"):
            return
        for _ in range(40):
            self.now += timedelta(seconds=160)
            while self.remote.late:
                self.remote.deliver(0, self.now, settle_s=self.spec.policy.settle_s)
            with transaction.atomic():
                sweep.rescue(self.now)
            for conflict in Conflict.objects.open().filter(record_id__in=self.wanted):
                self.decide(conflict, Action.MERGE)
            operate.requeue(sorted(self.wanted), actor=PERSON)
            self.later_than_real_time()
            for claim in self.claim():
                assert self.settle([self.attempt(claim, [])]) == 1
            if all(status in AGREED for status in self.statuses()):
                break
        assert set(self.statuses()) <= AGREED, list(SyncJob.objects.filter(pk__in=self.wanted).values())
        self.no_write_was_applied_twice()
        for pk, wanted in self.wanted.items():
            held, record = self.remote.objects[str(wanted["id"])], Record.objects.get(pk=pk)
            assert held["ours"] == wanted["ours"], "no edit made here is lost"
            assert wanted["theirs"] in {None, held["theirs"]}, "no edit made there is lost"
            self.somebody_agrees(record, held)

    def somebody_agrees(self, record: Record, held: Mapping[str, Any]) -> None:
        # What changed there after the last read is for the next pull; everything else is equal.
        if str(held["version"]) == record.version:
            assert not self.spec.comparator.differing(record.data, held)

    def statuses(self) -> list[str]:
        return list(SyncJob.objects.filter(pk__in=self.wanted).values_list("status", flat=True))


@pytest.mark.django_db
def test_whatever_happens_nothing_is_lost_doubled_or_forgotten() -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
