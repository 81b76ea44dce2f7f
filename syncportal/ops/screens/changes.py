"""What changed in something that people configure, when and by whom.

Owns: comparing neighbouring versions of the history, with one query, and their page. Secrets are no part of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from syncportal.kernel import pointer
from syncportal.sync.screens.page import render
from syncportal.sync.screens.values import Shown, shown

MOST = 50
_KINDS = {"+": "Made", "~": "Changed", "-": "Removed"}
_COLUMNS = ("name", "base_url", "config")


@dataclass(frozen=True, slots=True)
class Place:
    """One place that a change moved."""

    pointer: str
    before: Shown
    after: Shown


@dataclass(frozen=True, slots=True)
class Version:
    """One saved version and what it changed."""

    at: datetime
    who: str
    kind: str
    reason: str
    places: tuple[Place, ...]


def changes(row: Any, *, columns: Sequence[str] = _COLUMNS) -> list[Version]:
    """Return the newest versions of a row with history, each with what it changed in these columns."""
    versions = list(row.history.select_related("history_user").order_by("-history_date", "-history_id")[: MOST + 1])
    told = []
    for number, version in enumerate(versions[:MOST]):
        earlier = versions[number + 1] if number + 1 < len(versions) else None
        before = _content(earlier, columns) if earlier else {}
        user = version.history_user
        told.append(
            Version(
                at=version.history_date,
                who=user.get_username() if user else "a command",
                kind=_KINDS.get(version.history_type, version.history_type),
                reason=version.history_change_reason or "",
                places=tuple(_places(before, _content(version, columns), "")) if earlier else (),
            )
        )
    return told


def history_page(
    request: HttpRequest, row: Any, *, url_name: str, list_name: str, columns: Sequence[str] = _COLUMNS
) -> HttpResponse:
    """Show what changed in a row whose pages are `admin:<url_name>_changelist` and `…_change`."""
    context = {
        "row": row, "versions": changes(row, columns=columns), "list_name": list_name,
        "list_url": reverse(f"admin:{url_name}_changelist"),
        "row_url": reverse(f"admin:{url_name}_change", args=[row.pk]),
    }  # fmt: skip
    return render(request, "remote/history_page.html", title=f"History of {row}", context=context)


def _content(version: Any, columns: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(version, name) for name in columns if hasattr(version, name)}


def _places(before: Any, after: Any, at: str) -> Iterator[Place]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            yield from _places(before.get(name), after.get(name), at + pointer.build((str(name),)))
    elif before != after:
        yield Place(at, shown(before), shown(after))
