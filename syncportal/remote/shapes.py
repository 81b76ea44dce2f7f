"""What a JSON Schema says about the type of the value at a place, as far as comparing values needs it.

Owns: `Shape` and `shape_of`. Guarantees: only local references are followed, and not in circles; an unknown place has
the empty shape. Pure. Does not: validate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from syncportal.kernel import pointer as pointers

_COMBINERS = ("allOf", "anyOf", "oneOf")


@dataclass(frozen=True, slots=True)
class Shape:
    """The type ("" when unknown or mixed), the format, and the schemas they came from, for looking deeper."""

    type: str = ""
    format: str = ""
    sources: tuple[Mapping[str, Any], ...] = ()
    root: Mapping[str, Any] | None = None

    def child(self, name: str) -> "Shape":
        """Return the shape of the member `name` of this object or array."""
        if not self.sources:
            return NOTHING
        found: list[Mapping[str, Any]] = []
        for source in self.sources:
            properties = source.get("properties")
            if isinstance(properties, Mapping) and isinstance(properties.get(name), Mapping):
                found.append(properties[name])
            elif isinstance(source.get("items"), Mapping) and (name.isdigit() or name == "*"):
                found.append(source["items"])
            elif isinstance(source.get("additionalProperties"), Mapping):
                found.append(source["additionalProperties"])
        return _shape(found, self.root or {})


NOTHING = Shape()


def shape_of(schema: Mapping[str, Any], pointer: str) -> Shape:
    """Return what `schema` says about the place `pointer` of a document."""
    shape = _shape([schema], schema)
    for name in pointers.parse(pointer):
        shape = shape.child(name)
    return shape


def _shape(schemas: list[Mapping[str, Any]], root: Mapping[str, Any]) -> Shape:
    sources = _expand(schemas, root)
    if not sources:
        return NOTHING
    types: set[str] = set()
    formats: set[str] = set()
    for source in sources:
        given = source.get("type")
        types.update([given] if isinstance(given, str) else (t for t in given or () if isinstance(t, str)))
        if isinstance(source.get("format"), str):
            formats.add(source["format"])
    types.discard("null")
    if types == {"integer", "number"}:
        types = {"number"}
    return Shape(
        type=types.pop() if len(types) == 1 else "",
        format=formats.pop() if len(formats) == 1 else "",
        sources=tuple(sources),
        root=root,
    )


def _expand(schemas: list[Mapping[str, Any]], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    waiting, done, seen = list(schemas), [], set()
    while waiting:
        schema = waiting.pop()
        if not isinstance(schema, Mapping) or id(schema) in seen:
            continue
        seen.add(id(schema))
        done.append(schema)
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            target = pointers.get(root, reference[1:], None)
            if isinstance(target, Mapping):
                waiting.append(target)
        for word in _COMBINERS:
            options = schema.get(word)
            if isinstance(options, list):
                waiting.extend(option for option in options if isinstance(option, Mapping))
    return done
