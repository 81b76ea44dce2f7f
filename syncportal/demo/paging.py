"""Lists in pages, in every style that real servers were seen to use, and the ways in which paging goes wrong.

Owns: from a list of ids and a query to one page, its links and its totals. Pure.
Does not: read objects; the caller renders each id.
"""

import base64
import bisect
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from syncportal.demo.spec import Collection

POSITION_PARAMS = {
    "offset": "offset",
    "page": "page",
    "cursor": "cursor",
    "last_id": "after",
    "link": "offset",
    "next_url": "offset",
    "header_url": "offset",
    "header_params": "offset",
}


class BadPage(ValueError):
    """A page was asked for with a position or size that cannot be read."""


@dataclass(frozen=True, slots=True)
class Twist:
    """A way to page wrongly: a kind of fault (page_loop, page_repeat, …) and how much of it."""

    kind: str
    rows: int = 3
    host: str = "http://other.invalid"


@dataclass(frozen=True, slots=True)
class Page:
    """The ids on one page, the document without its rows (None = the rows are the whole body), and extra headers."""

    ids: tuple[str, ...]
    around: dict[str, Any] | None
    headers: dict[str, str]


def cut(
    ids: Sequence[str],
    *,
    spec: Collection,
    query: Mapping[str, str],
    rank: Callable[[str], Any],
    path: str,
    host: str,
    twist: Twist | None = None,
) -> Page:
    """Cut the page that a query asks for. Raises BadPage."""
    if spec.paging == "none":
        return Page(tuple(ids), {"total": len(ids)} if spec.items_key else None, {})
    size = _number(query.get(spec.size_param), default=spec.page_size, least=1)
    size = min(size, spec.max_page_size)
    at = _position(ids, spec=spec, query=query, size=size, rank=rank)
    total = len(ids)
    begin, end, more = at, at + size, at + size < total
    kind = twist.kind if twist else ""
    rows = twist.rows if twist else 0
    if kind == "page_loop":
        begin, end, more = (0, size, True)
        at = 0
    elif kind == "page_repeat" and at:
        begin, end = max(0, at - size), at
    elif kind == "page_overlap" and at:
        begin = max(0, at - rows)
    elif kind == "page_skip" and at:
        begin = at + rows
    elif kind == "page_empty" and at:
        end = begin
    elif kind == "page_shrink":
        total = total if not at else max(0, min(total - rows, at - 1))
    elif kind == "page_lose_tail":
        total = total // 2
        end, more = min(end, total), at + size < total
    shown = tuple(ids[begin:end])
    last = ids[min(at + size, len(ids)) - 1] if ids else ""
    return _dressed(
        shown,
        spec=spec,
        query=query,
        at=at,
        size=size,
        total=total,
        more=more,
        last=last,
        path=path,
        host=twist.host if twist and kind == "page_other_host" else host,
        abroad=kind == "page_other_host",
    )


def shuffled(ids: Sequence[str], *, turn: int) -> list[str]:
    """Return the ids in an order that changes with every request."""
    result = list(ids)
    random.Random(turn).shuffle(result)
    return result


def _number(text: str | None, *, default: int, least: int) -> int:
    if text is None or text == "":
        return default
    try:
        value = int(text)
    except ValueError:
        raise BadPage(f"{text[:40]!r} is not a whole number.") from None
    if value < least:
        raise BadPage(f"{value} is below {least}.")
    return value


def _position(
    ids: Sequence[str], *, spec: Collection, query: Mapping[str, str], size: int, rank: Callable[[str], Any]
) -> int:
    text = query.get(POSITION_PARAMS[spec.paging])
    if spec.paging == "page":
        return (_number(text, default=1, least=1) - 1) * size
    if spec.paging not in ("cursor", "last_id"):
        start = spec.offset_start if spec.paging == "offset" else 0
        return _number(text, default=start, least=start) - start
    if not text:
        return 0
    if spec.paging == "cursor":
        try:
            text = str(json.loads(base64.urlsafe_b64decode(text.encode()))["after"])
        except (ValueError, KeyError, TypeError):
            raise BadPage("The cursor is not one of ours.") from None
    if spec.order == "unstable":
        return ids.index(text) + 1 if text in ids else 0
    return bisect.bisect_right(ids, rank(text), key=rank)


def _dressed(
    shown: tuple[str, ...],
    *,
    spec: Collection,
    query: Mapping[str, str],
    at: int,
    size: int,
    total: int,
    more: bool,
    last: str,
    path: str,
    host: str,
    abroad: bool,
) -> Page:
    following = _link(spec, {**query, "offset": str(at + size)}, path=path, host=host, abroad=abroad) if more else None
    around: dict[str, Any] | None = {"total": total}
    headers: dict[str, str] = {}
    if spec.paging == "page":
        around = {"total": total, "page": at // size + 1, "pages": -(-total // size)}
    elif spec.paging == "cursor":
        token = base64.urlsafe_b64encode(json.dumps({"after": last}).encode()).decode()
        around = {"next_cursor": token if more else None}
    elif spec.paging == "last_id":
        around = {"more": more}
    elif spec.paging == "next_url":
        around = {"next": following, "total": total}
    elif spec.paging == "link":
        around = None
        headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    elif spec.paging == "header_url":
        headers = {"Next-Page": following} if following else {}
    elif spec.paging == "header_params":
        headers = {"X-Next-Offset": str(at + size), "X-Total": str(total)} if more else {"X-Total": str(total)}
    return Page(shown, around if spec.items_key else None, headers)


def _link(spec: Collection, query: Mapping[str, str], *, path: str, host: str, abroad: bool) -> str:
    asked = "?" + urlencode(query)
    if abroad or spec.next_form == "absolute":
        return f"{host}{path}{asked}"
    if spec.next_form == "request":
        return asked
    if spec.next_form == "base":
        return path.removeprefix("/api/") + asked
    return path + asked
