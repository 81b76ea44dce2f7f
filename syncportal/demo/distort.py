"""What a broken server makes of a good answer: wrong versions, wrong types, HTML, bombs, bad encodings.

Owns: the distortions of body, object and status; each takes an answer and returns another. Pure but for the store it
reads the previous object from. Does not: decide who is struck (`faults`) or touch the socket (`server`).
"""

import copy
import functools
import json
import time
import zlib
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from syncportal.demo.api import object_answer
from syncportal.demo.kinds import Fault
from syncportal.demo.messages import Answer, Call
from syncportal.demo.spec import Collection, Document
from syncportal.demo.store import Store

_MARK = "\ue000demo-mark\ue000"
_HTML = b"<!DOCTYPE html><html><head><title>Please sign in</title></head><body><h1>Please sign in</h1></body></html>"


def encode(document: Any) -> bytes:
    """Write a document as compact JSON in UTF-8."""
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def body_of(answer: Answer) -> bytes:
    """Return an answer's body as bytes."""
    if answer.raw is not None:
        return answer.raw
    return b"" if answer.shape == "none" else encode(answer.document)


def distorted(answer: Answer, fault: Fault, *, call: Call, spec: Collection | None, store: Store) -> Answer:
    """Return the answer as a body or object fault spoils it; refusals only meet body faults."""
    if fault.place == "body":
        return _BODY[fault.kind](answer, fault)
    if fault.place != "object" or spec is None or answer.shape not in ("object", "list"):
        return answer
    if fault.kind == "stale_version":
        return _as_before(answer, call, spec, store)
    answer.document = copy.deepcopy(answer.document)
    target = _object_in(answer, spec)
    if target is not None:
        _OBJECT[fault.kind](answer, target, fault, spec)
    return answer


def status_answer(fault: Fault) -> Answer:
    """Make the answer of a status or redirect fault."""
    if fault.kind == "redirect":
        return Answer(fault["status"], None, "error", {"Location": fault["url"]}, raw=b"")
    if fault.kind == "error_200":
        return Answer(200, {"error": {"code": "failed", "detail": "The request could not be carried out."}}, "error")
    status, headers = fault["status"], {}
    if fault["retry_after"]:
        headers["Retry-After"] = retry_after(fault["retry_after"])
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="demo"'
    if fault["body"] or fault["media_type"]:
        raw = fault["body"].encode()
        return Answer(status, None, "error", headers, fault["media_type"] or "application/json", raw=raw)
    document = {"error": {"code": f"demo_{status}", "detail": f"A demo fault answered {status}.", "fields": []}}
    return Answer(status, document, "error", headers)


def retry_after(text: str) -> str:
    """Spell a Retry-After: `date` or `date:N` is an HTTP date N seconds ahead (default 30), `past` one hour ago."""
    if text == "past":
        return formatdate(time.time() - 3600, usegmt=True)
    if text.startswith("date"):
        return formatdate(time.time() + float(text.partition(":")[2] or 30), usegmt=True)
    return text


def pretended(call: Call, body: Document, *, spec: Collection, store: Store, how: str) -> Answer:
    """Answer a write as if it had happened, showing what was asked for, what is there (current), or 204 (empty)."""
    held = store.held(spec.name, call.object_id)
    if call.phase == "delete" or how == "empty":
        return Answer(204)
    if held is None:
        document = {spec.id_fields[-1]: f"{spec.id_prefix}9999", **body}
        return Answer(
            201 if call.phase == "create" else 200, {spec.wrap: document} if spec.wrap else document, "object"
        )
    answer = object_answer(held, spec=spec)
    if how == "asked":
        sent = {name: value for name, value in body.items() if name not in spec.read_only}
        document = {**held.document, **sent}
        answer.document = {spec.wrap: document} if spec.wrap else document
    return answer


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _raw(answer: Answer, raw: bytes, *, status: int | None = None, media_type: str = "", **headers: str) -> Answer:
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(
        status or answer.status,
        None,
        "raw",
        {**answer.headers, **extra},
        media_type or answer.media_type,
        raw=raw,
        write=answer.write,
    )


def _huge(answer: Answer, fault: Fault) -> Answer:
    return _raw(answer, body_of(answer) + b" " * int(fault["mb"] * 1_000_000))


def _gzip_bomb(answer: Answer, fault: Fault) -> Answer:
    return _raw(answer, _bomb(body_of(answer), int(fault["mb"] * 1_000_000)), Content_Encoding="gzip")


@functools.lru_cache(maxsize=8)
def _bomb(body: bytes, padding: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(body)]
    blank = b" " * 1_000_000
    parts += [packer.compress(blank[: min(1_000_000, padding - done)]) for done in range(0, padding, 1_000_000)]
    return b"".join((*parts, packer.flush()))


def _bad_utf8(answer: Answer, fault: Fault) -> Answer:
    raw = body_of(answer)
    cut = raw.rfind(b'"')
    return _raw(answer, raw[:cut] + b"\xff\xfe\xc3" + raw[cut:] if cut >= 0 else b'"\xff\xfe"')


