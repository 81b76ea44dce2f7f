"""The dashboard's numbers over HTTP: `GET /metrics/summary/?window=24h&remote=&resource=`.

Owns: the parameters. Guarantees: the same snapshot as the page, limited to what the caller may see; a window, remote or
resource that does not exist is a 400 that names it.
"""

from typing import ClassVar

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from syncportal.access.problems import FieldProblem, invalid_query
from syncportal.access.views import ApiViews
from syncportal.kernel.clock import db_now
from syncportal.ops.api.shapes import SummaryShape
from syncportal.ops.metrics.scope import Scope, UnknownScope, scope_of
from syncportal.ops.metrics.snapshot import snapshot
from syncportal.sync.models import Record
from syncportal.sync.windows import DEFAULT, WINDOWS, Window

_WINDOW, _REMOTE, _RESOURCE = "window", "remote", "resource"


class SummaryViews(ApiViews):
    """One look at everything."""

    queryset = Record.objects.none()
    serializer_class = SummaryShape
    pagination_class = None
    extra_parameters: ClassVar = (_WINDOW, _REMOTE, _RESOURCE)

    def get_queryset(self) -> QuerySet[Record]:
        """Return nothing: the snapshot asks many tables."""
        return Record.objects.none()

    @extend_schema(
        summary="The dashboard's numbers",
        parameters=[
            OpenApiParameter(_WINDOW, OpenApiTypes.STR, enum=list(WINDOWS), default=DEFAULT.key),
            OpenApiParameter(_REMOTE, OpenApiTypes.STR, description="Slug of a remote."),
            OpenApiParameter(_RESOURCE, OpenApiTypes.STR, description="Slug of a resource."),
        ],
        responses=SummaryShape,
    )
    def retrieve(self, request: Request) -> Response:
        """Return the numbers of a window and of this moment; people who see their own records only get theirs."""
        self.filter_queryset(self.get_queryset())  # refuses parameters that do not exist
        window, scope = _window(request), _scope(request)
        return Response(SummaryShape(snapshot(scope, now=db_now(), window=window)).data)


def _window(request: Request) -> Window:
    key = request.query_params.get(_WINDOW) or DEFAULT.key
    if key not in WINDOWS:
        detail = f"There is no window {key[:40]!r}; there are {', '.join(WINDOWS)}."
        raise invalid_query([FieldProblem("", "invalid_choice", detail, parameter=_WINDOW)])
    return WINDOWS[key]


def _scope(request: Request) -> Scope:
    given = {name: request.query_params.get(name, "") for name in (_REMOTE, _RESOURCE)}
    try:
        return scope_of(request.user, remote=given[_REMOTE], resource=given[_RESOURCE])
    except UnknownScope as unknown:
        problem = FieldProblem("", "invalid_choice", str(unknown), parameter=unknown.parameter)
        raise invalid_query([problem]) from unknown
