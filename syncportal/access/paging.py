"""Lists in pages: `{"next", "previous", "results"}`, by a cursor over the primary key.

Guarantees: one query a page; a row that exists for the whole reading is shown exactly once, however many are added or
removed meanwhile; a cursor or page size that makes no sense is answered 400. Does not: count.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from syncportal.access.problems import FieldProblem, invalid_query

DEFAULT_SIZE: Final = 50
MAX_SIZE: Final = 200
SIZE_PARAM: Final = "pageSize"
CURSOR_PARAM: Final = "cursor"
_POSITION: Final = re.compile(r"([no]):([0-9]{1,19})")
_LARGEST: Final = 2**63 - 1


def page_size(request: Request) -> int:
    """Return the wanted page size; raises Problem 400 when it is not 1 to MAX_SIZE."""
    text = request.query_params.get(SIZE_PARAM)
    if text is None:
        return DEFAULT_SIZE
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= MAX_SIZE:
        detail = f"A page has 1 to {MAX_SIZE} entries."
        raise invalid_query([FieldProblem("", "invalid", detail, parameter=SIZE_PARAM)])
    return int(text)


def sealed(position: str) -> str:
    """Return a position as the opaque text clients hand back."""
    return urlsafe_b64encode(position.encode()).decode().rstrip("=")


def opened(cursor: str, *, parameter: str = CURSOR_PARAM) -> str:
    """Return the position inside a cursor; raises Problem 400 for a cursor that is not ours."""
    try:
        return urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        raise bad_cursor(parameter) from None


def bad_cursor(parameter: str = CURSOR_PARAM) -> Exception:
    """Return the 400 for a cursor that this list did not hand out."""
    return invalid_query([FieldProblem("", "invalid", "This list did not hand out this cursor.", parameter=parameter)])


def page_url(request: Request, cursor: str | None) -> str | None:
    """Return this list's address at another cursor."""
    url = request.build_absolute_uri()
    return replace_query_param(url, CURSOR_PARAM, cursor) if cursor else None


class NewestFirst(BasePagination):
    """Pages over any queryset by descending primary key."""

    page_size_query_param = SIZE_PARAM

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return the rows of the page that the request names; expects a QuerySet."""
        self.request, size = request, page_size(request)
        self.older: str | None = None
        self.newer: str | None = None
        cursor = request.query_params.get(CURSOR_PARAM)
        towards, start = "o", None
        if cursor is not None:
            match = _POSITION.fullmatch(opened(cursor))
            if match is None or int(match[2]) > _LARGEST:
                raise bad_cursor()
            towards, start = match[1], int(match[2])
        if towards == "o":
            rows = list((queryset if start is None else queryset.filter(pk__lt=start)).order_by("-pk")[: size + 1])
            more, rows = len(rows) > size, rows[:size]
            has_older, has_newer = more, start is not None and bool(rows)
        else:
            rows = list(queryset.filter(pk__gt=start).order_by("pk")[: size + 1])
            more, rows = len(rows) > size, rows[:size][::-1]
            has_older, has_newer = bool(rows), more
        self.older = sealed(f"o:{rows[-1].pk}") if has_older else None
        self.newer = sealed(f"n:{rows[0].pk}") if has_newer else None
        return rows

    def get_paginated_response(self, data: Any) -> Response:
        """Return the page with its neighbours' addresses."""
        links = {"next": page_url(self.request, self.older), "previous": page_url(self.request, self.newer)}
        return Response({**links, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe a page in the OpenAPI document."""
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describe the paging parameters in the OpenAPI document."""
        size = {"type": "integer", "minimum": 1, "maximum": MAX_SIZE, "default": DEFAULT_SIZE}
        cursor = {"type": "string"}
        return [
            {"name": SIZE_PARAM, "in": "query", "required": False, "schema": size},
            {"name": CURSOR_PARAM, "in": "query", "required": False, "schema": cursor,
             "description": "Taken from `next` or `previous` of another page."},
        ]  # fmt: skip
