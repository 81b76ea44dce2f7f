"""What a write sends and what its answer shows: from an object to bytes, and back.

Owns: stripping, mapping, formatting, wrapping and encoding of writes, and finding the object in an answer.
Guarantees: pure; never sends a read-only place or the version unless the precondition asks for it; a `merge` write
holds only what differs, with an explicit null for what was removed. Does not: choose URLs or headers.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from syncportal.kernel import pointer as pointers
from syncportal.kernel import strict_json
from syncportal.kernel.pointer import MISSING
from syncportal.remote import formats
from syncportal.remote.payloads import EMPTY
from syncportal.remote.spec import ResourceSpec

FORM_TYPE = "application/x-www-form-urlencoded"


def object_to_create(spec: ResourceSpec, data: Mapping[str, Any], *, external_id: str | None) -> dict[str, Any]:
    """Return what a create sends of `data`: an id only where the client chooses it."""
    body: Any = _mapped(spec, spec.writable(data), source=data)
    if spec.create.id == "server" or external_id is None:
        for at in spec.id_pointers if spec.create.id == "server" else ():
            body = pointers.remove(body, at)
        return body
    for at, part in zip(spec.id_pointers, spec.id_parts(external_id), strict=True):
        if pointers.get(data, at, None) is None:
            body = pointers.put(body, at, _typed_id(spec, at, part))
    return body


def object_to_replace(spec: ResourceSpec, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a replacing update sends: all of `data` less what is never written."""
    return _mapped(spec, spec.writable(data), source=data)


