"""One place of a JSON Schema as one form field, and back.

Owns: which field a person sees for which schema, and how its text becomes a JSON value. Guarantees: a value that its
field cannot show without loss is shown as JSON instead, so that saving an untouched field never changes it. Pure
mapping: no database, no request. Does not: validate as a whole; the resource's schema does when the edit is saved.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.forms.utils import from_current_timezone, to_current_timezone
from django.utils.dateparse import parse_date, parse_datetime

from syncportal.kernel import pointer, strict_json
from syncportal.sync.json_inputs import JsonField, LinesField, NumberField, TextField

LONG_TEXT = 160
_MAX_REFERENCES = 8
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[-+]\d\d:\d\d)\Z")
_KINDS = {"integer": "integer", "number": "number", "boolean": "boolean", "object": "json", "array": "json"}
_FORMATS = {"date": "date", "date-time": "date-time", "email": "email", "uri": "uri", "uri-reference": "uri"}


@dataclass(frozen=True, slots=True)
class Place:
    """One place of the object that a person may fill in. `group` is the label of the object it lies in, "" at the top.

    `kind`: text, long, integer, number, boolean, choice, date, date-time, email, uri, lines or json.
    """

    pointer: str
    label: str
    help_text: str
    kind: str
    schema: Mapping[str, Any]
    required: bool = False
    nullable: bool = False
    group: str = ""

    def fitting(self, value: Any) -> "Place":
        """Return the place as a kind that can show `value` without loss."""
        if value is None or _fits(self.kind, value, self.schema):
            if self.kind == "text" and isinstance(value, str) and (len(value) > LONG_TEXT or _breaks(value)):
                return replace(self, kind="long")
            return self
        if isinstance(value, str):
            return replace(self, kind="long" if _breaks(value) or len(value) > LONG_TEXT else "text")
        return replace(self, kind="json")

    def field(self) -> forms.Field:
        """Make the form field; nothing is required here, so that untouched places never stand in the way."""
        made = _FIELDS[self.kind](self)
        made.required = False
        made.label = self.label
        made.help_text = self.help_text
        if self.required:
            made.widget.attrs["aria-required"] = "true"
        return made

    def shown(self, value: Any) -> Any:
        """Return `value` as the field's initial value."""
        if value is None:
            return None
        match self.kind:
            case "choice":
                return strict_json.dumps_canonical(value)
            case "boolean":
                return value if self.required else ("true" if value else "false")
            case "date-time":
                moment = parse_datetime(str(value))
                return moment.replace(microsecond=0) if moment else None
            case "lines":
                return "\n".join(value)
            case "json":
                return json.dumps(value, ensure_ascii=False, indent=2)
        return value

    def json_value(self, cleaned: Any) -> Any:
        """Return the JSON value of a field's cleaned value; None where the place shall be empty."""
        if cleaned is None:
            return None
        match self.kind:
            case "text" | "long" | "email" | "uri":
                return cleaned if cleaned != "" or self._keeps_empty() else None
            case "choice":
                return strict_json.loads(cleaned) if cleaned else None
            case "boolean":
                return cleaned if isinstance(cleaned, bool) else {"true": True, "false": False}.get(cleaned)
            case "date":
                return cleaned.isoformat()
            case "date-time":
                return cleaned.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cleaned

    @property
    def must_be_filled(self) -> bool:
        """Tell whether the place may not be emptied; a required text without a least length may be ""."""
        if not self.required or self.nullable or self.kind == "lines":
            return False
        return self.kind not in ("text", "long") or bool(self.schema.get("minLength"))

    def _keeps_empty(self) -> bool:
        """Tell whether an emptied text means "" rather than nothing."""
        if self.required and not self.nullable:
            return True
        plain = not {"format", "pattern", "enum"} & self.schema.keys() and not self.schema.get("minLength")
        return not self.nullable and plain


