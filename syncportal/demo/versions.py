"""How the demo master writes an object: versions, ETags, checksums, merges. Pure.

Owns: the stored form of one object. Does not: decide whether a write is allowed (`store`, `preconditions`).
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from syncportal.demo.spec import Collection, Document


@dataclass(frozen=True, slots=True)
class Held:
    """One stored object: the whole document, its version (None when it has none), its ETag, its tombstone mark."""

    document: Document
    number: int
    version: Any
    etag: str
    changed_at: dt.datetime
    buried: bool = False


def checksum_of(document: Mapping[str, Any], *, fields: Sequence[str]) -> str:
    """Return the SHA-256 hex of the listed fields as canonical JSON (sorted keys, no spaces, UTF-8; absent = null)."""
    listed = {name: document.get(name) for name in fields}
    text = json.dumps(listed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def join_id(parts: Sequence[Any]) -> str:
    """Join the parts of an id with `|`; in a composite id a `|` inside a part is percent-encoded."""
    if len(parts) == 1:
        return str(parts[0])
    return "|".join(str(part).replace("|", "%7C") for part in parts)


def rendered(
    spec: Collection, document: Mapping[str, Any], *, number: int, at: dt.datetime, buried: bool = False
) -> Held:
    """Make the stored form of a document: server-owned fields, version, checksum and ETag."""
    shown = {name: document[name] for name in spec.id_fields}
    shown.update((name, value) for name, value in document.items() if name not in spec.read_only)
    shown["updated_at"] = at.astimezone(dt.UTC).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ" if at.microsecond else "%Y-%m-%dT%H:%M:%SZ"
    )
    version = version_of(spec, number, at)
    if spec.version == "body":
        shown[spec.version_field] = version
    if spec.checksum_fields and spec.checksum_in == "body":
        shown["checksum"] = checksum_of(shown, fields=spec.checksum_fields)
    if spec.version == "etag":
        version = etag_of(spec, shown, version)
    return Held(shown, number, None if spec.version == "none" else version, etag_of(spec, shown, version), at, buried)


def version_of(spec: Collection, number: int, at: dt.datetime) -> Any:
    """Return the version that write number `number` gets."""
    if spec.version_style == "timestamp":
        return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if spec.version_style == "second":
        return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if spec.version_style == "opaque":
        return hashlib.sha256(f"{spec.name}:{number}".encode()).hexdigest()[:12]
    return number


def etag_of(spec: Collection, document: Mapping[str, Any], version: Any) -> str:
    """Return the ETag header's value; under `digest` it says nothing about the version (a trap of real servers)."""
    if spec.version == "none":
        return ""
    if spec.version == "etag" and isinstance(version, str) and version.startswith('"'):
        return version
    if spec.etag == "digest":
        text = json.dumps(document, sort_keys=True, default=str)
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'
    return f'"{quote(str(version), safe=":.-_")}"'


def content_of(spec: Collection, document: Mapping[str, Any]) -> Document:
    """Return a document without the fields that the server owns."""
    return {name: value for name, value in document.items() if name not in spec.read_only}


def merged(current: Mapping[str, Any], changes: Mapping[str, Any], *, null_removes: bool) -> Document:
    """Merge as RFC 7396 does; without `null_removes` null is stored as a value."""
    result = dict(current)
    for name, value in changes.items():
        if value is None and null_removes:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value, null_removes=null_removes)
        else:
            result[name] = value
    return result


def token_of(held: Held, *, spec: Collection) -> str:
    """Return what If-Match must carry: the ETag, or the version in quotes where the ETag is only a digest."""
    if spec.version == "body" and spec.etag == "digest":
        return f'"{held.version}"'
    return held.etag


def shown(held: Held, *, spec: Collection) -> Document:
    """Return the document as answers spell it; `loose` spells values differently than they were sent."""
    if spec.spelling == "plain":
        return held.document
    return {name: _respelt(value) for name, value in held.document.items()}


def _respelt(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    if value == "":
        return None
    if isinstance(value, str) and len(value) == 20 and value[10] == "T" and value.endswith("Z"):
        return value[:-1] + "+00:00"
    return value
