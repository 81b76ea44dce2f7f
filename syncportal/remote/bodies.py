"""Bodies of answers: read with limits before and after decompression, decoded, and quoted for people.

Pure but for reading from the raw answer it is given. Guarantees that neither a huge body nor a small one that inflates
takes more memory than its limits.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

from syncportal.remote.errors import excerpt

_CHUNK: Final = 65536
_TAGS = re.compile(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>")
_TELLING_FIELDS: Final = ("detail", "message", "error_description", "error", "title", "errors", "reason")


class BadBody(Exception):
    """The body cannot be taken: `code` is too_large or bad_encoding, `detail` says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def read_limited(raw: Any, *, max_wire_bytes: int) -> bytes:
    """Read a body as it came over the wire; raises BadBody when it is larger than the limit."""
    announced = getattr(raw, "length_remaining", None)
    if announced is not None and announced > max_wire_bytes:
        raise _too_large(max_wire_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        part = raw.read(_CHUNK, decode_content=False)
        if not part:
            break
        size += len(part)
        if size > max_wire_bytes:
            raise _too_large(max_wire_bytes)
        parts.append(part)
        if raw.length_remaining == 0:
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decompress(body: bytes, *, encoding: str, max_bytes: int) -> bytes:
    """Undo a Content-Encoding (identity, gzip, deflate); raises BadBody beyond `max_bytes` or when it is broken."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity") or not body:
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    if encoding in ("gzip", "x-gzip"):
        return _inflate(body, wbits=16 + zlib.MAX_WBITS, max_bytes=max_bytes)
    if encoding == "deflate":
        # Some servers send the raw stream without the zlib header that the name stands for.
        has_header = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] * 256 + body[1]) % 31 == 0
        return _inflate(body, wbits=zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS, max_bytes=max_bytes)
    raise BadBody("bad_encoding", f"the answer is encoded as {encoding[:40]!r}, which was not asked for")


def _inflate(body: bytes, *, wbits: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body:
        engine = zlib.decompressobj(wbits)
        try:
            part = engine.decompress(body, max_bytes - size + 1)
        except zlib.error:
            raise BadBody("bad_encoding", "the answer's compression is broken") from None
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not engine.eof:
            raise BadBody("bad_encoding", "the answer's compressed body is cut off")
        parts.append(part)
        # A gzip file may have several members; anything else behind the end is padding.
        body = engine.unused_data if engine.unused_data[:2] == b"\x1f\x8b" else b""
    return b"".join(parts)


def quote_refusal(parsed: Any, text: str | None) -> str:
    """Return the remote's own words about a refusal as one short plain line."""
    words = _words(parsed)
    if words:
        return excerpt(words)
    if text and text.lstrip()[:1] == "<":
        text = _TAGS.sub(" ", text)
    return excerpt(text)


def _words(parsed: Any) -> str:
    if isinstance(parsed, Mapping):
        for name in _TELLING_FIELDS:
            if isinstance(parsed.get(name), str) and parsed[name].strip():
                return parsed[name] + _particulars(parsed)
        for name in _TELLING_FIELDS:
            if isinstance(parsed.get(name), Mapping) and (words := _words(parsed[name])):
                return words
    return ""


def _particulars(parsed: Mapping[str, Any]) -> str:
    """Return what the refusal says field by field: it is what the person needs to mend the record."""
    nested = {name: value for name, value in parsed.items() if isinstance(value, (dict, list)) and value}
    return " " + json.dumps(nested, ensure_ascii=False) if nested else ""


def _too_large(limit: int) -> BadBody:
    return BadBody("too_large", f"the answer is larger than {limit:,} bytes")
