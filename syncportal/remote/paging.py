"""From one page of a list to the request for the next: one small strategy per paging style.

Owns: `Step` (what to ask for, also as opaque cursor text) and `following`. Guarantees: pure; a next link to another
host or scheme is refused, because following it would hand over the credential; a page that leads to itself, or repeats
the one before, is refused instead of read for ever. Does not: send anything; the caller bounds the number of pages.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from urllib.parse import urljoin, urlsplit

from syncportal.kernel import pointer as pointers
from syncportal.remote.knobs import PageSpec

_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_REL_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"[^\"]*\bnext\b[^\"]*\"|next\b)", re.IGNORECASE)
_NO_RESULTS = re.compile(r";\s*results\s*=\s*\"?false", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_CURSOR_CHARS = 8192


class PagingError(ValueError):
    """The list cannot be followed: its next page is somewhere else, or it never ends."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request for a page: a complete URL, or parameters on top of the configured ones.

    `seen` rows came before it; `mark` is a digest of the page before; `after` is the last row of this page already
    delivered, when it was cut short.
    """

    url: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0
    mark: str = ""
    after: str = ""

    def encode(self) -> str:
        """Return the step as opaque cursor text."""
        parts = [self.url, dict(self.params), self.seen, self.mark, self.after]
        return base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode()

    @staticmethod
    def decode(text: str) -> "Step":
        """Read cursor text; raises PagingError when it is none of ours."""
        try:
            url, params, seen, mark, after = json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
        except (ValueError, TypeError) as problem:
            raise PagingError("this is not a cursor of this list") from problem
        if not (isinstance(url, str) and isinstance(params, dict) and isinstance(seen, int)):
            raise PagingError("this is not a cursor of this list")
        return Step(url=url, params=params, seen=seen, mark=str(mark), after=str(after))

    @property
    def is_first(self) -> bool:
        """Say whether nothing was read before it."""
        return self.seen == 0 and not self.mark


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page's answer showed: where it was asked, its headers, body, rows and the last row's id."""

    url: str
    base_url: str
    headers: Mapping[str, str]
    body: Any
    rows: list[Any]
    last_id: Any = None


def first_params(page: PageSpec) -> dict[str, Any]:
    """Return the parameters that the first request carries for paging."""
    params: dict[str, Any] = {}
    if page.size_param and page.size:
        params[page.size_param] = page.size
    if page.style in ("offset", "page") and page.param and page.start is not None:
        params[page.param] = page.start
    return params


def total_of(page: PageSpec, *, headers: Mapping[str, str], body: Any) -> int | None:
    """Return the total that the answer names (at a pointer, or in a header when `total` is a name), None without."""
    if not page.total:
        return None
    found = pointers.get(body, page.total, None) if page.total.startswith("/") else headers.get(page.total)
    if isinstance(found, str) and found.isascii() and found.strip().isdigit():
        found = int(found[:18])
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def rows_in_all(page: PageSpec, *, headers: Mapping[str, str], body: Any) -> int | None:
    """Return the number of rows that the answer names; None without, and when its total counts pages."""
    return None if _counts_pages(page.total or "") else total_of(page, headers=headers, body=body)


def following(page: PageSpec, *, step: Step, seen: Seen) -> Step | None:
    """Return the step after `step`, None when the list is at its end; raises PagingError."""
    if page.more and not _truthy(pointers.get(seen.body, page.more, None)):
        return None
    found = _STYLES[page.style](page, step, seen)
    if found is None:
        return None
    mark = _digest(seen.rows)
    if found.url:
        ensure_same_origin(found.url, base_url=seen.base_url)
        if found.url == seen.url:
            raise PagingError("the next page is this page again")
    elif seen.rows and mark == step.mark:
        raise PagingError("a page repeats the one before it: is the paging parameter right?")
    if len(found.url) > MAX_CURSOR_CHARS:
        raise PagingError("the link to the next page is too long")
    return replace(found, seen=step.seen + len(seen.rows), mark=mark, after="")


def ensure_same_origin(url: str, *, base_url: str) -> None:
    """Refuse a URL whose scheme, host or port is not the remote's own; raises PagingError."""
    try:
        if _origin(url) == _origin(base_url) and "@" not in urlsplit(url).netloc:
            return
    except ValueError:
        pass
    raise PagingError("the next page is on another host; it is not followed, because that would leak the credential")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme.lower())