def places(schema: Mapping[str, Any] | None, names: list[str], data: Mapping[str, Any]) -> Iterator[Place]:
    """Yield the places of the top-level `names`; an object's own fields one level deep. Without a schema, `data` tells.

    Each fits the value that stands in `data` now.
    """
    root = schema or {}
    properties = root.get("properties") or {}
    required = root.get("required") or []
    for name in names:
        rule = resolved(properties.get(name, _guess(data.get(name))), root=root)
        at = pointer.build((name,))
        inner = rule.get("properties")
        value = data.get(name)
        if isinstance(inner, Mapping) and inner and (value is None or isinstance(value, Mapping)):
            for child, child_rule in inner.items():
                found = resolved(child_rule, root=root)
                needed = name in required and child in (rule.get("required") or [])
                spot = _place(pointer.build((name, child)), child, found, needed, group=_label(name, rule))
                yield spot.fitting((value or {}).get(child))
        else:
            yield _place(at, name, rule, name in required).fitting(value)


def place_at(schema: Mapping[str, Any] | None, at: str, value: Any) -> Place:
    """Return the place at any pointer, fit to show `value`."""
    root = schema or {}
    rule: Mapping[str, Any] = resolved(root, root=root)
    tokens = pointer.parse(at)
    required = False
    for token in tokens:
        required = token in (rule.get("required") or [])
        rule = resolved((rule.get("properties") or {}).get(token, {}), root=root)
    return _place(at, tokens[-1] if tokens else "", rule or _guess(value), required).fitting(value)


