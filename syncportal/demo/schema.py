"""A deliberately small check of writes: required, type, enum, minimum, maximum, minLength.

Owns: the server-side verdict on a document. Does not: implement JSON Schema; the product does that with a library.
"""

from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}


def problems(document: Mapping[str, Any], *, schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List (field, what is wrong) of a document; empty when it is acceptable."""
    found = [(name, "is required") for name in schema.get("required", ()) if name not in document]
    for name, rule in schema.get("properties", {}).items():
        if name in document:
            wrong = _wrong(document[name], rule)
            if wrong:
                found.append((name, wrong))
    return found


def coerced(text: str, *, rule: Mapping[str, Any]) -> Any:
    """Read a form field's text by the type its rule names; text that does not fit stays text."""
    types = _names(rule)
    if "boolean" in types and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "null" in types and text == "":
        return None
    for name, read in (("integer", int), ("number", float)):
        if name in types:
            try:
                return read(text)
            except ValueError:
                return text
    return text


def _names(rule: Mapping[str, Any]) -> tuple[str, ...]:
    named = rule.get("type", ())
    return (named,) if isinstance(named, str) else tuple(named)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool) and name in ("integer", "number"):
        return False
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, (object,)))


def _wrong(value: Any, rule: Mapping[str, Any]) -> str:
    names = _names(rule)
    if names and not any(_is(value, name) for name in names):
        return f"must be of type {' or '.join(names)}"
    if value is None:
        return ""
    if "enum" in rule and value not in rule["enum"]:
        return f"must be one of {', '.join(map(str, rule['enum']))}"
    if isinstance(value, int | float):
        if "minimum" in rule and value < rule["minimum"]:
            return f"must be at least {rule['minimum']}"
        if "maximum" in rule and value > rule["maximum"]:
            return f"must be at most {rule['maximum']}"
    if isinstance(value, str) and len(value) < rule.get("minLength", 0):
        return f"must have at least {rule['minLength']} characters"
    return ""
