"""JSON that means the same thing everywhere it goes: strict reading, canonical writing.

Guarantees: what `loads` returns can be stored in PostgreSQL and SQLite and written back unchanged. Refused with a clear
message: more bytes or nesting than allowed, duplicate keys, NaN and infinities (also as 1e999), integers too long to
compare, NUL characters, lone surrogates, a byte order mark, UTF-16, broken UTF-8. Does not check any schema.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

MAX_BYTES: Final = 32 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_INTEGER_DIGITS: Final = 38

_ESCAPES_WORTH_A_LOOK = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_NUMBERS_WORTH_A_LOOK = re.compile(r"[0-9]{39}|[0-9][eE]\+?[0-9]{3}")


class StrictJsonError(ValueError):
    """The text is not JSON that can be kept safely; `code` is stable, `message` is for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def loads(text: bytes | bytearray | str, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Parse one JSON document strictly.

    Raises StrictJsonError with one of the codes too_large, encoding, bom, empty, syntax, duplicate_key, not_a_number,
    huge_integer, too_deep, nul, surrogate.
    """
    decoded = _decode(text, max_bytes=max_bytes)
    # A custom number hook costs a Python call a number, so it is only installed where a number may be refused.
    decoder = _CAREFUL if _NUMBERS_WORTH_A_LOOK.search(decoded) else _QUICK
    try:
        value = decoder.decode(decoded)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except json.JSONDecodeError as error:
        raise StrictJsonError("syntax", f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    if decoded.count("[") + decoded.count("{") > max_depth:
        _check_depth(value, max_depth=max_depth)
    if "\\u" in decoded and _ESCAPES_WORTH_A_LOOK.search(decoded):
        _check_strings(value)
    return value


def dumps(value: Any) -> bytes:
    """Write compact UTF-8 JSON in the order given; raises StrictJsonError for what JSON cannot say."""
    return _encode(_COMPACT, value).encode()


def dumps_canonical(value: Any) -> str:
    """Write the one canonical text of a value: keys sorted, no spaces, no escapes that are not needed."""
    return _encode(_CANONICAL, value)


def _decode(text: bytes | bytearray | str, *, max_bytes: int) -> str:
    if isinstance(text, str):
        # Four bytes a character at most, so only long texts need the exact count.
        if len(text) * 4 > max_bytes and len(text.encode("utf-8", "surrogatepass")) > max_bytes:
            raise _too_large(max_bytes)
        decoded = text
        if not decoded.isascii() and not _is_storable(decoded):
            raise _lone_surrogate()
    else:
        if len(text) > max_bytes:
            raise _too_large(max_bytes)
        head = bytes(text[:4])
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(head) > 1 and b"\x00" in head):
            raise StrictJsonError("encoding", "the text is UTF-16 or UTF-32; JSON must be UTF-8")
        try:
            decoded = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise StrictJsonError("encoding", f"the text is not UTF-8: bad byte at position {error.start}") from None
    if decoded.startswith("\ufeff"):
        raise StrictJsonError("bom", "the text starts with a byte order mark")
    if not decoded or decoded.isspace():
        raise StrictJsonError("empty", "the text is empty")
    return decoded


def _encode(encoder: json.JSONEncoder, value: Any) -> str:
    try:
        text = encoder.encode(value)
    except RecursionError:
        raise StrictJsonError("too_deep", "the value is nested too deeply to be written as JSON") from None
    except (TypeError, ValueError) as error:
        raise StrictJsonError("unwritable", f"the value cannot be written as JSON: {error}") from None
    if not text.isascii() and not _is_storable(text):
        raise _lone_surrogate()
    return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise StrictJsonError("duplicate_key", f"the key {_shown(key)} appears twice in one object")
            seen.add(key)
    return found


def _constant(name: str) -> NoReturn:
    raise StrictJsonError("not_a_number", f"{name} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise StrictJsonError("not_a_number", f"the number {_shown(text)} is too large")
    return value


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise StrictJsonError("huge_integer", f"an integer has more than {MAX_INTEGER_DIGITS} digits")
    return int(text)


def _check_depth(value: Any, *, max_depth: int) -> None:
    level = [value]
    depth = 0
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(v for v in item.values() if isinstance(v, (dict, list)))
            elif isinstance(item, list):
                inner.extend(v for v in item if isinstance(v, (dict, list)))
        depth += 1
        if depth > max_depth:
            raise _too_deep(max_depth)
        level = inner


def _check_strings(value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if "\x00" in item:
                raise StrictJsonError("nul", "a text holds a NUL character, which cannot be stored")
            if not _is_storable(item):
                raise _lone_surrogate()
        elif isinstance(item, dict):
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _is_storable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _too_large(max_bytes: int) -> StrictJsonError:
    return StrictJsonError("too_large", f"the text is larger than {max_bytes:,} bytes")


def _too_deep(max_depth: int) -> StrictJsonError:
    return StrictJsonError("too_deep", f"the value is nested more than {max_depth} levels deep")


def _lone_surrogate() -> StrictJsonError:
    return StrictJsonError("surrogate", "a text holds half of a surrogate pair, which is no character")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:60] + "…")


_QUICK: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_CAREFUL: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
)
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_CANONICAL: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
