"""The text search in records: what a word finds, on both databases, and how often they are asked."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from syncportal.remote.models import Resource
from syncportal.sync import record_search, records, transitions
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.records import RecordState
from syncportal.sync.states import Intent
from tests.factories import make_remote, make_resource

pytestmark = [pytest.mark.django_db, pytest.mark.db]

CONTENTS: dict[str, dict[str, Any]] = {
    "A-1": {"name": "Öresund 100%", "street": "Große Straße", "credit": 17.25},
    "B-2": {"name": "ÖRESUND", "path": "C:\\temp\\new", "said": 'say "hi"'},
    "C-3": {"name": "plain_name", "place": "Москва", "open": True, "tags": ["für", "Ähre"]},
    "D-4": {"name": "Plain second", "credit": 987654, "mood": "\N{GRINNING FACE}"},
    "E|5": {"name": "isil", "kind": "PLAIN", "nothing": None, "deep": {"er": [{"city": "Malmö"}]}},
}
ON_POSTGRESQL_ALSO = {
    # SQLite knows the two cases of ASCII letters only.
    "öresund": ["A-1", "B-2"], "москва": ["C-3"], "FÜR": ["C-3"], "ähre": ["C-3"], "MALMÖ": ["E|5"],
}  # fmt: skip


@pytest.fixture
def made() -> dict[str, int]:
    """Make the records, A-1 the newest; B-2 is Olga's; D-4 has a problem. Return the ids by external id."""
    resource = make_resource(make_remote("http://127.0.0.1:1"))
    Resource.objects.update(slug="stores")
    olga, now = User.objects.create_user("olga-müller"), timezone.now()
    states = [
        RecordState(0, resource.pk, name, data, data, "1", 1, Intent.UPDATE, olga.pk if name == "B-2" else None, None)
        for name, data in reversed(CONTENTS.items())
    ]
    ids = records.insert(states, now=now)
    transitions.insert([transitions.NewJob(pk, resource.remote_id, False, 4) for pk in ids], now=now)
    by_name = dict(zip(reversed(CONTENTS), ids, strict=True))
    SyncJob.objects.filter(pk=by_name["D-4"]).update(detail="Broken Pipe 50%")
    return by_name


def operator() -> User:
    user, _ = User.objects.get_or_create(username="ops")
    user.user_permissions.add(Permission.objects.get(codename="operate_records"))
    return user


def found(text: str, *, user: User | None = None, most: int = 99) -> list[str]:
    user = user or operator()
    rows = Record.objects.visible_to(user).order_by("-pk")
    ids = record_search.first_ids(rows, record_search.words_of(text), user=user, most=most)
    by_id = dict(Record.objects.values_list("pk", "external_id"))
    if most < 99:
        return [str(by_id[pk]) for pk in ids]
    return sorted(str(by_id[pk]) for pk in ids)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nowhere", []),
        ("plain", ["C-3", "D-4", "E|5"]),
        ("PLAIN second", ["D-4"]),
        ("second plain", ["D-4"]),
        ("plain nowhere", []),
        ("a-1", ["A-1"]),
        ("e|5", ["E|5"]),
        ("i", list(CONTENTS)),  # stands in the words of some, in the names of fields of others
        ("zz", []),
        ("öresund", []),
        ("Öresund", ["A-1", "B-2"]),
        ("Straße", ["A-1"]),
        ("strAßE", ["A-1"]),
        ("Москва", ["C-3"]),
        ("москва", []),
        ("für", ["C-3"]),
        ("FÜR", []),
        ("ähre", []),
        ("MALMÖ", []),
        ("Ähre plain", ["C-3"]),
        ("\N{GRINNING FACE}", ["D-4"]),
        ("%", ["A-1", "D-4"]),
        ("100%", ["A-1"]),
        ("1%0", []),
        ("plain_", ["C-3"]),
        ("plain_second", []),
        ("c:\\temp", ["B-2"]),
        ("temp\\new", ["B-2"]),
        ('"hi"', ["B-2"]),
        ("'hi'", []),
        ("17.25", ["A-1"]),
        ("98765", ["D-4"]),
        ("true", ["C-3"]),
        ('"credit":', ["A-1", "D-4"]),
        ("stores", list(CONTENTS)),
        ("stores second", ["D-4"]),
        ("olga", ["B-2"]),
        ("müller", ["B-2"]),
        ("olga plain", []),
        ("hi olga stores", ["B-2"]),
        ("broken pipe", ["D-4"]),
        ("broken plain", ["D-4"]),
        ("broken olga", []),
        ("broken 50% plain pipe", ["D-4"]),
        ("a\x00-1", ["A-1"]),
        ("plain " * 8 + "nowhere", ["C-3", "D-4", "E|5"]),
    ],
)
def test_every_word_stands_somewhere_in_what_is_found(made: dict[str, int], text: str, wanted: list[str]) -> None:
    also = ON_POSTGRESQL_ALSO.get(text, []) if connection.vendor == "postgresql" else []
    assert found(text) == sorted({*wanted, *also})


def test_a_number_is_an_id_too(made: dict[str, int]) -> None:
    for text in (f"{made['C-3']}", f"#{made['C-3']}", f"#{made['C-3']} plain"):
        assert "C-3" in found(text), text
    assert "C-3" not in found(f"#{made['C-3']} nowhere")
    assert found("9" * 30) == []


def test_what_belongs_to_many_records_is_found_without_listing_them(
    made: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(record_search.MOST_LISTED, connection.vendor, 0)
    assert [found(text) for text in ("olga", "stores second", "broken", "nowhere")] == [["B-2"], ["D-4"], ["D-4"], []]


def test_more_than_wanted_is_cut_off_in_the_order_of_the_rows(made: dict[str, int]) -> None:
    assert found("stores", most=2) == ["A-1", "B-2"]
    assert found("plain", most=2) == ["C-3", "D-4"]


def test_owners_find_among_their_own_and_no_problem_of_others_is_read(made: dict[str, int]) -> None:
    olga = User.objects.get(username="olga-müller")
    with CaptureQueriesContext(connection) as captured:
        assert found("i", user=olga) == found("stores", user=olga) == ["B-2"]
        assert found("plain", user=olga) == found("broken", user=olga) == []
    jobs = [query["sql"] for query in captured if 'FROM "sync_syncjob"' in query["sql"]]
    assert len(jobs) == 4
    assert all('"owner_id"' in sql for sql in jobs)


def test_jobs_and_records_are_read_once_for_all_words(made: dict[str, int]) -> None:
    user = operator()
    with CaptureQueriesContext(connection) as captured:
        record_search.first_ids(Record.objects.visible_to(user), ["plain", "nowhere"], user=user, most=99)
    over_records = [query["sql"] for query in captured if 'FROM "sync_record"' in query["sql"]]
    assert len(over_records) == 1
    assert "SELECT" not in over_records[0].removeprefix("SELECT")  # nothing in it keeps PostgreSQL's processes apart
    assert sum("sync_" in query["sql"] or "LIKE" in query["sql"] for query in captured) == 6


def test_a_word_without_an_end_is_looked_for_by_its_beginning(made: dict[str, int]) -> None:
    assert found("plain " + "x" * 60_000) == []
    Record.objects.filter(pk=made["D-4"]).update(data={"name": "y" * 60_000})
    assert found("y" * 60_000) == ["D-4"]
