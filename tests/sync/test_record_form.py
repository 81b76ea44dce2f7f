"""The form generated from a JSON Schema: which field for which schema, what comes back, what a stale form means."""

from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from syncportal.sync.forms import RecordForm, clashes, fields_of, new_object, patch_of, read_seen, write_seen
from syncportal.sync.local import merge_patch
from syncportal.sync.schema_fields import place_at, places
from tests.factories import spec_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "on", "size"],
    "$defs": {"phone": {"type": "string", "title": "Phone", "maxLength": 20}},
    "properties": {
        "name": {"type": "string", "title": "Full name", "description": "On the door.", "minLength": 1, "maxLength": 9},
        "size": {"type": "integer", "minimum": 1, "maximum": 5},
        "rate": {"type": ["number", "null"], "multipleOf": 0.5},
        "on": {"type": "boolean"},
        "maybe": {"type": ["boolean", "null"]},
        "tier": {"enum": ["gold", "silver", 3, None]},
        "level": {"oneOf": [{"const": 1, "title": "Low"}, {"const": 2, "title": "High"}]},
        "day": {"type": ["string", "null"], "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "mail": {"type": "string", "format": "email"},
        "home": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]},
        "notes": {"type": "string", "maxLength": 5000},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"type": "object", "title": "Address", "required": ["city"],
                    "properties": {"city": {"type": "string"}, "geo": {"type": "object"}}},
        "phone": {"$ref": "#/$defs/phone"},
        "free": {},
        "rows": {"type": "array", "items": {"type": "object"}},
    },
}  # fmt: skip
DATA: dict[str, Any] = {
    "name": "Ada", "size": 3, "rate": 2.5, "on": True, "maybe": None, "tier": "gold", "level": 2, "day": "2026-03-01",
    "at": "2026-03-01T08:30:00Z", "mail": "a@example.org", "home": "https://a.example", "notes": "one\ntwo",
    "tags": ["x", "y z"], "address": {"city": "Bergen", "geo": {"lat": 1}, "extra": 7}, "phone": "1", "free": "x",
    "rows": [{"a": 1}],
}  # fmt: skip
SPEC = spec_of(schema=SCHEMA, read_only=[])


def form_for(data: dict[str, Any], changes: dict[str, Any] | None = None, *, spec: Any = SPEC) -> RecordForm:
    """Return the bound form as a browser would send it, with some places changed."""
    shown = fields_of(spec, data, creating=False)
    blank = RecordForm(shown=shown, before=data)
    sent = {}
    for field in blank:
        value = field.field.widget.format_value(field.value()) if field.value() is not None else ""
        if field.widget_type == "checkbox":
            if field.value():
                sent[field.name] = "on"
            continue
        sent[field.name] = value[0] if isinstance(value, list) else value or ""
        if "\n" in str(sent[field.name]):
            sent[field.name] = str(sent[field.name]).replace("\n", "\r\n")
    for name, value in (changes or {}).items():
        sent.pop(name, None) if value is None else sent.update({name: value})
    return RecordForm(sent, shown=shown, before=data)


def test_each_schema_gets_its_field() -> None:
    kinds = {place.pointer: place.kind for place in places(SCHEMA, list(SCHEMA["properties"]), DATA)}
    assert kinds == {
        "/name": "text", "/size": "integer", "/rate": "number", "/on": "boolean", "/maybe": "boolean",
        "/tier": "choice", "/level": "choice", "/day": "date", "/at": "date-time", "/mail": "email",
        "/home": "uri", "/notes": "long",
        "/tags": "lines", "/address/city": "text", "/address/geo": "json", "/phone": "text", "/free": "text",
        "/rows": "json",
    }  # fmt: skip


def test_labels_help_and_what_is_required_come_from_the_schema() -> None:
    found = {place.pointer: place for place in places(SCHEMA, list(SCHEMA["properties"]), DATA)}
    assert (found["/name"].label, found["/name"].help_text, found["/name"].required) == (
        "Full name",
        "On the door.",
        True,
    )
    assert (found["/address/city"].group, found["/address/city"].label) == ("Address", "City")
    assert (found["/rate"].nullable, found["/home"].nullable, found["/phone"].label) == (True, True, "Phone")


def test_an_untouched_form_wishes_nothing() -> None:
    form = form_for(DATA)
    assert form.is_valid(), form.errors
    assert form.wishes() == {}


@pytest.mark.parametrize(
    ("at", "sent", "wanted"),
    [
        ("/name", "Bo", "Bo"), ("/size", "4", 4), ("/rate", "3.0", 3.0), ("/rate", "3", 3), ("/rate", "", None),
        ("/on", None, False), ("/maybe", "true", True), ("/maybe", "false", False), ("/tier", "3", 3),
        ("/tier", "", None), ("/level", "1", 1), ("/day", "2026-12-24", "2026-12-24"), ("/day", "", None),
        ("/at", "2026-12-24T10:00:00", "2026-12-24T10:00:00Z"), ("/mail", "", None), ("/home", "", None),
        ("/notes", "", ""), ("/notes", "a\r\nb", "a\nb"), ("/tags", "a\r\n\r\n b ", ["a", "b"]), ("/tags", "", None),
        ("/address/city", "Oslo", "Oslo"), ("/address/geo", '{"lat": 2}', {"lat": 2}), ("/rows", "[]", []),
        ("/free", "", ""), ("/phone", "2", "2"),
    ],
)  # fmt: skip
def test_a_change_becomes_a_json_value(at: str, sent: str | None, wanted: Any) -> None:
    with timezone.override("UTC"):  # a moment is typed in the installation's own time
        form = form_for(DATA, {at: sent})
        assert form.is_valid(), form.errors
    assert form.wishes() == {at: wanted}


