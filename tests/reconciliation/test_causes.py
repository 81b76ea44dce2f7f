"""Why two sides differ: no more than our own journal proves."""

from dataclasses import replace

import pytest

from reconciliation.causes import LastActs, cause_of
from reconciliation.screens.looks import CAUSE_SENTENCES
from reconciliation.states import Cause, Kind
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from tests.factories import T0, shown, spec_of

HELD = {"id": "A", "city": "Lund"}
STATE = RecordState(1, 1, "A", HELD, HELD, "3", 2, Intent.UPDATE, None, None)
PUSHED = LastActs(pushed=2, read=1, before=({"city": "Oslo"}, {"city": "Bonn", "name": "A"}))
READ = LastActs(pushed=1, read=2)


def why(state: RecordState, city: str, version: str | None, acts: LastActs = PUSHED, status: str = "SYNCED") -> str:
    return str(
        cause_of(
            Kind.DATA_MISMATCH, state=state, shown=shown({**HELD, "city": city}, version=version), status=status,
            acts=acts, spec=spec_of(),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("city", "version", "acts", "cause"),
    [
        ("Oslo", "4", PUSHED, "our_write_lost"),
        ("Turku", "4", PUSHED, "changed_remotely"),
        ("Turku", "2", PUSHED, "our_write_lost"),
        ("Turku", "2", READ, "changed_remotely"),
        ("Bonn", "3", PUSHED, "our_write_lost"),
        ("Bonn", "4", PUSHED, "changed_remotely"),
        ("LUND", "3", PUSHED, "normalised_by_remote"),
        ("LUND", "3", READ, "changed_remotely"),
        ("Turku", None, PUSHED, "changed_remotely"),
    ],
)
def test_a_write_counts_as_lost_or_respelled_only_if_it_was_the_last_thing_we_know(
    city: str, version: str | None, acts: LastActs, cause: str
) -> None:
    assert why(STATE, city, version, acts) == cause


def test_what_was_not_confirmed_was_never_pushed() -> None:
    assert why(replace(STATE, data={**HELD, "city": "Turku"}), "Lund", "3") == "never_pushed"
    assert why(STATE, "Turku", "4", status="ERROR") == "never_pushed"
    assert why(replace(STATE, base=None), "Turku", "4") == "never_pushed"


def test_an_object_that_is_there_again_after_its_deletion_was_accepted_was_made_at_the_remote() -> None:
    gone = replace(STATE, base=None, version=None, deleted_at=T0)
    assert why(gone, "Lund", None) == why(gone, "Lund", "9") == "changed_remotely"
    assert why(replace(STATE, deleted_at=T0), "Lund", "3") == "our_write_lost"


@pytest.mark.parametrize("kind", [Kind.DUPLICATE_KEY, Kind.INVALID_REMOTE])
def test_what_cannot_be_compared_is_not_explained(kind: Kind) -> None:
    object_there = shown({**HELD, "city": "Turku"}, version="4")
    found = cause_of(kind, state=STATE, shown=object_there, status="SYNCED", acts=PUSHED, spec=spec_of())
    assert found == Cause.UNKNOWN


def test_every_cause_has_a_sentence() -> None:
    assert CAUSE_SENTENCES.keys() == set(Cause)
