"""The form of one record, generated from its resource's JSON Schema; and what a stale form means.

Owns: `RecordForm`, the merge patch that a filled-in form asks for, and finding real clashes. Guarantees: only places
that a person changed are part of the edit; others may have moved meanwhile. Pure: no database.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from syncportal.kernel import pointer, strict_json
from syncportal.kernel.strict_json import StrictJsonError
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.local import merge_patch
from syncportal.sync.schema_fields import Place, places
from syncportal.sync.validation import Problem

Json = dict[str, Any]


def fields_of(spec: ResourceSpec, data: Mapping[str, Any], *, creating: bool) -> list[Place]:
    """Return the places a person may fill in: those of the schema, or of the data when there is no schema."""
    if spec.schema and spec.schema.get("properties"):
        editable = set(spec.editable_fields())
        ids = {pointer.parse(at)[0] for at in spec.id_pointers if at} if _chooses_id(spec, creating) else set()
        names = [name for name in spec.schema["properties"] if name in editable | ids]
        names += sorted(ids - set(names))
    else:
        names = [name for name in data if not spec.is_read_only(pointer.build((name,)))]
        ids = {pointer.parse(at)[0] for at in spec.id_pointers if at}
        names = [name for name in names if name not in ids]
        if _chooses_id(spec, creating):
            names = [*sorted(ids), *names]
    return list(places(spec.schema, names, data))


def _chooses_id(spec: ResourceSpec, creating: bool) -> bool:
    return creating and spec.create_id == "client"


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that belong to one nested object; the top level has no label."""

    label: str
    fields: tuple[forms.BoundField, ...]


class RecordForm(forms.Form):
    """The fields of one record. `before` is the content the person looked at when filling it in."""

    def __init__(self, data: Any = None, *, shown: Sequence[Place], before: Json) -> None:
        super().__init__(data, label_suffix="")
        self.places = {place.pointer: place for place in shown}
        self.before = before
        for number, place in enumerate(shown):
            made = place.field()
            made.widget.attrs["id"] = f"field-{number}"
            self.fields[place.pointer] = made
            self.initial[place.pointer] = place.shown(pointer.get(before, place.pointer, None))

    def _clean_fields(self) -> None:
        """Clean what was changed and nothing else: an untouched value may be as odd as the remote made it."""
        unset = [
            at
            for at, place in self.places.items()
            if place.kind == "boolean" and place.required and pointer.get(self.before, at, None) is None
        ]
        for name in [*self.changed_data, *(at for at in unset if at not in self.changed_data)]:
            try:
                cleaned = self.fields[name].clean(self[name].data)
                if cleaned in (None, "") and self.places[name].must_be_filled:
                    raise ValidationError("This field is required.")
                self.cleaned_data[name] = cleaned
            except ValidationError as problem:
                self.add_error(name, problem)

    def wishes(self) -> dict[str, Any]:
        """Return the changed places with their wanted values, None for those to be emptied."""
        found = {}
        for at, cleaned in self.cleaned_data.items():
            place = self.places[at]
            found[at] = self._emptied(place) if cleaned is None else place.json_value(cleaned)
        return {at: value for at, value in found.items() if value != pointer.get(self.before, at, None)}

    @staticmethod
    def _emptied(place: Place) -> Any:
        return [] if place.kind == "lines" and place.required and not place.nullable else None

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Show what the schema has against the values, each at its field."""
        for problem in problems:
            at = next((name for name in self.places if _covers(name, problem.pointer)), None)
            detail = problem.detail[:1].upper() + problem.detail[1:]
            self.add_error(at, detail if at else f"{problem.pointer or 'The record'}: {detail}")

    def groups(self) -> list[Group]:
        """Return the bound fields in order, nested objects together."""
        found: dict[str, list[forms.BoundField]] = {"": []}
        for place in self.places.values():
            found.setdefault(place.group, []).append(self[place.pointer])
        return [Group(label, tuple(fields)) for label, fields in found.items() if fields]


def _covers(name: str, at: str) -> bool:
    return at == name or at.startswith(name + "/")


def patch_of(wishes: Mapping[str, Any], current: Json) -> Json:
    """Return the JSON Merge Patch that brings `current` to the wishes."""
    patch: Json = {}
    for at, value in wishes.items():
        before = pointer.get(current, at, None)
        if value is None and before is None:
            continue
        change = _difference(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
        patch = pointer.put(patch, at, change)
    return patch


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
    """Return the merge patch between two objects: what is gone is said with null."""
    patch: Json = {name: None for name in before if name not in after}
    for name, value in after.items():
        if name in before and before[name] == value:
            continue
        old = before.get(name)
        patch[name] = _difference(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return patch


def new_object(wishes: Mapping[str, Any]) -> Json:
    """Return the content of a new object from a filled-in form."""
    built = merge_patch({}, patch_of(wishes, {}))
    return built if isinstance(built, dict) else {}


@dataclass(frozen=True, slots=True)
class Clash:
    """A place that the person and somebody else both changed, to different values."""

    pointer: str
    label: str
    seen: Any
    current: Any
    wanted: Any


def clashes(wishes: Mapping[str, Any], *, seen: Json, current: Json, labels: Mapping[str, Place]) -> list[Clash]:
    """Return the real clashes of a stale form: places changed on both sides, differently."""
    found = []
    for at, wanted in wishes.items():
        before, now = pointer.get(seen, at, None), pointer.get(current, at, None)
        if now != before and now != wanted:
            found.append(Clash(at, labels[at].label, before, now, wanted))
    return found


def read_seen(text: str) -> Json | None:
    """Read the hidden field that says what the person looked at; None when it is not usable."""
    try:
        seen = strict_json.loads(text, max_bytes=2 * 1024 * 1024)
    except StrictJsonError:
        return None
    return seen if isinstance(seen, dict) else None


def write_seen(data: Json, shown: Sequence[Place]) -> str:
    """Write the values of the shown places for the hidden field."""
    seen: Json = {}
    for place in shown:
        value = pointer.get(data, place.pointer)
        if value is not pointer.MISSING:
            seen = pointer.put(seen, place.pointer, value)
    return strict_json.dumps(seen).decode()
