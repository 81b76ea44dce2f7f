"""From configuration as written to the compiled knobs.

Owns: `remote_parts` and `resource_parts`, the one place where defaults that depend on other knobs are decided.
Guarantees: pure; accepts everything configuration.py accepts. Does not: validate or cache.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from syncportal.kernel import pointer as pointers
from syncportal.remote import knobs
from syncportal.remote.equality import Comparator
from syncportal.remote.errors import StatusRules

_STATUS_DEFAULTS = StatusRules()
_MERGING_METHODS = ("PATCH", "MERGE")


def remote_parts(base_url: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a RemoteSpec for a remote's configuration."""
    auth = dict(config.get("auth") or {})
    limits = config.get("limits") or {}
    return {
        "base_url": base_url.rstrip("/"),
        "headers": {name: str(value) for name, value in (config.get("headers") or {}).items()},
        "content_type": config.get("content_type") or "application/json",
        "auth": knobs.AuthSpec(**auth),
        "limits": knobs.LimitsSpec(**limits),
        "breaker": knobs.BreakerSpec(**(config.get("breaker") or {})),
        "transient": frozenset(config.get("transient") or ()),
    }


def resource_parts(
    config: Mapping[str, Any], *, guarantees: Mapping[str, Any], transient: frozenset[int] = frozenset()
) -> dict[str, Any]:
    """Return the fields of a ResourceSpec for a resource's configuration and its guarantee card."""
    ids = _tuple(config.get("id"))
    listing = _listing(config.get("list"))
    detail = _detail(config.get("detail"), listing=listing, parts=len(ids))
    version = _version(config.get("version"))
    update = _update(config.get("update"), detail=detail)
    precondition = _precondition(config.get("precondition"), version=version, wrap=update.wrap)
    checksum = _checksum(config.get("checksum"))
    read_only = _tuple(config.get("read_only"))
    write_map = dict(config.get("write_map") or {})
    stripped = read_only
    if version.source == "body" and version.pointer and version.pointer not in stripped:
        stripped = (*stripped, version.pointer)
    ignored = stripped
    if checksum is not None and checksum.source == "body":
        ignored = (*ignored, checksum.at)
    return {
        "id_pointers": ids,
        "listing": listing,
        "detail": detail,
        "create": _create(config.get("create"), listing=listing, detail=detail),
        "update": update,
        "delete": _delete(config.get("delete"), detail=detail),
        "version": version,
        "precondition": precondition,
        "conditional": precondition.send != "none" and guarantees.get("conditional_writes") != "no",
        "rules": _rules(config, transient=transient),
        "policy": _policy(config.get("policy")),
        "schema": config.get("schema"),
        "checksum": checksum,
        "modified_since": _modified_since(config.get("modified_since")),
        "window": _window(config.get("window")),
        "read_only": read_only,
        "write_map": write_map,
        "write_format": dict(config.get("write_format") or {}),
        "tombstone": dict(config.get("tombstone") or {}),
        "idempotency_header": config.get("idempotency_header") or None,
        "stripped": stripped,
        "comparator": Comparator(
            compared=_tuple(config.get("compared")),
            normalize={at: _tuple(names) for at, names in (config.get("normalize") or {}).items()},
            schema=config.get("schema"),
            ignore=ignored,
            always=tuple(at for at in write_map if any(pointers.matches(pattern, at) for pattern in ignored)),
        ),
    }


def _tuple(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, (str, int)) else tuple(value)


def _statuses(value: Any, default: Iterable[int]) -> frozenset[int]:
    return frozenset(default) if value is None else frozenset(_tuple(value))


def _listing(config: Mapping[str, Any] | None) -> knobs.ListSpec | None:
    if not config:
        return None
    given = dict(config)
    page = dict(given.pop("page", None) or {})
    given["method"] = str(given.get("method") or "GET").upper()
    return knobs.ListSpec(**given, page=knobs.PageSpec(**page))


def _detail(config: Mapping[str, Any] | None, *, listing: knobs.ListSpec | None, parts: int) -> knobs.DetailSpec:
    if config:
        return knobs.DetailSpec(**config)
    path, _, _ = (listing.path if listing else "").partition("?")
    return knobs.DetailSpec(path=path.rstrip("/") + "".join(f"/{{{index}}}" for index in range(parts)))