def object_to_merge(spec: ResourceSpec, data: Mapping[str, Any], *, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a merging update sends: the places that differ from `base`, null for a removed one."""
    body: Any = {}
    for at in spec.comparator.differing(base, data):
        target = spec.write_map.get(at)
        if target is None and spec.is_read_only(at):
            continue
        at = _whole_array(data, at) if target is None else at
        value = _formatted(spec, at, pointers.get(data, at, None), target=target)
        body = pointers.put(body, target or at, value)
    for at in spec.comparator.uncompared(base, data):
        was, is_now = pointers.get(base, at, None), pointers.get(data, at, None)
        if not spec.is_read_only(at) and not spec.comparator.same(at, was, is_now):
            body = pointers.put(body, at, _formatted(spec, at, is_now))
    for at, target in spec.write_map.items():
        if pointers.get(body, at) is not MISSING and target != at:
            # A mapped place inside a changed field: it moves, the rest of the field stays.
            value = _formatted(spec, at, pointers.get(body, at), target=target)
            body = pointers.put(_without(body, at), target, value)
    return body


def _mapped(spec: ResourceSpec, body: Any, *, source: Mapping[str, Any]) -> dict[str, Any]:
    for at, pattern in spec.write_format.items():
        if at not in spec.write_map and (found := pointers.get(body, at, None)) is not None:
            body = pointers.put(body, at, formats.written(found, pattern))
    for at, target in spec.write_map.items():
        value = pointers.get(source, at)
        if value is not MISSING and target != at:
            body = pointers.put(_without(body, at), target, _formatted(spec, at, value, target=target))
    return body


def _formatted(spec: ResourceSpec, at: str, value: Any, *, target: str | None = None) -> Any:
    pattern = spec.write_format.get(at) or (spec.write_format.get(target) if target else None)
    if pattern is not None:
        return formats.written(value, pattern)
    if isinstance(value, (dict, list)):
        for deeper, inner_pattern in spec.write_format.items():
            inside = deeper[len(at) :]
            if deeper.startswith(at + "/") and (found := pointers.get(value, inside, None)) is not None:
                value = pointers.put(value, inside, formats.written(found, inner_pattern))
        for pattern_ in spec.stripped:
            if pattern_.startswith(at + "/"):
                value = pointers.remove(value, pattern_[len(at) :])
    return value


def _without(body: Any, at: str) -> Any:
    body = pointers.remove(body, at)
    names = pointers.parse(at)
    if len(names) > 1 and pointers.get(body, pointers.build(names[:-1]), None) == {}:
        body = pointers.remove(body, pointers.build(names[:-1]))
    return body


def _whole_array(data: Any, at: str) -> str:
    names = pointers.parse(at)
    for depth in range(1, len(names)):
        parent = pointers.build(names[:depth])
        if isinstance(pointers.get(data, parent, None), list):
            return parent
    return at


def _typed_id(spec: ResourceSpec, at: str, part: str, *, like: Any = None) -> Any:
    """Return an id's part in the remote's type: as in `like` (the id as read) if that is the same, else by schema."""
    if isinstance(like, int) and not isinstance(like, bool) and str(like) == part:
        return like
    if spec.comparator.type_of(at) in ("integer", "number") and part.lstrip("-").isdigit():
        return int(part)
    return part


def typed_parts(spec: ResourceSpec, parts: tuple[str, ...], *, known: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return an id's parts in the remote's types; `known` is the object as read."""
    return tuple(
        _typed_id(spec, at, part, like=pointers.get(known, at, None))
        for at, part in zip(spec.id_pointers, parts, strict=True)
    )


def typed_version(version: str, *, like: Any, declared: str = "") -> Any:
    """Return the version in the type the remote uses: a number where `like` (a version as read) is one."""
    if isinstance(like, bool) or not version.lstrip("-").isdigit():
        return version
    if isinstance(like, (int, float)) or (like is None and declared != "string"):
        return int(version)
    return version


def create_payload(spec: ResourceSpec, body: Any, *, external_id: str | None) -> Any:
    """Return a create's whole body.

    A template with "{data}" is all of it, the object stands there unwrapped; any other has its members added to what
    an update would send.
    """
    template = spec.create.body
    if _holds_data(template):
        return _with_data(template, body)
    wrapped = payload(spec, body, external_id=external_id)
    return {**template, **wrapped} if isinstance(template, Mapping) and isinstance(wrapped, Mapping) else wrapped


def payload(
    spec: ResourceSpec,
    body: Any,
    *,
    external_id: str | None,
    known: Mapping[str, Any] | None = None,
    version_at: str = "",
    version: Any = None,
) -> Any:
    """Wrap an object and add constants, the id and the version; their pointers begin at the whole body.

    `known` is the object as read, whose id shows the type that the remote uses.
    """
    for name in reversed(spec.update.wrap):
        body = [body] if name == "[]" else {name: body}
    for at, value in spec.update.constant.items():
        body = pointers.put(body, at, value)
    if external_id is not None and spec.update.id_in_body:
        parts = spec.id_parts(external_id)
        for at, index in spec.update.id_in_body.items():
            like = pointers.get(known or {}, spec.id_pointers[index], None)
            typed_by = _unwrapped(at, spec.update.wrap) or spec.id_pointers[index]
            body = pointers.put(body, at, _typed_id(spec, typed_by, parts[index], like=like))
    if version_at and version is not None:
        body = pointers.put(body, version_at, version)
    return body


def _unwrapped(at: str, wrap: tuple[str, ...]) -> str:
    names = pointers.parse(at)
    if len(names) > len(wrap) and all(name == given or name == "[]" for name, given in zip(wrap, names, strict=False)):
        return pointers.build(names[len(wrap) :])
    return ""


def encoded(body: Any, *, encoding: str) -> bytes:
    """Encode a body as JSON, or as form fields with nested names in brackets, booleans as words and null as empty."""
    if encoding == "json":
        return strict_json.dumps(body)
    return urlencode(list(_form_fields("", body))).encode()


def _form_fields(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _form_fields(f"{name}[{key}]" if name else key, inner)]
    if isinstance(value, (list, tuple)):
        return [pair for inner in value for pair in _form_fields(f"{name}[]", inner)]
    if isinstance(value, bool):
        return [(name, "true" if value else "false")]
    return [(name, "" if value is None else str(value))]


def shown_object(spec: ResourceSpec, body: Any, *, external_id: str | None) -> dict[str, Any] | None:
    """Find the object in a write's answer: where reads show it, where writes wrap it, or at the top; None without.

    One with our id wins; an object with another id is returned too, so that the caller can refuse it.
    """
    if body is EMPTY or body is None:
        return None
    wrapped = "".join("/0" if name == "[]" else pointers.build((name,)) for name in spec.update.wrap)
    other: dict[str, Any] | None = None
    for at in dict.fromkeys((spec.detail.item, wrapped, "", "/0", spec.detail.item + "/0")):
        found = pointers.get(body, at, None)
        if not isinstance(found, dict):
            continue
        found_id = spec.external_id_of(found)
        if found_id is None:
            continue
        if external_id is None or found_id == external_id:
            return found
        other = found if other is None else other
    return other


def is_whole(spec: ResourceSpec, shown: Mapping[str, Any], *, sent: Mapping[str, Any]) -> bool:
    """Say whether an answer shows the object and not just its id: the version, and every field that was sent."""
    if spec.version.source == "body" and pointers.get(shown, spec.version.pointer, None) is None:
        return False
    for at in spec.comparator.fields(sent):
        if pointers.get(shown, at) is MISSING and spec.comparator.canonical(at, pointers.get(sent, at)) is not None:
            return False
    return True


def _holds_data(template: Any) -> bool:
    if isinstance(template, Mapping):
        return any(_holds_data(inner) for inner in template.values())
    return any(_holds_data(inner) for inner in template) if isinstance(template, list) else template == "{data}"


def _with_data(template: Any, body: Any) -> Any:
    if isinstance(template, Mapping):
        return {name: _with_data(inner, body) for name, inner in template.items()}
    if isinstance(template, list):
        return [_with_data(inner, body) for inner in template]
    return body if template == "{data}" else template


def filled(template: Any, *, parts: tuple[Any, ...], version: str | None) -> Any:
    """Return a delete's body with "{0}", "{1}" and "{version}" filled in, each in the type given."""
    if isinstance(template, Mapping):
        return {name: filled(inner, parts=parts, version=version) for name, inner in template.items()}
    if isinstance(template, list):
        return [filled(inner, parts=parts, version=version) for inner in template]
    if isinstance(template, str):
        words = {f"{{{index}}}": part for index, part in enumerate(parts)} | {"{version}": version or ""}
        return words.get(template, template)
    return template