@pytest.mark.parametrize(
    ("at", "sent"),
    [
        ("/name", ""), ("/name", "much too long"), ("/size", "0"), ("/size", "9"), ("/size", "1.5"), ("/size", "x"),
        ("/size", ""), ("/rate", "1e999"), ("/rate", "nan"), ("/tier", '"bronze"'), ("/day", "yesterday"),
        ("/at", "soon"), ("/rows", "{"), ("/rows", '{"a": 1, "a": 2}'), ("/rows", "[" * 200),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error_at_its_field(at: str, sent: str) -> None:
    form = form_for(DATA, {at: sent})
    assert not form.is_valid() and list(form.errors) == [at]


@pytest.mark.parametrize(
    "odd",
    [
        {"size": "3"}, {"rate": "19.25"}, {"on": 0}, {"on": "yes"}, {"day": "1.3.2026"}, {"day": "2026-3-1"},
        {"at": "2026-03-01 08:30"}, {"at": "0001-01-01T00:00:00Z"}, {"at": "2026-03-01T08:30:00.123456+05:30"},
        {"mail": " a@b "}, {"tags": ["a\nb"]}, {"tags": [""]}, {"tags": "x"}, {"address": "Main street"},
        {"address": [1]}, {"name": "  spaces  "}, {"name": "a\nb"}, {"name": 5}, {"tier": "unknown"}, {"level": 9},
        {"notes": "\nleading"}, {"size": 2.0}, {"rate": 1e300}, {"free": {"deep": [1, {"x": None}]}}, {"rows": None},
    ],
)  # fmt: skip
def test_an_odd_value_of_the_remote_survives_an_untouched_form(odd: dict[str, Any]) -> None:
    form = form_for({**DATA, **odd}, {"/phone": "new"})
    assert form.is_valid(), form.errors
    assert form.wishes() == {"/phone": "new"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\r"), max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), JSON))
def test_whatever_the_remote_holds_an_untouched_form_keeps_it(data: dict[str, Any]) -> None:
    data.setdefault("on", True)
    form = form_for(data)
    if isinstance(data["on"], bool):
        assert form.is_valid(), form.errors
        assert form.wishes() == {}


@settings(max_examples=150, deadline=None)
@given(JSON, JSON)
def test_the_patch_brings_one_value_to_the_other(before: Any, after: Any) -> None:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: clean(inner) for name, inner in value.items() if inner is not None}
        return value

    before, after = clean(before), clean(after)
    current = {"x": before} if before is not None else {}
    result = merge_patch(current, patch_of({"/x": after}, current))
    assert result.get("x") == after


def test_dates_mean_the_viewers_zone() -> None:
    with timezone.override("Asia/Tokyo"):
        form = form_for(DATA)
        assert 'value="2026-03-01T17:30:00"' in str(form_for(DATA)["/at"])
        assert form.is_valid() and form.wishes() == {}
        changed = form_for(DATA, {"/at": "2026-03-01T18:30:00"})
        assert changed.is_valid() and changed.wishes() == {"/at": "2026-03-01T09:30:00Z"}


def test_without_a_schema_the_data_tells() -> None:
    spec = spec_of(schema=None, read_only=["/version"])
    data = {"id": "A", "name": "N", "n": 1, "ok": False, "tags": ["a"], "deep": {"x": 1}, "version": 3}
    found = {place.pointer: place.kind for place in fields_of(spec, data, creating=False)}
    assert found == {"/name": "text", "/n": "number", "/ok": "boolean", "/tags": "lines", "/deep": "json"}
    form = form_for(data, spec=spec)
    assert form.is_valid() and form.wishes() == {}


def test_the_id_is_asked_for_only_where_it_is_chosen_here() -> None:
    server = spec_of(schema={"properties": {"id": {"type": "string"}, "name": {"type": "string"}}})
    client = spec_of(schema=server.schema, create={"id": "client"})
    assert [place.pointer for place in fields_of(server, {}, creating=True)] == ["/name"]
    assert {place.pointer for place in fields_of(client, {}, creating=True)} == {"/id", "/name"}
    assert [place.pointer for place in fields_of(client, {}, creating=False)] == ["/name"]


def test_a_new_object_holds_what_was_filled_in_and_unticked_boxes() -> None:
    shown = fields_of(SPEC, {}, creating=True)
    form = RecordForm({"/name": "Bo", "/size": "2", "/address/city": "Oslo"}, shown=shown, before={})
    assert form.is_valid(), form.errors
    assert new_object(form.wishes()) == {"name": "Bo", "size": 2, "on": False, "address": {"city": "Oslo"}}


def test_only_real_clashes_count() -> None:
    seen = {"a": 1, "b": 1, "c": 1, "d": 1}
    current = {"a": 2, "b": 1, "c": 5, "d": 9}
    labels = {f"/{name}": place_at(None, f"/{name}", 1) for name in "abcd"}
    found = clashes({"/a": 3, "/b": 4, "/c": 5}, seen=seen, current=current, labels=labels)
    assert [(one.pointer, one.seen, one.current, one.wanted) for one in found] == [("/a", 1, 2, 3)]


def test_what_was_seen_travels_with_the_form() -> None:
    shown = fields_of(SPEC, DATA, creating=False)
    seen = read_seen(write_seen(DATA, shown))
    assert seen is not None and seen["name"] == "Ada" and seen["address"] == {"city": "Bergen", "geo": {"lat": 1}}
    assert read_seen('{"a": 1, "a": 2}') is None and read_seen("[]") is None
