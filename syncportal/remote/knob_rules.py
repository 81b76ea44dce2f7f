"""Which knobs exist and what each accepts, as data.

Owns: the rules of a remote's and a resource's configuration, key by key. Guarantees: what passes here and in
knob_checks.py compiles. Pure. Does not: check how knobs fit together.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from croniter import CroniterBadDateError, croniter

from syncportal.remote import formats, schemas
from syncportal.remote.normalizers import ALIASES, NORMALIZERS, PRECISION_NAMES, normalizer
from syncportal.remote.paging import STYLES
from syncportal.remote.rules import (
    Found,
    Problem,
    Rule,
    anything,
    boolean,
    both,
    choice,
    many,
    mapping,
    nearest,
    number,
    one_or_many,
    pointer,
    quoted,
    record,
    text,
)  # fmt: skip

_ANY_DAY = datetime(2024, 1, 1)  # where the search for a cron line's next time begins
AUTH_KINDS = ("none", "basic", "header", "query", "oauth2_client_credentials", "login", "hook")
POLICIES = ("manual", "remote_wins", "local_wins")
REPAIRS = ("off", "take_remote", "push_local", "alert")
REPAIR_KINDS = ("version_drift", "data_mismatch", "missing_remote", "missing_local", "duplicate_key", "invalid_remote")
LONGEST_CALL_S = 19
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_ENV_NAME = re.compile(r"env:\s*[A-Za-z_][A-Za-z0-9_]*\Z")
_FORBIDDEN_HEADERS = ("authorization", "proxy-authorization", "cookie")
_FRAMING_HEADERS = ("host", "content-length", "transfer-encoding", "connection")


def _header_name(value: Any, at: str, found: Found) -> None:
    if not isinstance(value, str) or not _TOKEN.match(value):
        found.append(Problem(at, f"{quoted(value)} is not a header name"))


def _plain_header(value: Any, at: str, found: Found) -> None:
    _header_name(value, at, found)
    if str(value).lower() in _FORBIDDEN_HEADERS:
        found.append(Problem(at, "a credential belongs in auth, never in headers"))
    elif str(value).lower() in _FRAMING_HEADERS:
        found.append(Problem(at, "this header is set by the client itself"))


def _header_value(value: Any, at: str, found: Found) -> None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return
    text(empty=True)(value, at, found)


def base_url(value: Any, at: str, found: Found) -> None:
    """Accept an http or https URL of a host, without user, query and fragment."""
    text(limit=500)(value, at, found)
    if not isinstance(value, str) or not value:
        return
    try:
        parts = urlsplit(value)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host, parts = False, urlsplit("")
    if parts.scheme.lower() not in ("http", "https") or not has_host or " " in value or "\\" in value:
        found.append(Problem(at, "must be a URL such as https://master.example.org/api"))
    elif "@" in parts.netloc:
        found.append(Problem(at, "must not hold a user or password: use auth"))
    elif parts.query or parts.fragment:
        found.append(Problem(at, "must not have a query or fragment: use list.params or auth"))


def _credential(value: Any, at: str, found: Found) -> None:
    # The value is never quoted: a person may have written the secret itself.
    if not isinstance(value, str) or (value != "stored" and not _ENV_NAME.match(value)):
        found.append(Problem(at, "must be env:NAME (a variable of the environment) or stored; never the secret itself"))


def _path(value: Any, at: str, found: Found) -> None:
    text(empty=True)(value, at, found)
    if isinstance(value, str) and "#" in value:
        found.append(Problem(at, "must not hold a fragment (#)"))


def _cron(value: Any, at: str, found: Found) -> None:
    if not isinstance(value, str) or len(value.split()) != 5 or not croniter.is_valid(value):
        found.append(Problem(at, f"{quoted(value)} is not a cron line of five fields, such as 0 2 * * 0"))
    elif any(field[0] in "rR" for field in value.split()):
        found.append(Problem(at, f"{quoted(value)} names another time whenever it is read"))
    elif not _ever_comes(value):
        found.append(Problem(at, f"{quoted(value)} names a day that never comes"))


def _ever_comes(cron: str) -> bool:
    try:
        croniter(cron, _ANY_DAY).get_next(datetime)
    except CroniterBadDateError:
        return False
    return True


def _normalizer(value: Any, at: str, found: Found) -> None:
    try:
        normalizer(value if isinstance(value, str) else "")
    except KeyError:
        valid = [*NORMALIZERS, *ALIASES, *(f"{name}:2" for name in PRECISION_NAMES)]
        found.append(Problem(at, f"unknown normaliser {quoted(value)}; {nearest(str(value), valid)}"))


def _format(value: Any, at: str, found: Found) -> None:
    if not isinstance(value, str) or not formats.is_pattern(value):
        names = ", ".join(formats.NAMES)
        found.append(
            Problem(at, f"{quoted(value)} is no strftime pattern, no number format like {{:.2f}} and none of {names}")
        )


def _algorithm(value: Any, at: str, found: Found) -> None:
    name = value.lower().replace("-", "") if isinstance(value, str) else ""
    known = {known.replace("-", "").replace("_", "") for known in hashlib.algorithms_available} | {"crc32"}
    if name not in known or name.startswith("shake"):
        found.append(Problem(at, f"unknown algorithm {quoted(value)}; {nearest(name, known)}"))


def _schema(value: Any, at: str, found: Found) -> None:
    before = len(found)
    anything(value, at, found)
    if len(found) == before:
        found.extend(Problem(at + inner, message) for inner, message in schemas.problems_of(value))


def _lookup_value(value: Any, at: str, found: Found) -> None:
    if isinstance(value, str) and not value.startswith("/") and "{/" in value and "}" in value:
        return
    pointer()(value, at, found)


def _total(value: Any, at: str, found: Found) -> None:
    (pointer() if isinstance(value, str) and value.startswith("/") else _name)(value, at, found)


def _repair(value: Any, at: str, found: Found) -> None:
    if value is not False:
        choice(*REPAIRS)(value, at, found)


def _window_param(value: Any, at: str, found: Found) -> None:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not 1 <= len(names) <= 2 or not all(isinstance(n, str) and n for n in names):
        found.append(Problem(at, "must be a parameter's name, or two (start and end)"))
        return
    for name in names:
        _name(name, at, found)


_name = text(limit=200)
_slug_pattern = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z")
_status = number(least=100, most=599, whole=True)
_statuses = one_or_many(_status)
_method = choice("GET", "POST", "PUT", "PATCH", "DELETE", "MERGE", "SEARCH", "QUERY", "REPORT", any_case=True)
_pointers = one_or_many(pointer(), least=0)


def slug(value: Any, at: str, found: Found) -> None:
    """Accept a short name that can stand in a URL."""
    if not isinstance(value, str) or not _slug_pattern.match(value):
        found.append(Problem(at, f"{quoted(value)} is no slug: lower-case letters, digits, - and _, at most 64"))


AUTH: Mapping[str, Rule] = {
    "kind": choice(*AUTH_KINDS), "credential": _credential, "name": _header_name, "prefix": text(empty=True),
    "token_path": _path, "token_body": anything, "token_pointer": pointer(), "ttl_s": number(above=0),
    "token_url": text(), "scope": text(empty=True), "client_id": text(), "hook": text(),
}  # fmt: skip
REMOTE: Mapping[str, Rule] = {
    "headers": mapping(_plain_header, _header_value),
    "content_type": text(limit=200),
    "auth": record(AUTH, required=("kind",)),
    "limits": record(
        {
            "concurrency": number(least=1, most=256, whole=True),
            "per_second": number(above=0, most=100_000),
            "connect_timeout_s": number(above=0, most=LONGEST_CALL_S),
            "total_timeout_s": number(above=0, most=LONGEST_CALL_S),
        }
    ),
    "breaker": record(
        {
            "unreachable": number(least=1, most=1000, whole=True),
            "failures": number(least=1, most=1000, whole=True),
            "records": number(least=1, most=1000, whole=True),
            "open_s": number(above=0, most=86_400),
        }
    ),
    "transient": _statuses,
}
PAGE: Mapping[str, Rule] = {
    "style": choice(*STYLES), "name": _header_name, "map": mapping(_header_name, _name, least=1), "pointer": pointer(),
    "relative_to": choice("request", "base"), "param": _name, "more": pointer(),
    "start": number(most=1, whole=True), "total": _total, "size_param": _name,
    "size": number(least=1, most=100_000, whole=True),
}  # fmt: skip
LIST: Mapping[str, Rule] = {
    "path": _path, "method": _method, "params": mapping(_name, anything), "items": pointer(root=True),
    "row": pointer(root=True), "stub": boolean, "page": record(PAGE, required=("style",)),
}  # fmt: skip
POLICY: Mapping[str, Rule] = {
    "retry": record(
        {
            "delays_s": many(number(most=86_400), least=0, most=20),
            "jitter": number(most=1),
            "max_retry_after_s": number(most=7 * 86_400),
        }
    ),
    "compensation": record(
        {
            "attempts": number(least=1, most=100, whole=True),
            "base_s": number(above=0, most=3600),
            "cap_s": number(above=0, most=86_400),
        }
    ),
    "conflict": choice(*POLICIES), "fields": mapping(pointer(), choice(*POLICIES)), "merge_disjoint": boolean,
    "repair": mapping(choice(*REPAIR_KINDS), _repair), "lag_s": number(most=86_400), "settle_s": number(most=86_400),
    "schedule": _cron, "parallel": number(least=1, most=64, whole=True), "escalate_after_h": number(most=8760),
    "brake_percent": number(most=100),
}  # fmt: skip
RESOURCE: Mapping[str, Rule] = {
    "list": record(LIST, required=("path",)),
    "detail": record({"path": _path, "item": pointer(root=True)}, required=("path",)),
    "create": record(
        {
            "method": _method, "path": _path, "body": anything, "id": choice("server", "client"),
            "lookup": mapping(_name, _lookup_value, least=1),
        }
    ),
    "delete": record({"method": _method, "path": _path, "body": anything}),
    "id": one_or_many(pointer(), least=1),
    "version": record({"from": choice("body", "etag", "none"), "pointer": pointer()}),
    "precondition": record(
        {
            "send": choice("none", "if_match", "if_unmodified_since", "body", "query"), "format": text(),
            "pointer": pointer(), "param": _name, "required": boolean, "on_delete": _name,
        },
        required=("send",),
    ),
    "conflict": record(
        {"statuses": _statuses, "pointer": pointer(), "value": anything, "required_statuses": _statuses}
    ),
    "update": record(
        {
            "method": _method, "path": _path, "semantics": choice("merge", "replace"), "wrap": one_or_many(_name),
            "encoding": choice("json", "form"), "constant": mapping(pointer(), anything),
            "id_in_body": mapping(pointer(), number(most=9, whole=True)),
        }
    ),
    "read_only": one_or_many(pointer(pattern=True)),
    "write_map": mapping(pointer(), pointer()),
    "write_format": mapping(pointer(), _format),
    "tombstone": mapping(pointer(), anything, least=1),
    "gone": _statuses,
    "retry": _statuses,
    "idempotency_header": _header_name,
    "modified_since": record(
        {"param": _name, "format": text(), "overlap_s": number(most=30 * 86_400)}, required=("param",)
    ),
    "window": record({"param": _window_param, "days": number(least=1, most=3660, whole=True)},
                     required=("param", "days")),
    "schema": _schema,
    "compared": _pointers,
    "normalize": mapping(pointer(), one_or_many(both(text(), _normalizer))),
    "checksum": record(
        {
            "from": choice("body", "header"), "pointer": pointer(), "name": _header_name, "algorithm": _algorithm,
            "fields": _pointers,
        },
        required=("fields",),
    ),
    "policy": record(POLICY),
}  # fmt: skip

check_remote = record(REMOTE)
check_resource = record(RESOURCE, required=("id",))