def _create(
    config: Mapping[str, Any] | None, *, listing: knobs.ListSpec | None, detail: knobs.DetailSpec
) -> knobs.CreateSpec:
    given = dict(config or {})
    given["method"] = str(given.get("method") or "POST").upper()
    if not given.get("path"):
        by_id = given.get("id") == "client" and given["method"] != "POST"
        given["path"] = detail.path if by_id or listing is None else listing.path.partition("?")[0]
        if listing is None and not by_id:
            given["path"] = detail.path.partition("{0}")[0].rstrip("/")
    return knobs.CreateSpec(**given)


def _update(config: Mapping[str, Any] | None, *, detail: knobs.DetailSpec) -> knobs.UpdateSpec:
    given = dict(config or {})
    if "method" not in given:
        given["method"] = "PATCH" if given.get("semantics") == "merge" else "PUT"
    given["method"] = str(given["method"]).upper()
    given.setdefault("semantics", "merge" if given["method"] in _MERGING_METHODS else "replace")
    given["path"] = given.get("path") or detail.path
    given["wrap"] = _tuple(given.get("wrap"))
    return knobs.UpdateSpec(**given)


def _delete(config: Mapping[str, Any] | None, *, detail: knobs.DetailSpec) -> knobs.DeleteSpec:
    given = dict(config or {})
    given["method"] = str(given.get("method") or "DELETE").upper()
    given["path"] = given.get("path") or detail.path
    return knobs.DeleteSpec(**given)


def _version(config: Mapping[str, Any] | None) -> knobs.VersionSpec:
    given = config or {}
    source = given.get("from") or ("body" if given.get("pointer") else "none")
    return knobs.VersionSpec(source=source, pointer=given.get("pointer") or "")


def _precondition(
    config: Mapping[str, Any] | None, *, version: knobs.VersionSpec, wrap: tuple[str, ...]
) -> knobs.PreconditionSpec:
    given = dict(config or {})
    given.setdefault("send", "none")
    if given["send"] == "if_match" and not given.get("format"):
        given["format"] = "{}" if version.source == "etag" else '"{}"'
    if given["send"] == "body" and not given.get("pointer"):
        # A pointer begins at the whole body; the version's place is that of the object inside it.
        outside = "".join("/0" if name == "[]" else pointers.build((name,)) for name in wrap)
        given["pointer"] = outside + version.pointer
    return knobs.PreconditionSpec(**given)


def _rules(config: Mapping[str, Any], *, transient: frozenset[int]) -> StatusRules:
    conflict = config.get("conflict") or {}
    return StatusRules(
        retry=_statuses(config.get("retry"), _STATUS_DEFAULTS.retry),
        transient=transient,
        gone=_statuses(config.get("gone"), _STATUS_DEFAULTS.gone),
        conflict=_statuses(conflict.get("statuses"), _STATUS_DEFAULTS.conflict),
        conflict_pointer=conflict.get("pointer"),
        conflict_value=conflict.get("value"),
        required=_statuses(conflict.get("required_statuses"), _STATUS_DEFAULTS.required),
    )


def _checksum(config: Mapping[str, Any] | None) -> knobs.ChecksumSpec | None:
    if not config:
        return None
    source = config.get("from") or ("header" if config.get("name") else "body")
    at = config.get("name") if source == "header" else config.get("pointer")
    return knobs.ChecksumSpec(
        source=source,
        at=at or config.get("pointer") or "",
        algorithm=str(config.get("algorithm") or "sha256").lower().replace("-", ""),
        fields=_tuple(config.get("fields")),
    )


def _modified_since(config: Mapping[str, Any] | None) -> knobs.ModifiedSinceSpec | None:
    return knobs.ModifiedSinceSpec(**config) if config else None


def _window(config: Mapping[str, Any] | None) -> knobs.WindowSpec | None:
    if not config:
        return None
    named = config["param"]
    names = named.split(",") if isinstance(named, str) else named
    return knobs.WindowSpec(params=tuple(name.strip() for name in names), days=config["days"])


def _policy(config: Mapping[str, Any] | None) -> knobs.PolicySpec:
    given = dict(config or {})
    retry = given.pop("retry", None) or {}
    compensation = knobs.CompensationSpec(**(given.pop("compensation", None) or {}))
    repair = {**knobs.DEFAULT_REPAIR, **(given.pop("repair", None) or {})}
    if "delays_s" in retry:
        retry = {**retry, "delays_s": tuple(float(delay) for delay in retry["delays_s"])}
    return knobs.PolicySpec(**retry, **given, compensation=compensation, repair=repair)