_BODY: dict[str, Callable[[Answer, Fault], Answer]] = {
    "no_content": lambda answer, fault: Answer(204, write=answer.write),
    "empty": lambda answer, fault: _raw(answer, b"", status=200),
    "html": lambda answer, fault: _raw(answer, _HTML, status=200, media_type="text/html; charset=utf-8"),
    "huge": _huge,
    "gzip_bomb": _gzip_bomb,
    "bad_utf8": _bad_utf8,
    "utf16": lambda answer, fault: _raw(answer, body_of(answer).decode().encode("utf-16")),
    "bom": lambda answer, fault: _raw(answer, b"\xef\xbb\xbf" + body_of(answer)),
}


# ── objects ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _object_in(answer: Answer, spec: Collection) -> Document | None:
    """Find the document in an answer: the object itself, or the first row of a list."""
    document = answer.document
    if answer.shape == "object":
        return document[spec.wrap] if spec.wrap else document
    rows = document if isinstance(document, list) else document[spec.items_key]
    if not rows:
        return None
    return rows[0][spec.row_key] if spec.row_key else rows[0]


def _as_before(answer: Answer, call: Call, spec: Collection, store: Store) -> Answer:
    if answer.shape != "object":
        return answer
    object_id = answer.write.object_id if answer.write else call.object_id
    held = store.held_before(spec.name, object_id)
    if held is None:
        return answer
    stale = object_answer(held, spec=spec)
    stale.write = answer.write
    return stale


def _wrong_version(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    how, before = fault["how"], answer.write.version_before if answer.write else None
    seen: Any = target.get(spec.version_field) if spec.version == "body" else answer.headers.get("ETag", "")
    if fault["value"]:
        wrong: Any = int(fault["value"]) if fault["value"].lstrip("-").isdigit() else fault["value"]
    elif how == "lower":
        wrong = seen - 5 if isinstance(seen, int) else "2000-01-01T00:00:00Z" if spec.version == "body" else '"0"'
    elif how == "equal":
        wrong = seen if before is None else before
    else:
        wrong = "not-a-version"
    if spec.version == "body":
        if how == "missing":
            target.pop(spec.version_field, None)
        else:
            target[spec.version_field] = wrong
    if answer.headers.get("ETag"):
        answer.headers = {**answer.headers, "ETag": wrong if str(wrong).startswith('"') else f'"{wrong}"'}
        if how == "missing":
            del answer.headers["ETag"]


def _wrong_id(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    target[spec.id_fields[-1]] = fault["id"]


def _bad_checksum(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    if spec.checksum_in == "header":
        answer.headers = {**answer.headers, "X-Checksum": "0" * 64}
    else:
        target["checksum"] = "0" * 64


def _invalid_data(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    required = [name for name in spec.schema.get("required", ()) if name in target]
    name = fault["field"] or (required[0] if required else _field(target, spec, (str, int, float)))
    if fault["how"] == "missing":
        target.pop(name, None)
    else:
        target[name] = {"unexpected": "object"}


def _spliced(answer: Answer, target: Document, name: str, text: bytes) -> None:
    """Put raw text where a field's value was; the target must be inside the answer's document."""
    target[name] = _MARK
    answer.raw = encode(answer.document).replace(encode(_MARK), text)


def _nan(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    _spliced(answer, target, fault["field"] or _field(target, spec, (int, float)), fault["value"].encode())


def _huge_integer(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    _spliced(answer, target, fault["field"] or _field(target, spec, (int, float)), b"9" * fault["digits"])


def _duplicate_keys(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    name = fault["field"] or _field(target, spec, (str,))
    value = encode(target.get(name))
    _spliced(answer, target, name, b'"first of two",' + encode(name) + b":" + value)


def _deep(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    depth = fault["depth"]
    _spliced(answer, target, fault["field"] or _field(target, spec, (str,)), b"[" * depth + b"]" * depth)


def _nul(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    _spliced(answer, target, fault["field"] or _field(target, spec, (str,)), rb'"before\u0000after"')


def _surrogate(answer: Answer, target: Document, fault: Fault, spec: Collection) -> None:
    _spliced(answer, target, fault["field"] or _field(target, spec, (str,)), rb'"before\ud800after"')


def _field(target: Document, spec: Collection, types: tuple[type, ...]) -> str:
    """Choose the first field of these types that is neither id nor server-owned; a new one where there is none."""
    for name, value in target.items():
        plain = name not in spec.id_fields and name not in spec.read_only
        if plain and isinstance(value, types) and not isinstance(value, bool):
            return name
    return "demo_fault"


_OBJECT: dict[str, Callable[[Answer, Document, Fault, Collection], None]] = {
    "wrong_version": _wrong_version,
    "wrong_id": _wrong_id,
    "bad_checksum": _bad_checksum,
    "invalid_data": _invalid_data,
    "nan": _nan,
    "huge_integer": _huge_integer,
    "duplicate_keys": _duplicate_keys,
    "deep": _deep,
    "nul": _nul,
    "surrogate": _surrogate,
}
