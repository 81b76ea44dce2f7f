"""JSON Schemas (2020-12) of resources: checked when configured, compiled for use.

Owns: `problems_of` and `compiled`. Guarantees: a schema never makes a network call, whatever it refers to. Pure.
Does not: run the validation pipeline; it only hands out the validator.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.jsonschema import SchemaRegistry

from syncportal.kernel import pointer as pointers

_NO_NETWORK: SchemaRegistry = Registry()
_REFERENCES = ("$ref", "$dynamicRef")


def compiled(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Return a validator for `schema` that checks formats and follows local references only."""
    return Draft202012Validator(dict(schema), registry=_NO_NETWORK, format_checker=Draft202012Validator.FORMAT_CHECKER)


def problems_of(schema: Any) -> list[tuple[str, str]]:
    """Return what is wrong with a schema as (pointer inside it, message) pairs, empty when it can be used."""
    if not isinstance(schema, dict):
        return [("", "a JSON Schema must be an object")]
    found: list[tuple[str, str]] = []
    checker = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    try:
        for error in checker.iter_errors(schema):
            found.append((pointers.build(str(part) for part in error.absolute_path), error.message[:300]))
    except (SchemaError, RecursionError) as problem:
        return [("", f"the schema cannot be read: {problem.__class__.__name__}")]
    for at, reference in _references(schema, ""):
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            found.append((at, "only references inside this schema are followed: begin them with #/"))
        elif pointers.get(schema, reference[1:], None) is None:
            found.append((at, f"{reference} points nowhere in this schema"))
    return found


def _references(schema: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        for name, inner in schema.items():
            here = at + pointers.build((str(name),))
            if name in _REFERENCES and not at.endswith("/properties"):
                yield here, inner
            elif name not in ("const", "enum", "default", "examples"):
                yield from _references(inner, here)
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from _references(inner, f"{at}/{index}")
