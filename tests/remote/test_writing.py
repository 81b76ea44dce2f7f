"""What a write sends, knob by knob, without a server."""

from datetime import UTC, datetime

import pytest

from syncportal.remote import formats, writing
from syncportal.remote.urls import BadId, PathTemplate, joined
from tests.remote.masters import spec_of

BASE = {"detail": {"path": "/things/{0}"}, "id": ["/id"]}


def replaced(data: dict, *, external_id: str = "7", **knobs):
    spec = spec_of({**BASE, **knobs})
    return writing.payload(spec, writing.object_to_replace(spec, data), external_id=external_id)


@pytest.mark.parametrize(
    ("knobs", "data", "sent"),
    [
        ({"read_only": ["/_*", "/meta/at"]}, {"a": 1, "_x": 2, "meta": {"at": 1, "k": 2}}, {"a": 1, "meta": {"k": 2}}),
        ({"version": {"from": "body", "pointer": "/v"}}, {"a": 1, "v": 3}, {"a": 1}),
        ({"update": {"wrap": ["records", "[]", "fields"]}}, {"a": 1}, {"records": [{"fields": {"a": 1}}]}),
        (
            {
                "update": {
                    "wrap": ["data", "attributes"], "constant": {"/data/type": "t"}, "id_in_body": {"/data/id": 0},
                }
            },
            {"a": 1}, {"data": {"attributes": {"a": 1}, "type": "t", "id": "7"}},
        ),
        (
            {"write_map": {"/site/id": "/site_id"}, "read_only": ["/site"]}, {"site": {"id": 3, "n": "x"}},
            {"site_id": 3},
        ),
        ({"write_map": {"/a": "/b"}}, {"a": None}, {"b": None}),
        ({"write_format": {"/t": "%d.%m.%Y %H:%M"}}, {"t": "2026-12-01T06:00:00+02:00"}, {"t": "01.12.2026 04:00"}),
        ({"write_format": {"/n": "{:.2f}", "/m": "string"}}, {"n": 3, "m": 4.5}, {"n": "3.00", "m": "4.5"}),
        (
            {"update": {"id_in_body": {"/id": 0}}, "schema": {"properties": {"id": {"type": "integer"}}}}, {"a": 1},
            {"a": 1, "id": 7},
        ),
    ],
)  # fmt: skip
def test_replacing_writes(knobs, data, sent) -> None:
    assert replaced(data, **knobs) == sent


@pytest.mark.parametrize(
    ("knobs", "base", "data", "sent"),
    [
        ({}, {"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, {"b": 3, "c": 4}),
        ({}, {"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"compared": ["/f/x"]}, {"f": {"x": 1, "y": 1}}, {"f": {"x": 2, "y": 1}}, {"f": {"x": 2}}),
        ({"compared": ["/a"]}, {"a": 1, "b": 1}, {"a": 1, "b": 2}, {"b": 2}),
        ({"compared": ["/l/0/x"]}, {"l": [{"x": 1, "y": 5}]}, {"l": [{"x": 2, "y": 5}]}, {"l": [{"x": 2, "y": 5}]}),
        (
            {"write_map": {"/site/id": "/site_id"}, "read_only": ["/site"]}, {"site": {"id": 1}, "a": 1},
            {"site": {"id": 2}, "a": 1}, {"site_id": 2},
        ),
        ({"read_only": ["/o/ro"]}, {"o": {"ro": 1, "x": 1}}, {"o": {"ro": 1, "x": 2}}, {"o": {"x": 2}}),
        ({}, {"n": 20}, {"n": 20.0}, {}),
    ],
)  # fmt: skip
def test_merging_writes_send_the_difference(knobs, base, data, sent) -> None:
    spec = spec_of({**BASE, "update": {"method": "PATCH"}, **knobs})
    assert writing.object_to_merge(spec, data, base=base) == sent


def test_a_server_made_id_is_never_sent_on_create() -> None:
    assert writing.object_to_create(spec_of(BASE), {"id": "7", "a": 1}, external_id=None) == {"a": 1}


def test_a_client_id_is_put_where_the_record_lacks_it() -> None:
    spec = spec_of({**BASE, "create": {"id": "client"}})
    assert writing.object_to_create(spec, {"a": 1}, external_id="X") == {"a": 1, "id": "X"}


def test_form_encoding_of_nested_values() -> None:
    body = {"a": {"b": [1, True]}, "n": None, "t": "ü &"}
    assert writing.encoded(body, encoding="form") == b"a%5Bb%5D%5B%5D=1&a%5Bb%5D%5B%5D=true&n=&t=%C3%BC+%26"


def test_a_body_version_keeps_the_type_the_remote_uses() -> None:
    assert writing.typed_version("3", like=7) == 3
    assert writing.typed_version("3", like="7") == "3"
    assert writing.typed_version("3-abc", like=None) == "3-abc"


def test_the_object_in_an_answer_is_found_wrapped_listed_or_plain() -> None:
    spec = spec_of({**BASE, "update": {"wrap": ["records", "[]"]}})
    for body in ({"id": "7"}, {"records": [{"id": "7"}]}, [{"id": "7"}]):
        assert writing.shown_object(spec, body, external_id="7") == {"id": "7"}
    assert writing.shown_object(spec, {"status": "ok"}, external_id="7") is None
    assert writing.shown_object(spec, {"id": "8"}, external_id="7") == {"id": "8"}, (
        "a wrong id is for the caller to see"
    )


def test_paths_keep_ids_whole() -> None:
    template = PathTemplate("/T(a='{0}',b='{1}')")
    assert template.fill(["O'Brien", "x/%3A y"]) == "/T(a='O%27%27Brien',b='x%2F%253A%20y')"
    assert template.parts_of("/v1" + template.fill(["p", "q r"])) == {0: "p", 1: "q r"}
    with pytest.raises(BadId):
        PathTemplate("/a/{0}").fill([".."])


def test_parameters_are_encoded() -> None:
    url = joined("http://h/v1/", "x?a=1", {"$filter": "a eq 'b c'", "on": True, "many": [1, 2], "none": None})
    assert url == "http://h/v1/x?a=1&%24filter=a%20eq%20%27b%20c%27&on=true&many=1&many=2"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("", "2026-12-01T06:00:00Z"), ("epoch", 1796104800), ("epoch_ms", 1796104800250),
        ('"{epoch_ms}"', '"1796104800250"'),
        ("updated gt %Y-%m-%dT%H:%M:%S.%LZ", "updated gt 2026-12-01T06:00:00.250Z"),
        ("http_date", "Tue, 01 Dec 2026 06:00:00 GMT"), ("since {}", "since 2026-12-01T06:00:00Z"),
    ],
)  # fmt: skip
def test_times_as_parameters(pattern, text) -> None:
    assert formats.time_text(datetime(2026, 12, 1, 6, 0, 0, 250_000, tzinfo=UTC), pattern) == text