def _truthy(value: Any) -> bool:
    return bool(value) and not (isinstance(value, str) and value.strip().lower() in ("false", "0", "no"))


def _digest(rows: list[Any]) -> str:
    if not rows:
        return "-"
    text = json.dumps([rows[0], rows[-1], len(rows)], sort_keys=True, default=str)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _none(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    return None


def _link_header(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    for match in _LINK.finditer(seen.headers.get(page.name or "Link") or ""):
        target, attributes = match.group(1), match.group(2)
        if _REL_NEXT.search(attributes) and not _NO_RESULTS.search(attributes):
            return Step(url=urljoin(seen.url, target))
    return None


def _header_url(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    target = (seen.headers.get(page.name) or "").strip()
    return Step(url=_resolve(target, page=page, seen=seen)) if target else None


def _header_params(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    found = {param: seen.headers.get(name) for name, param in page.map.items()}
    given = {param: value for param, value in found.items() if value}
    if not given:
        return None
    kept = {name: value for name, value in step.params.items() if name not in found}
    return _moved(step, {**kept, **given})


def _body_url(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    target = pointers.get(seen.body, page.pointer, None)
    if isinstance(target, dict):
        target = target.get("href")
    if target is None or target is False or target == "":
        return None
    if not isinstance(target, str):
        raise PagingError(f"the link to the next page at {page.pointer} is not a text")
    return Step(url=_resolve(target, page=page, seen=seen))


def _body_cursor(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    cursor = pointers.get(seen.body, page.pointer, None)
    if cursor is None or cursor is False or cursor == "" or isinstance(cursor, (dict, list)):
        return None
    if not seen.rows and cursor in ("nil", step.params.get(page.param)):
        return None
    return _moved(step, {**step.params, page.param: cursor})


def _last_id(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    if not seen.rows:
        return None
    last = pointers.get(seen.rows[-1], page.pointer, None) if page.pointer else seen.last_id
    if last is None:
        raise PagingError("the last row of the page has no id to go on from")
    return _moved(step, {**step.params, page.param: last})


def _offset(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    start = page.start or 0
    total = total_of(page, headers=seen.headers, body=seen.body)
    done = step.seen + len(seen.rows)
    if not seen.rows or (total is not None and done >= total):
        return None
    return _moved(step, {**step.params, page.param: start + done})


def _page(page: PageSpec, step: Step, seen: Seen) -> Step | None:
    start = 1 if page.start is None else page.start
    number = int(step.params.get(page.param, start))
    total = total_of(page, headers=seen.headers, body=seen.body)
    if not seen.rows:
        return None
    if total is not None:
        done = number - start + 1 if _counts_pages(page.total or "") else step.seen + len(seen.rows)
        if done >= total:
            return None
    return _moved(step, {**step.params, page.param: number + 1})


def _counts_pages(name: str) -> bool:
    """Say whether a total called that counts pages ("totalPages", "X-Total-Pages", "last_page"), not rows."""
    last = name.rsplit("/", 1)[-1].lower()
    return "page" in last and "per" not in last


def _moved(step: Step, params: Mapping[str, Any]) -> Step:
    if dict(params) == dict(step.params):
        raise PagingError("the next page is this page again")
    return Step(params=params)


def _resolve(target: str, *, page: PageSpec, seen: Seen) -> str:
    if page.relative_to == "request" or target.startswith("?"):
        return urljoin(seen.url, target)
    base = urlsplit(seen.base_url)
    below_root = target.startswith("/") and not target.startswith("//")
    if below_root and base.path.strip("/") and not target.startswith(base.path.rstrip("/") + "/"):
        return seen.base_url.rstrip("/") + target
    return urljoin(seen.base_url.rstrip("/") + "/", target)


_STYLES: Mapping[str, Callable[[PageSpec, Step, Seen], Step | None]] = {
    "none": _none,
    "link_header": _link_header,
    "header_url": _header_url,
    "header_params": _header_params,
    "body_url": _body_url,
    "body_cursor": _body_cursor,
    "last_id": _last_id,
    "offset": _offset,
    "page": _page,
}
STYLES = tuple(_STYLES)
