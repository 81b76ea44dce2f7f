"""A resolution ends a conflict, and it does not come back without a new edit; whatever others do in between.

First for every content that Hypothesis can think of, then end to end against the master.
"""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from syncportal.demo import DemoMaster
from syncportal.remote.equality import Comparator
from syncportal.sync import refresh, resolve
from syncportal.sync.conflicts import three_way
from syncportal.sync.decisions import Next, judge
from syncportal.sync.models import Conflict
from syncportal.sync.records import RecordState
from syncportal.sync.resolve import Action, Decision, ImpossibleDecision, decided
from syncportal.sync.states import Intent, Status
from tests.factories import PERSON, T0, a_claim, drain, edit, job_of, make_resource, shown, spec_of, take

FIELDS = ("a", "b", "c")
leaves = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "y"])
deep = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["p", "q"]), inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(st.sampled_from(FIELDS), deep, max_size=3)
always = settings(derandomize=True, max_examples=150, deadline=None)
PLAIN = Comparator()
SPECS = {
    "top": spec_of(schema=None, read_only=None, version={"from": "etag"}),
    "deep": spec_of(schema=None, read_only=None, version={"from": "etag"}, compared=["/a/p", "/a/q", "/b", "/c"]),
}


@st.composite
def decisions(draw: Any, conflicts: tuple[str, ...]) -> tuple[Action, dict[str, Any]]:
    action = draw(st.sampled_from(list(Action)))
    if action is not Action.MERGE:
        return action, {}
    choice = st.sampled_from(["local", "remote"]) | st.builds(lambda value: {"value": value}, deep)
    return action, {at: draw(choice) for at in conflicts}


@always
@pytest.mark.parametrize("kind", sorted(SPECS))
@given(data=st.data(), base=objects, local=objects, remote=objects, others=objects)
def test_a_conflict_does_not_come_back_by_itself(
    kind: str, data: Any, base: dict, local: dict, remote: dict, others: dict
) -> None:
    spec = SPECS[kind]
    merge = three_way(base, local, remote, comparator=spec.comparator)
    assume(merge.conflicts)
    action, fields = data.draw(decisions(merge.conflicts))
    row = Conflict(base=base, local=local, remote=remote, fields=list(merge.conflicts), revision=2, remote_version="7")
    state = RecordState(1, 1, "A", local, base, "6", 2, Intent.UPDATE, None, None)
    try:
        after = decided(state, row, Decision(action, 2, "7", fields), spec=spec)
    except ImpossibleDecision as refused:  # a typed value that would have to stand inside a list
        assert {problem.code for problem in refused.problems} == {"invalid_choice"} and kind == "deep"
        return
    assert (after.base, after.version) == (remote, "7"), "the base advances with the decision"

    claim = a_claim(after.base, after.data, version=after.version)
    quiet = judge(claim, shown(remote, version="7"), spec=spec, now=T0)
    assert quiet.next in (Next.SEND, Next.SKIP), "nobody touched it since: it is sent, or there is nothing to send"

    # Somebody else edits while our push is under way: only a field that they changed after the decision can clash.
    busy = judge(claim, shown(others, version="8"), spec=spec, now=T0)
    changed = set(spec.comparator.differing(remote, others))
    if busy.next is Next.CONFLICT:
        again = three_way(after.base, after.data, others, comparator=spec.comparator)
        assert again.conflicts and set(again.conflicts) <= changed
    if action is Action.USE_REMOTE:
        assert busy.next is not Next.CONFLICT, "who took the remote's side has nothing that could clash"


@always
@given(objects, objects, objects)
def test_each_way_gives_what_it_says(base: dict, local: dict, remote: dict) -> None:
    spec = SPECS["top"]
    merge = three_way(base, local, remote, comparator=PLAIN)
    row = Conflict(base=base, local=local, remote=remote, fields=list(merge.conflicts), revision=2, remote_version="7")
    state = RecordState(1, 1, "A", local, base, "6", 2, Intent.UPDATE, None, None)

    def result(action: Action, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        return decided(state, row, Decision(action, 2, "7", fields or {}), spec=spec).data

    assert not PLAIN.differing(result(Action.USE_REMOTE), remote)
    assert not PLAIN.differing(result(Action.PUSH_LOCAL), local)
    for side, content in (("local", local), ("remote", remote)):
        merged = result(Action.MERGE, dict.fromkeys(merge.conflicts, side))
        for at in PLAIN.fields(base, local, remote):
            name = at[1:]
            ours = at in merge.local_changes and at not in merge.conflicts
            wanted = content if at in merge.conflicts else local if ours else remote
            assert PLAIN.same(at, merged.get(name), wanted.get(name))


@always
@given(objects, objects, objects)
def test_the_merge_keeps_its_promises_for_places_deep_inside(base: dict, local: dict, remote: dict) -> None:
    comparator = SPECS["deep"].comparator
    result = three_way(base, local, remote, comparator=comparator)
    again = three_way(remote, result.data, remote, comparator=comparator)
    assert not again.conflicts and not again.remote_changes
    assert not three_way(base, base, remote, comparator=comparator).conflicts
    assert not three_way(base, local, local, comparator=comparator).conflicts


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("theirs", [{}, {"notes": "theirs"}, {"city": "Rome"}], ids=["nobody", "other field", "same"])
@pytest.mark.parametrize("action", list(Action))
def test_end_to_end(master: DemoMaster, action: Action, theirs: dict[str, Any]) -> None:
    [record] = take(master, make_resource(master), "ACC-0001")
    edit(record, city="Lund")
    master.edit("accounts", "ACC-0001", {"city": "Turku"})
    drain()
    row = Conflict.objects.get()
    if theirs:
        master.edit("accounts", "ACC-0001", theirs)
    fields = {"/city": {"value": "Oslo"}} if action is Action.MERGE else {}
    resolve.resolve(row.pk, Decision(action, row.revision, row.remote_version, fields), actor=PERSON)
    for _ in range(3):
        drain()
        refresh.refresh(record.pk, resource=record.resource, actor=PERSON)
    opened = list(Conflict.objects.exclude(pk=row.pk))
    clashes = theirs.get("city") is not None and action is not Action.USE_REMOTE
    assert len(opened) == clashes, "a new conflict only where somebody changed the same field after the decision"
    if not clashes:
        assert job_of(record).status in (Status.SYNCED, Status.SKIPPED)
        there = master.get("accounts", "ACC-0001") or {}
        wanted = {Action.USE_REMOTE: theirs.get("city", "Turku"), Action.PUSH_LOCAL: "Lund", Action.MERGE: "Oslo"}
        assert there["city"] == wanted[action]
        record.refresh_from_db()
        assert record.data == there
