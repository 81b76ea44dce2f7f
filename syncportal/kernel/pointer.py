"""JSON Pointer (RFC 6901): read, write and remove one place of a JSON document.

Owns: parsing, `get`, `put`, `remove`, `matches`. Guarantees: documents are never changed in place; `put` and `remove`
copy only the containers along the path and share the rest. A trailing `*` in the last token of a pattern matches every
name that starts with what stands before it (`/_*`, `/meta/@*`); patterns are understood by `remove` and `matches` only.
Does not: evaluate wildcards in the middle of a path, or dotted paths.
"""

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Any


class Missing(Enum):
    """The one value that says: nothing stands at this place (null is something)."""

    MISSING = "missing"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing.MISSING


class PointerError(ValueError):
    """The text is not a JSON Pointer: it must be empty or begin with a slash."""


@lru_cache(maxsize=4096)
def parse(pointer: str) -> tuple[str, ...]:
    """Split `pointer` into its unescaped tokens; raises PointerError."""
    if pointer == "":
        return ()
    if not pointer.startswith("/"):
        raise PointerError(f"{pointer!r} is not a JSON Pointer: it must be empty or begin with /")
    tokens = pointer[1:].split("/")
    for token in tokens:
        if "~" in token.replace("~0", "").replace("~1", ""):
            raise PointerError(f"{pointer!r} is not a JSON Pointer: write ~ as ~0 and / as ~1")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens)


def build(tokens: Iterable[str]) -> str:
    """Join tokens into a pointer, escaping them."""
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)


def _index(name: str, length: int) -> int | None:
    if name.isascii() and name.isdigit() and (name == "0" or name[0] != "0"):
        index = int(name) if len(name) < 10 else length
        return index if index < length else None
    return None


def get(document: Any, pointer: str, default: Any = MISSING) -> Any:
    """Return what stands at `pointer`, or `default`."""
    value = document
    for token in parse(pointer):
        if isinstance(value, dict):
            if token not in value:
                return default
            value = value[token]
        elif isinstance(value, list):
            index = _index(token, len(value))
            if index is None:
                return default
            value = value[index]
        else:
            return default
    return value


def put(document: Any, pointer: str, value: Any) -> Any:
    """Return `document` with `value` at `pointer`; MISSING removes.

    Parents that are absent, or neither object nor array, become objects; an index one past the end (or `-`) appends.
    """
    if value is MISSING:
        return remove(document, pointer)
    return _put(document, parse(pointer), value)


def _put(document: Any, tokens: tuple[str, ...], value: Any) -> Any:
    if not tokens:
        return value
    token, rest = tokens[0], tokens[1:]
    if isinstance(document, list):
        index = _index(token, len(document))
        if index is None and token not in ("-", str(len(document))):
            raise PointerError(f"no index {token!r} in an array of {len(document)}")
        copied = list(document)
        if index is None:
            copied.append(_put(None, rest, value))
        else:
            copied[index] = _put(copied[index], rest, value)
        return copied
    changed = dict(document) if isinstance(document, dict) else {}
    changed[token] = _put(changed.get(token), rest, value)
    return changed


def remove(document: Any, pattern: str) -> Any:
    """Return `document` without what `pattern` names; a trailing `*` removes every name with that start."""
    tokens = parse(pattern)
    return _remove(document, tokens) if tokens else MISSING


def _remove(document: Any, tokens: tuple[str, ...]) -> Any:
    token, rest = tokens[0], tokens[1:]
    if isinstance(document, dict):
        if not rest and token.endswith("*"):
            start = token[:-1]
            if any(name.startswith(start) for name in document):
                return {name: value for name, value in document.items() if not name.startswith(start)}
            return document
        if token not in document:
            return document
        if not rest:
            return {name: value for name, value in document.items() if name != token}
        inner = _remove(document[token], rest)
        return document if inner is document[token] else {**document, token: inner}
    if isinstance(document, list):
        index = _index(token, len(document))
        if index is None:
            return document
        copied = list(document)
        if rest:
            copied[index] = _remove(copied[index], rest)
        else:
            del copied[index]
        return copied
    return document


def matches(pattern: str, pointer: str) -> bool:
    """Say whether `pointer` names the place of `pattern` or a place below it (a trailing `*` as in `remove`)."""
    wanted, given = parse(pattern), parse(pointer)
    if len(given) < len(wanted):
        return False
    if not wanted:
        return True
    last = wanted[-1]
    if wanted[:-1] != given[: len(wanted) - 1]:
        return False
    name = given[len(wanted) - 1]
    return name.startswith(last[:-1]) if last.endswith("*") else name == last
