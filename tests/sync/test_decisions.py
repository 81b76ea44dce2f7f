"""What a read means for a claim: the table of `decisions.judge`, row by row."""

from datetime import timedelta
from typing import Any

import pytest

from syncportal.sync.decisions import MAX_REBASES, Next, judge, settles_at, still_open
from syncportal.sync.models import Conflict
from syncportal.sync.states import Intent
from tests.factories import T0, a_claim, a_send, shown, spec_of

SPEC = spec_of(schema=None)
UNGUARDED = spec_of(schema=None, precondition={"send": "none"})
BASE = {"id": "A", "name": "Ann", "city": "Porto", "version": 1}


def doc(version: int = 1, **changes: Any) -> dict[str, Any]:
    return {**BASE, "version": version, **changes}


def decide(claim: Any, remote: Any, *, spec: Any = SPEC, **options: Any) -> Any:
    return judge(claim, shown(remote), spec=spec, now=T0, **options)


def test_an_unchanged_remote_is_written_to() -> None:
    assert decide(a_claim(BASE, doc(name="Bo")), doc()).next is Next.SEND


def test_a_remote_that_holds_our_content_already_is_skipped() -> None:
    assert decide(a_claim(BASE, doc(name="Bo")), doc(2, name="Bo")).next is Next.SKIP


def test_a_remote_that_holds_what_we_sent_is_complete() -> None:
    claim = a_claim(BASE, doc(name="Bo"), sends=(a_send(doc(name="Bo")),))
    decision = decide(claim, doc(2, name="Bo"))
    assert decision.next is Next.COMPLETE and decision.sends == ()


def test_a_trace_of_an_older_send_is_ours_and_the_newer_edit_goes_on_top() -> None:
    claim = a_claim(BASE, doc(name="Cy"), sends=(a_send(doc(name="Bo")),))
    decision = decide(claim, doc(2, name="Bo"))
    assert decision.next is Next.REBASE and decision.base["name"] == "Bo"


def test_other_fields_changed_there_are_merged() -> None:
    assert decide(a_claim(BASE, doc(name="Bo")), doc(2, city="Leeds")).next is Next.REBASE


def test_merging_by_itself_can_be_forbidden() -> None:
    spec = spec_of(schema=None, policy={"merge_disjoint": False})
    decision = decide(a_claim(BASE, doc(name="Bo")), doc(2, city="Leeds"), spec=spec)
    assert (decision.next, decision.why) == (Next.CONFLICT, Conflict.Reason.CONCURRENT_EDIT)


def test_the_same_field_changed_on_both_sides_is_for_a_person() -> None:
    claim = a_claim(BASE, doc(name="Bo"))
    assert decide(claim, doc(2, name="Di")).why == Conflict.Reason.CONCURRENT_EDIT
    assert decide(claim, doc(2, name="Di"), refused=True).why == Conflict.Reason.PRECONDITION_FAILED


def test_other_content_under_the_same_version_is_never_passed_over() -> None:
    decision = decide(a_claim(BASE, doc(name="Bo")), doc(1, city="Leeds"))
    assert (decision.next, decision.why) == (Next.CONFLICT, Conflict.Reason.VERSION_REUSE)


def test_an_older_version_is_read_again_and_then_a_conflict() -> None:
    claim = a_claim({**BASE, "version": 5}, doc(5, name="Bo"), version="5")
    assert decide(claim, doc(4)).next is Next.REREAD
    assert decide(claim, doc(4), reread=True).why == Conflict.Reason.STALE_REMOTE


def test_a_refused_write_is_not_repeated_as_it_was() -> None:
    claim = a_claim(BASE, doc(name="Bo"))
    assert decide(claim, doc(), refused=True).next is Next.REBASE
    tired = a_claim(BASE, doc(name="Bo"), rebases=MAX_REBASES)
    assert decide(tired, doc(), refused=True).why == Conflict.Reason.PRECONDITION_FAILED
    assert decide(tired, doc(2, city="Leeds")).why == Conflict.Reason.CONCURRENT_EDIT


def test_a_newer_version_with_the_same_content_is_taken_over_before_writing() -> None:
    assert decide(a_claim(BASE, doc(name="Bo")), doc(2)).next is Next.REBASE


@pytest.mark.parametrize(
    ("remote", "rebases", "expected"),
    [
        (doc(), 0, Next.SEND),
        (doc(2), 0, Next.REBASE),
        (doc(2), MAX_REBASES, Next.CONFLICT),
        (doc(2, city="Leeds"), 0, Next.CONFLICT),
    ],
)
def test_a_deletion_never_goes_over_a_change_that_nobody_read(remote: Any, rebases: int, expected: Next) -> None:
    decision = decide(a_claim(BASE, BASE, intent=Intent.DELETE, rebases=rebases), remote)
    assert decision.next is expected
    assert expected is not Next.CONFLICT or decision.why == Conflict.Reason.DELETED_LOCAL


def test_our_own_late_write_does_not_stop_our_deletion() -> None:
    claim = a_claim(BASE, doc(name="Bo"), intent=Intent.DELETE, sends=(a_send(doc(name="Bo")),))
    assert decide(claim, doc(2, name="Bo")).next is Next.REBASE


def test_without_conditional_writes_only_time_settles_a_send() -> None:
    claim = a_claim(BASE, doc(name="Bo"), sends=(a_send(doc(name="Bo"), age_s=10),))
    waiting = decide(claim, doc(), spec=UNGUARDED)
    assert (waiting.next, waiting.until) == (Next.WAIT, T0 + timedelta(seconds=20))
    assert waiting.sends == claim.sends
    old = a_claim(BASE, doc(name="Bo"), sends=(a_send(doc(name="Bo"), age_s=30),))
    assert decide(old, doc(), spec=UNGUARDED).next is Next.SEND


def test_with_conditional_writes_a_send_dies_when_the_version_it_expects_is_past() -> None:
    sends = (a_send(doc(name="Bo"), version="1"), a_send(doc(name="Cy"), version="3"))
    assert still_open(sends, "1", spec=SPEC, now=T0) == sends
    assert still_open(sends, "2", spec=SPEC, now=T0) == sends[1:]
    assert still_open(sends, "4", spec=SPEC, now=T0) == ()
    opaque = (a_send(doc(), version="abc"),)
    assert still_open(opaque, "abc", spec=SPEC, now=T0) == opaque
    assert still_open(opaque, "abd", spec=SPEC, now=T0) == ()


def test_the_youngest_send_says_when_everything_is_settled() -> None:
    sends = (a_send(doc(), age_s=25), a_send(doc(), age_s=5))
    assert settles_at(sends, spec=UNGUARDED) == T0 + timedelta(seconds=25)
    assert settles_at((), spec=UNGUARDED) is None


def test_an_open_send_stays_noted_when_the_newest_content_goes_out() -> None:
    claim = a_claim(BASE, doc(name="Cy"), sends=(a_send(doc(name="Bo")),))
    decision = decide(claim, doc())
    assert (decision.next, decision.sends) == (Next.SEND, claim.sends)


def test_a_policy_decides_instead_of_a_person() -> None:
    spec = spec_of(schema=None, policy={"conflict": "remote_wins"})
    assert decide(a_claim(BASE, doc(name="Bo")), doc(2, name="Di"), spec=spec).next is Next.REBASE
