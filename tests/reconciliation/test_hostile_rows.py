"""Rows that no sane remote would show, ids and versions above all: each is judged or named, none stops a run."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from reconciliation import engine, runs
from reconciliation.models import Run
from syncportal.remote import versions
from syncportal.remote.models import Gate, Resource
from syncportal.remote.spec import LONGEST_ID, spec_for
from syncportal.sync import pull
from syncportal.sync.events import WORKER
from syncportal.sync.models import Record
from tests.reconciliation.scene import adds_up, found, reconcile
from tests.reconciliation.test_findings import scripted
from tests.remote.scripted import Scripted, scripted_server

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
LONG_ID, LONGER_ID = "i" * LONGEST_ID, "i" * (LONGEST_ID + 1)
OPEN = ("missing_local", "open")
ROWS: dict[str, tuple[list[Any], dict[str, tuple[str, str]]]] = {
    "a version that cannot be kept": ([{"id": "1", "rev": "v" * 300}], {"1": OPEN}),
    "the same out of order": ([{"id": "2", "rev": "v" * 300}, {"id": "1", "rev": "v" * 300}], {"1": OPEN, "2": OPEN}),
    "a version that is an object": ([{"id": "1", "rev": {"a": 1}}], {"1": OPEN}),
    "an id that cannot be kept": ([{"id": LONGER_ID}, {"id": LONG_ID}],
                                  {LONG_ID: OPEN, "": ("invalid_remote", "open")}),
    "ids that are no text": ([{"id": True}, {"id": [1]}, {"id": 1.5}], {"1.5": OPEN, "": ("invalid_remote", "open")}),
    "wide characters": ([{"id": "😀" * LONGEST_ID}], {"😀" * LONGEST_ID: OPEN}),
    "paths and queries": ([{"id": "../../admin"}, {"id": "a?b#c%20"}, {"id": " "}],
                          {"../../admin": OPEN, "a?b#c%20": OPEN, " ": OPEN}),
    "an id that leaves the path": ([{"id": ".."}], {"..": ("invalid_remote", "open")}),
    "one id in two spellings": ([{"id": 1, "title": "x"}, {"id": "1", "title": "y"}], {"1": ("duplicate_key", "open")}),
    "two thousand fields": ([{"id": "1", **{f"k{number}": "v" for number in range(2_000)}}], {"1": OPEN}),
    "odd names": ([{"id": "1", "k" * 5_000: 1, "a/b~c": {"d": [1, {"e": None}]}}], {"1": OPEN}),
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


def shown_by(server: Scripted, rows: list[Any]) -> Resource:
    for row in rows:
        server.script["GET", f"/things/{quote(str(row['id']), safe='')}"] = (200, row)
    return scripted(server, rows)


@pytest.mark.parametrize("name", ROWS)
def test_a_run_judges_what_it_can_and_ends(server: Scripted, name: str) -> None:
    rows, wanted = ROWS[name]
    resource = shown_by(server, rows)
    run = reconcile(resource)
    assert (run.state, found(resource)) == ("finished", wanted)
    assert adds_up(run)


@pytest.mark.parametrize("name", ["a version that cannot be kept", "an id that cannot be kept", "wide characters"])
def test_what_was_pulled_agrees(server: Scripted, name: str) -> None:
    rows, wanted = ROWS[name]
    resource = shown_by(server, rows)
    counts = pull.run(pull.start(resource).pk)
    assert set(Record.objects.values_list("external_id", flat=True)) == wanted.keys() - {""}
    run = reconcile(resource)
    assert (run.matched, set(found(resource))) == (len(wanted.keys() - {""}), wanted.keys() & {""}), counts


def test_a_row_without_an_id_that_cannot_be_looked_at_again_is_no_agreement(server: Scripted) -> None:
    run = runs.start(scripted(server, [{"title": "no id"}]), actor=WORKER)
    assert engine.run_slice(run.pk, seconds=0).run.phase == "confirming"
    server.script["GET", "/things"] = (500, {})
    for _ in range(spec_for(run.resource).most_reads):
        Gate.objects.update(breaker="closed", open_until=None)
        Run.objects.update(lease_until=None)
        engine.run_slice(run.pk, seconds=5)
    run.refresh_from_db()
    assert (run.state, found(run.resource)) == ("finished", {"": ("invalid_remote", "open")})


def test_only_text_that_can_be_kept_is_a_version() -> None:
    kept = "v" * versions.LONGEST
    assert versions.canonical(kept) == kept
    assert versions.canonical(f"{kept}v") is None
    assert versions.canonical(10**300) is None and versions.canonical(1e300) is None
