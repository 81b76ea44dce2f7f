"""The safe undo, field by field and call by call, against a remote inside this process."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollback.undo import Ending, Outstanding, Undone, Wanted, compare, restored, undo, unfenced
from syncportal.remote.client import Deadline
from syncportal.remote.payloads import ReadResult
from syncportal.remote.spec import ResourceSpec
from tests.crash.remote import FakeClient, FakeRemote, Fault, Stored, ThirdParty
from tests.factories import spec_of

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BEFORE = {"id": "A", "x": 1, "y": 1, "version": 1}
SENT = {"id": "A", "x": 2, "y": 1, "version": 1}
PLAIN: dict[str, Any] = {"schema": None, "list": None, "create": None, "read_only": None, "idempotency_header": None}


def spec(*, merge: bool = False, conditional: bool = True) -> ResourceSpec:
    """Compile a resource of little objects."""
    update = {"method": "PATCH", "semantics": "merge"} if merge else {"method": "PUT", "semantics": "replace"}
    return spec_of(**{**PLAIN, "update": update}, **({} if conditional else {"precondition": None}))


def wanted(**changes: Any) -> Wanted:
    """Return the wish to undo x: 1 -> 2."""
    values: dict[str, Any] = {
        "external_id": "A", "snapshot": BEFORE, "snapshot_version": "1", "sent": SENT, "answered": None,
        "outstanding": (),
    }  # fmt: skip
    return Wanted(**{**values, **changes})


def unknown(**changes: Any) -> Wanted:
    """Return the wish to undo a write whose outcome nobody knows."""
    return wanted(outstanding=(Outstanding("1", T0),), **changes)


def remote(version: int = 2, *, merge: bool = False, **changes: Any) -> FakeRemote:
    """Return a remote where x holds what the step sent."""
    options = {name: changes.pop(name) for name in ("conditional", "bumps", "faults", "thirds") if name in changes}
    data = {"id": "A", "x": 2, "y": 1, **changes}
    return FakeRemote({"A": Stored({k: v for k, v in data.items() if v is not None}, version)}, merge=merge, **options)


def run(wish: Wanted, at: FakeRemote, *, now: datetime = T0) -> Undone:
    """Run one undo at a moment."""
    client = FakeClient(at, spec(merge=at.merge, conditional=at.conditional))
    return undo(wish, client, deadline=Deadline(10), now=lambda: now, key=lambda: "key")


def writes(at: FakeRemote) -> int:
    """Count the calls that write."""
    return sum(call.kind == "write" for call in at.calls)


@pytest.mark.parametrize(
    ("shown", "restore", "foreign"),
    [
        ({**BEFORE, "x": 2}, ("/x",), ()),
        (BEFORE, (), ()),
        ({**BEFORE, "x": 3}, (), ("/x",)),
        ({**BEFORE, "x": 2, "y": 9}, ("/x",), ()),
        ({**BEFORE, "y": 9}, (), ()),
        ({"id": "A"}, (), ("/x",)),
    ],
)
def test_each_field_that_the_step_wrote_is_restored_or_done_or_somebody_elses(
    shown: dict, restore: tuple, foreign: tuple
) -> None:
    diff = compare(wanted(), shown, spec=spec())
    assert (diff.restore, diff.foreign) == (restore, foreign)


def test_a_field_that_only_the_answer_shows_changed_is_not_the_steps() -> None:
    diff = compare(wanted(answered={**SENT, "y": 7}), {**SENT, "y": 7}, spec=spec())
    assert (diff.restore, diff.foreign) == (("/x",), ())


def test_what_came_back_in_another_spelling_is_still_ours() -> None:
    diff = compare(wanted(answered={**SENT, "x": "two"}), {**BEFORE, "x": "two"}, spec=spec())
    assert diff.restore == ("/x",)


def test_null_and_absent_are_one_value() -> None:
    removed = wanted(sent={"id": "A", "y": 1})
    assert compare(removed, {"id": "A", "x": None, "y": 1}, spec=spec()).restore == ("/x",)
    added = wanted(snapshot={"id": "A", "y": 1}, sent=SENT)
    assert compare(added, {"id": "A", "x": None, "y": 1}, spec=spec()) == compare(added, {"id": "A"}, spec=spec())
    assert "x" not in restored({**SENT}, added, ("/x",))


def test_force_restores_what_somebody_else_wrote() -> None:
    diff = compare(wanted(force=True), {**BEFORE, "x": 3}, spec=spec())
    assert (diff.restore, diff.foreign) == (("/x",), ())


@pytest.mark.parametrize("merge", [False, True])
def test_only_our_fields_are_put_back(merge: bool) -> None:
    at = remote(y=9, merge=merge)
    assert run(wanted(), at).ending is Ending.DONE
    assert at.objects["A"].data == {"id": "A", "x": 1, "y": 9}


@pytest.mark.parametrize("merge", [False, True])
def test_a_field_that_the_step_added_is_removed_again(merge: bool) -> None:
    at = remote(merge=merge)
    assert run(wanted(snapshot={"id": "A", "y": 1, "version": 1}), at).ending is Ending.DONE
    assert at.objects["A"].data == {"id": "A", "y": 1}


def test_a_second_run_changes_nothing() -> None:
    at = remote()
    run(wanted(), at)
    log = len(at.log)
    assert run(wanted(), at).ending is Ending.DONE
    assert len(at.log) == log


def test_clean_fields_are_restored_before_a_person_is_asked_about_the_rest() -> None:
    at = remote(y=3)
    result = run(wanted(sent={**SENT, "y": 2}), at)
    assert (result.ending, result.foreign) == (Ending.FOREIGN, ("/y",))
    assert at.objects["A"].data == {"id": "A", "x": 1, "y": 3}
    assert result.remote is not None and result.remote.data["x"] == 1


def test_a_change_between_read_and_write_is_read_before_it_is_written_over() -> None:
    at = remote(thirds=(ThirdParty(1, "A", "y"),))
    assert run(wanted(), at).ending is Ending.DONE
    assert at.objects["A"].data["x"] == 1 and str(at.objects["A"].data["y"]).startswith("third")


def test_an_object_that_changes_all_the_time_is_left_for_later() -> None:
    at = remote(thirds=tuple(ThirdParty(call, "A", "y") for call in range(1, 12, 2)))
    result = run(wanted(), at)
    assert (result.ending, result.code) == (Ending.LATER, "keeps_changing")
    assert writes(at) == 3


def test_an_object_that_is_gone_is_reported_after_a_second_look() -> None:
    at = remote()
    at.objects.clear()
    assert run(wanted(), at).ending is Ending.GONE
    assert len(at.calls) == 2


# --- the fence


def test_a_write_that_may_still_come_is_fenced_off() -> None:
    at = remote(1, x=1)
    result = run(unknown(), at)
    assert (result.ending, result.weaker_promise, result.outstanding) == (Ending.DONE, "", ())
    assert at.objects["A"].version == 2


def test_a_known_outcome_needs_no_fence() -> None:
    at = remote(1, x=1)
    assert run(wanted(), at).ending is Ending.DONE
    assert writes(at) == 0


def test_a_version_past_the_one_it_expects_is_fence_enough() -> None:
    at = remote(5, x=1)
    assert run(unknown(), at).ending is Ending.DONE
    assert writes(at) == 0


@pytest.mark.parametrize("merge", [False, True])
def test_where_equal_writes_keep_the_version_only_time_settles(merge: bool) -> None:
    at = remote(1, x=1, bumps=False, merge=merge)
    waiting = run(unknown(), at)
    assert (waiting.ending, waiting.not_before) == (Ending.POSTPONED, T0 + timedelta(seconds=30))
    later = run(unknown(), at, now=T0 + timedelta(seconds=31))
    assert (later.ending, later.weaker_promise != "") == (Ending.DONE, True)


def test_a_fence_that_is_refused_once_is_tried_again_at_once() -> None:
    at = remote(1, x=1, faults={1: Fault.REJECTED})
    result = run(unknown(), at, now=T0 + timedelta(hours=1))
    assert (result.ending, result.weaker_promise, at.objects["A"].version) == (Ending.DONE, "", 2)


def test_a_fence_that_is_refused_again_is_tried_in_other_runs_before_time_settles() -> None:
    refusing: dict[int, Fault] = {1: Fault.REJECTED, 3: Fault.REJECTED}
    late = T0 + timedelta(hours=1)
    again = run(unknown(fence_again=True), remote(1, x=1, faults=refusing), now=late)
    assert (again.ending, again.code, again.outstanding) == (Ending.LATER, "fence_refused", unknown().outstanding)
    last = run(unknown(), remote(1, x=1, faults=refusing), now=late)
    assert (last.ending, last.weaker_promise != "", last.outstanding) == (Ending.DONE, True, ())
    early = run(unknown(), remote(1, x=1, faults=refusing), now=T0)
    assert early.ending is Ending.POSTPONED


def test_without_conditional_writes_only_time_settles() -> None:
    at = remote(1, x=1, conditional=False)
    waiting = run(unknown(), at)
    assert (waiting.ending, waiting.not_before, writes(at)) == (Ending.POSTPONED, T0 + timedelta(seconds=30), 0)
    later = run(unknown(), at, now=T0 + timedelta(seconds=31))
    assert (later.ending, "conditional" in later.weaker_promise) == (Ending.DONE, True)


def test_a_write_from_before_the_clock_was_set_back_is_waited_for_from_now_on() -> None:
    at, hour = remote(1, x=1, conditional=False), timedelta(hours=1)
    waiting = run(wanted(outstanding=(Outstanding("1", T0 + hour), Outstanding("1", T0 - hour))), at)
    assert (waiting.ending, waiting.not_before) == (Ending.POSTPONED, T0 + timedelta(seconds=30))
    assert [late.sent_at for late in waiting.outstanding] == [T0, T0 - hour]


def test_an_undo_of_unknown_outcome_counts_as_outstanding_itself() -> None:
    at = remote(2, conditional=False, faults={1: Fault.DELAYED})
    result = run(wanted(), at, now=T0)
    assert (result.ending, [o.sent_at for o in result.outstanding]) == (Ending.LATER, [T0])


def test_versions_without_order_die_when_they_differ() -> None:
    late = (Outstanding('"a"', T0),)
    assert unfenced(late, '"b"', spec=spec()) == ()
    assert unfenced(late, '"a"', spec=spec()) == late
    assert unfenced(late, None, spec=spec()) == late


# --- reads that lag behind


class Lagging(FakeClient):
    """Answers its first reads with the object as it was before the step."""

    def __init__(self, at: FakeRemote, *, reads: int, version: str) -> None:
        super().__init__(at, spec(conditional=at.conditional))
        self.late, self.version = reads, version

    def read(self, external_id: str, *, purpose: str, deadline: Deadline) -> ReadResult:
        found = super().read(external_id, purpose=purpose, deadline=deadline)
        if self.late <= 0:
            return found
        self.late -= 1
        return replace(found, object=replace(found.object, data=BEFORE, version=self.version))


def lagging(at: FakeRemote, *, reads: int, version: str = "1", **changes: Any) -> Undone:
    wish = wanted(answered=SENT, answered_version="2", **changes)
    client = Lagging(at, reads=reads, version=version)
    return undo(wish, client, deadline=Deadline(10), now=lambda: T0, key=lambda: "key")


def test_a_read_older_than_our_own_write_is_made_again_and_believed_by_nobody() -> None:
    at = remote()
    assert lagging(at, reads=1).ending is Ending.DONE
    assert at.objects["A"].data["x"] == 1
    result = lagging(remote(), reads=9)
    assert (result.ending, result.code) == (Ending.LATER, "older")


def test_without_an_order_of_versions_a_write_finds_out_whether_the_read_was_old() -> None:
    at = remote()
    result = lagging(at, reads=1, version='"a"', snapshot_version='"a"')
    assert (result.ending, at.objects["A"].data["x"], at.calls[1].kind) == (Ending.DONE, 1, "write")
    assert lagging(remote(), reads=99, version='"a"', snapshot_version='"a"').ending is Ending.LATER
    back = remote(1, x=1)  # the version that a digest of the content is again, once it is restored
    wish = wanted(answered=SENT, answered_version="0", snapshot_version="1")
    again = FakeClient(back, spec())
    assert undo(wish, again, deadline=Deadline(10), now=lambda: T0, key=lambda: "k").ending is Ending.DONE
    assert writes(back) == 1


# --- failures


@pytest.mark.parametrize(
    ("fault", "ending"),
    [(Fault.REFUSED, Ending.LATER), (Fault.FAULT, Ending.LATER), (Fault.TIMEOUT, Ending.LATER),
     (Fault.REJECTED, Ending.REFUSED)],
)  # fmt: skip
@pytest.mark.parametrize("call", [0, 1])
def test_what_goes_wrong_decides_how_it_goes_on(call: int, fault: Fault, ending: Ending) -> None:
    assert run(wanted(), remote(faults={call: fault})).ending is ending
