"""Whether knobs that are each valid also fit together.

Owns: the cross checks of a remote's and a resource's configuration. Guarantees: pure, reports every problem.
Does not: check single values; knob_rules.py has done that and found nothing when these run.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from syncportal.kernel import pointer as pointers
from syncportal.remote.errors import Misconfiguration
from syncportal.remote.knobs import LimitsSpec
from syncportal.remote.rules import Found, Problem
from syncportal.remote.signing import load_hook

_PLACES = re.compile(r"\{(\d)\}")
_PAGE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "header_url": ("name",), "header_params": ("map",), "body_url": ("pointer",), "body_cursor": ("pointer", "param"),
    "last_id": ("param",), "offset": ("param",), "page": ("param",),
}  # fmt: skip
_AUTH_NEEDS: Mapping[str, tuple[str, ...]] = {
    "basic": ("credential",), "header": ("credential",), "query": ("credential",), "login": ("credential",),
    "oauth2_client_credentials": ("credential",), "hook": ("hook",),
}  # fmt: skip


def remote_problems(config: Mapping[str, Any]) -> Found:
    """Return what does not fit together in a remote's configuration."""
    found: Found = []
    auth = config.get("auth") or {"kind": "none"}
    kind = auth.get("kind", "none")
    for key in _AUTH_NEEDS.get(kind, ()):
        if not auth.get(key):
            found.append(Problem("/auth", f"kind {kind} needs {key!r}"))
    if kind in ("login", "oauth2_client_credentials") and not (auth.get("token_path") or auth.get("token_url")):
        wanted = "token_path" if kind == "login" else "token_url"
        found.append(Problem("/auth", f"kind {kind} needs {wanted!r}"))
    if kind == "hook" and auth.get("hook"):
        try:
            load_hook(auth["hook"])
        except Misconfiguration as problem:
            found.append(Problem("/auth/hook", problem.detail))
    limits = config.get("limits") or {}
    connect = limits.get("connect_timeout_s", LimitsSpec.__dataclass_fields__["connect_timeout_s"].default)
    total = limits.get("total_timeout_s", LimitsSpec.__dataclass_fields__["total_timeout_s"].default)
    if connect >= total:
        found.append(
            Problem("/limits", f"connect_timeout_s ({connect:g}) must be less than total_timeout_s ({total:g})")
        )
    return found


def resource_problems(config: Mapping[str, Any]) -> Found:
    """Return what does not fit together in a resource's configuration."""
    found: Found = []
    for check in _CHECKS:
        check(config, found)
    return found


def _ids(config: Mapping[str, Any]) -> int:
    return 1 if isinstance(config.get("id"), str) else len(config.get("id") or ())


def _reachable(config: Mapping[str, Any], found: Found) -> None:
    if not config.get("list") and not config.get("detail"):
        found.append(Problem("", "'list' or 'detail' is needed: there is no way to reach an object"))


def _page(config: Mapping[str, Any], found: Found) -> None:
    page = (config.get("list") or {}).get("page") or {}
    for key in _PAGE_NEEDS.get(page.get("style", "none"), ()):
        if not page.get(key):
            found.append(Problem("/list/page", f"style {page['style']} needs {key!r}"))
    if page.get("size") and not page.get("size_param"):
        found.append(Problem("/list/page", "size needs 'size_param', the parameter that asks for it"))


def _paths(config: Mapping[str, Any], found: Found) -> None:
    parts = _ids(config)
    for knob in ("detail", "update", "delete", "create"):
        path = (config.get(knob) or {}).get("path")
        if path is None:
            continue
        used = {int(place) for place in _PLACES.findall(path)}
        at = f"/{knob}/path"
        if used and max(used) >= parts:
            found.append(Problem(at, f"{{{max(used)}}} names an id part, but 'id' has {parts}: they count from {{0}}"))
        elif knob == "detail" and len(used) < parts:
            missing = ", ".join(f"{{{index}}}" for index in range(parts) if index not in used)
            found.append(Problem(at, f"the path must hold every part of the id; {missing} is missing"))
    for at, index in ((config.get("update") or {}).get("id_in_body") or {}).items():
        if index >= parts:
            found.append(Problem("/update/id_in_body" + pointers.build((at,)), f"'id' has only {parts} parts"))


def _version(config: Mapping[str, Any], found: Found) -> None:
    version, rule = config.get("version") or {}, config.get("precondition") or {}
    source = version.get("from") or ("body" if version.get("pointer") else "none")
    if source == "body" and not version.get("pointer"):
        found.append(Problem("/version", "from body needs 'pointer'"))
    send = rule.get("send", "none")
    if send != "none" and source == "none":
        found.append(Problem("/precondition", f"send {send} needs a version: set 'version'"))
    if send == "query" and not rule.get("param"):
        found.append(Problem("/precondition", "send query needs 'param'"))
    if send == "body" and not rule.get("pointer") and not version.get("pointer"):
        found.append(Problem("/precondition", "send body needs 'pointer'"))
    if rule.get("required") and send == "none":
        found.append(Problem("/precondition", "required makes no sense with send none"))
    form = rule.get("format")
    if send == "if_match" and form is not None and "{}" not in form:
        found.append(Problem("/precondition/format", "must hold {} where the version stands"))


def _create(config: Mapping[str, Any], found: Found) -> None:
    create = config.get("create") or {}
    if create.get("lookup") and not config.get("list"):
        found.append(Problem("/create/lookup", "a look-up needs 'list'"))
    if not create.get("path") and not config.get("list") and not (config.get("detail") or {}).get("path"):
        found.append(Problem("/create", "needs 'path'"))


def _conflict(config: Mapping[str, Any], found: Found) -> None:
    conflict = config.get("conflict") or {}
    if ("pointer" in conflict) != ("value" in conflict):
        found.append(Problem("/conflict", "'pointer' and 'value' belong together"))


def _checksum(config: Mapping[str, Any], found: Found) -> None:
    checksum = config.get("checksum")
    if not checksum:
        return
    source = checksum.get("from") or ("header" if checksum.get("name") else "body")
    if source == "header" and not checksum.get("name"):
        found.append(Problem("/checksum", "from header needs 'name'"))
    if source == "body" and not checksum.get("pointer"):
        found.append(Problem("/checksum", "from body needs 'pointer'"))


_CHECKS: tuple[Callable[[Mapping[str, Any], Found], None], ...] = (
    _reachable, _page, _paths, _version, _create, _conflict, _checksum,
)  # fmt: skip