def resolved(rule: Any, *, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow local references, fold allOf, and take the null out of an anyOf or oneOf of one type and null."""
    if not isinstance(rule, Mapping):
        return {}
    for _ in range(_MAX_REFERENCES):
        reference = rule.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target = pointer.get(root, reference[1:], None)
        rest = {key: value for key, value in rule.items() if key != "$ref"}
        rule = {**(target if isinstance(target, Mapping) else {}), **rest}
    for part in rule.get("allOf") or ():
        rule = {**resolved(part, root=root), **rule}
    for key in ("anyOf", "oneOf"):
        branches = [branch for branch in rule.get(key) or () if isinstance(branch, Mapping)]
        others = [branch for branch in branches if branch.get("type") != "null"]
        if len(others) == 1 and len(branches) == 2:
            rest = {name: value for name, value in rule.items() if name != key}
            return {**resolved(others[0], root=root), **rest, "nullable": True}
    return rule


def _place(at: str, name: str, rule: Mapping[str, Any], required: bool, *, group: str = "") -> Place:
    kinds = rule.get("type")
    types = [kinds] if isinstance(kinds, str) else [kind for kind in kinds or () if isinstance(kind, str)]
    return Place(
        pointer=at,
        label=_label(name, rule),
        help_text=str(rule.get("description") or ""),
        kind=_kind(rule, [kind for kind in types if kind != "null"]),
        schema=rule,
        required=required,
        nullable="null" in types or bool(rule.get("nullable")),
        group=group,
    )


def _label(name: str, rule: Mapping[str, Any]) -> str:
    title = rule.get("title")
    if isinstance(title, str) and title.strip():
        return title
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").strip()
    return (words[:1].upper() + words[1:]) or name


def _kind(rule: Mapping[str, Any], types: list[str]) -> str:
    if _options(rule):
        return "choice"
    if len(types) != 1:
        return "text" if not types and not rule.get("properties") else "json"
    if types[0] == "array":
        items = rule.get("items")
        return "lines" if isinstance(items, Mapping) and items.get("type") == "string" else "json"
    if types[0] != "string":
        return _KINDS.get(types[0], "json")
    if rule.get("format") in _FORMATS:
        return _FORMATS[str(rule["format"])]
    longest = rule.get("maxLength")
    return "long" if isinstance(longest, int) and longest > LONG_TEXT * 2 else "text"


def _guess(value: Any) -> Mapping[str, Any]:
    """Return the schema that a value suggests where none is given."""
    match value:
        case bool():
            return {"type": ["boolean", "null"]}
        case int() | float():
            return {"type": ["number", "null"]}
        case str():
            return {"type": "string"}
        case list() if value and all(isinstance(item, str) for item in value):
            return {"type": ["array", "null"], "items": {"type": "string"}}
        case dict() | list():
            return {"type": ["object", "array", "null"]}
    return {"type": ["string", "null"]}


def _options(rule: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the choices of an enum, or of a oneOf of constants, as (canonical JSON, label); none for other schemas."""
    listed = rule.get("enum")
    if isinstance(listed, list):
        return [(strict_json.dumps_canonical(item), _words(item)) for item in listed if item is not None]
    branches = rule.get("oneOf")
    if isinstance(branches, list) and branches and all(isinstance(b, Mapping) and "const" in b for b in branches):
        return [
            (strict_json.dumps_canonical(b["const"]), str(b.get("title") or _words(b["const"])))
            for b in branches
            if b["const"] is not None
        ]
    return []


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return value if isinstance(value, str) else strict_json.dumps_canonical(value)


def _breaks(text: str) -> bool:
    return "\n" in text or "\r" in text


def _fits(kind: str, value: Any, schema: Mapping[str, Any]) -> bool:
    """Tell whether a field of `kind` shows `value` and gives the same value back."""
    match kind:
        case "text" | "long":
            return isinstance(value, str)
        case "email" | "uri":
            return isinstance(value, str) and value == value.strip() and not _breaks(value)
        case "integer" | "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        case "boolean":
            return isinstance(value, bool)
        case "choice":
            return True
        case "date":
            return isinstance(value, str) and len(value) == 10 and _parsed(parse_date, value) is not None
        case "date-time":
            return isinstance(value, str) and _shows_moment(value)
        case "lines":
            return isinstance(value, list) and all(isinstance(x, str) and x.strip() == x != "" for x in value)
    return True


def _parsed(parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        return None


def _shows_moment(text: str) -> bool:
    """Tell whether a moment can be shown and read back in the viewer's zone (not in the hour a clock repeats)."""
    moment = _parsed(parse_datetime, text) if _RFC3339.match(text) else None
    if not isinstance(moment, datetime) or moment.tzinfo is None or moment.year < 1000:
        return False
    try:
        return from_current_timezone(to_current_timezone(moment)) == moment
    except (ValidationError, OverflowError):
        return False


def _text(place: Place) -> forms.Field:
    attrs: dict[str, Any] = {"autocomplete": "off"}
    widgets = {"long": forms.Textarea, "email": forms.EmailInput, "uri": forms.URLInput}
    widget = widgets.get(place.kind, forms.TextInput)
    if place.kind == "long":
        attrs["rows"] = 4
    limits = {name: place.schema.get(name) for name in ("maxLength", "minLength")}
    sizes = {name: size for name, size in limits.items() if isinstance(size, int) and not isinstance(size, bool)}
    return TextField(
        widget=widget(attrs=attrs), max_length=sizes.get("maxLength"), min_length=sizes.get("minLength") or None
    )


def _number(place: Place) -> forms.Field:
    whole = place.kind == "integer"
    step = place.schema.get("multipleOf") or (1 if whole else "any")
    attrs: dict[str, Any] = {"step": step, "inputmode": "numeric" if whole else "decimal"}
    validators: list[Any] = []
    least, most = place.schema.get("minimum"), place.schema.get("maximum")
    if isinstance(least, (int, float)):
        attrs["min"] = least
        validators.append(MinValueValidator(least))
    if isinstance(most, (int, float)):
        attrs["max"] = most
        validators.append(MaxValueValidator(most))
    return NumberField(whole=whole, widget=forms.NumberInput(attrs=attrs), validators=validators)


def _boolean(place: Place) -> forms.Field:
    if place.required and not place.nullable:
        return forms.BooleanField()
    return forms.ChoiceField(choices=[("", "– not set –"), ("true", "Yes"), ("false", "No")])


def _choice(place: Place) -> forms.Field:
    return forms.ChoiceField(choices=[("", "– choose –" if place.required else "– not set –"), *_options(place.schema)])


def _date(place: Place) -> forms.Field:
    return forms.DateField(
        input_formats=["%Y-%m-%d"], widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )


def _moment(place: Place) -> forms.Field:
    widget = forms.DateTimeInput(format="%Y-%m-%dT%H:%M:%S", attrs={"type": "datetime-local", "step": 1})
    return forms.DateTimeField(widget=widget)


def _area(kind: type[TextField], rows: int, css: str) -> Any:
    return lambda place: kind(widget=forms.Textarea(attrs={"rows": rows, "class": css, "spellcheck": "false"}))


_FIELDS: dict[str, Any] = {
    "text": _text, "long": _text, "email": _text, "uri": _text, "integer": _number, "number": _number,
    "boolean": _boolean, "choice": _choice, "date": _date, "date-time": _moment,
    "lines": _area(LinesField, 4, ""), "json": _area(JsonField, 6, "mono"),
}  # fmt: skip
